"""How many queries a second does the server answer over HTTP, and what does one cost, beside
a server that only parses and answers, and beside Chroma's server at equal recall?

100,000 rows of 768 dimensions, top 10, bodies of about 9 kB. wrk runs on the same cores as
the server and asks over 1, 2, 4, 8 and 16 connections with held-out queries in turn. Recall is
that of the HTTP answers, asked for separately.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks import data, report, serving
from benchmarks.contender import PEERS, VICINAL, Contender, Failed, Process, Task, recall_of
from benchmarks.data import Vectors
from benchmarks.report import Cell, Mark, Report, Table
from benchmarks.serving import INDEX, Client, Load, Server
from benchmarks.side import nearly, scratch, tuned
from benchmarks.texts import SEED

K = 10
HIGH, FAIR = 0.99, 0.97
_WARM_UP_S = 1
_CONNECTIONS = (1, 2, 4, 8, 16)
COLUMNS = (
    "server", "recall@10", "connections", "requests/s", "p50 ms", "p99 ms", "CPU µs/request",
    "errors",
)  # fmt: skip
_CHROMA = next(peer for peer in PEERS if peer.name == "chromadb")
_CHROMA_COLLECTIONS = "/api/v2/tenants/default_tenant/databases/default_database/collections"

Body = Callable[[list[float]], bytes]
Ids = Callable[[Any], list[int]]


class Runs:
    """Loads servers and gathers what came of it.

    Attributes:
        rows: Of the table under `COLUMNS`.
        loads: By name of server and number of connections.
        recalls: By name of server.
    """

    def __init__(self, task: Task, folder: Path, seconds: int, recall_queries: int) -> None:
        self.rows: list[tuple[Cell, ...]] = []
        self.loads: dict[tuple[str, int], Load] = {}
        self.recalls: dict[str, float] = {}
        self._task = task
        self._folder = folder
        self._seconds = seconds
        self._recall_queries = recall_queries

    def add(
        self, name: str, server: Server, path: str, body: Body, ids: Ids | None,
        headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """Measure a server under each number of connections, and its recall if it finds."""
        bodies = [body(number) for number in serving.numbers(self._task.vectors.queries)]
        lines = serving.write_lines(self._folder / "bodies", bodies)
        recall = None
        if ids is not None:
            recall = self._recall(server, path, bodies, ids, headers)
            self.recalls[name] = recall
        for connections in _CONNECTIONS:
            ask = partial(serving.wrk, server, path, lines, connections=connections,
                          headers=headers)  # fmt: skip
            ask(seconds=_WARM_UP_S)
            load = ask(seconds=self._seconds)
            self.loads[name, connections] = load
            self.rows.append(
                (name, recall, connections, load.per_second, load.p50_ms, load.p99_ms,
                 load.cpu_us, load.errors)
            )  # fmt: skip

    def best_rate(self, server: str, recall: float, p50_ms_max: float = math.inf) -> float | None:
        """Return the most requests a second of a kind of server that reaches a recall, and answers
        half of them in this time."""
        return max(
            (
                load.per_second
                for (name, _), load in self.loads.items()
                if name.startswith(server)
                and self.recalls.get(name, 0.0) >= recall
                and load.p50_ms <= p50_ms_max
            ),
            default=None,
        )

    def _recall(
        self, server: Server, path: str, bodies: list[bytes], ids: Ids,
        headers: Mapping[str, str] | None,
    ) -> float:  # fmt: skip
        rows = np.full((min(self._recall_queries, len(bodies)), K), -1, np.int64)
        with Client(server.port) as client:
            for number in range(len(rows)):
                status, answer = client.ask("POST", path, bodies[number], headers=headers)
                if not 200 <= status < 300:
                    raise Failed(f"{path} was answered {status}: {answer}")
                row_ids = ids(answer)
                rows[number, : len(row_ids)] = row_ids
        return recall_of(rows, self._task)


def run(*, is_quick: bool) -> Report:
    """Measure Vicinal at each effort, the floor, and Chroma."""
    serving.require_wrk()
    vectors = data.real(768, 2_000 if is_quick else 100_000, is_quick=is_quick)
    task = Task(vectors, data.nearest(vectors), K)
    seconds = 1 if is_quick else 10
    notes: list[str] = []
    with scratch() as folder:
        runs = Runs(task, folder, seconds, 100 if is_quick else 1_000)
        with serving.floor(folder) as server:
            runs.add("floor: parse and answer", server, "/query", _vicinal_body, None)
        _fill(VICINAL, vectors, folder / "vicinal")
        with serving.vicinal(folder / "vicinal") as server:
            add_vicinal(runs, server)
        try:
            _chroma(runs, task, folder)
        except Failed as error:
            notes.append(f"chromadb is missing: {error}")
    return Report(
        "http_query", report.question(__doc__), is_quick,
        report.setup(
            data=vectors.description, seed=str(SEED),
            method=f"wrk, one thread, {seconds} s a run after {_WARM_UP_S} s to warm up; "
            "CPU of the server process alone",
        ),
        (Table(f"{len(vectors.values):,} x 768, top {K}", COLUMNS, tuple(runs.rows)),),
        tuple(_marks(runs)), tuple(notes),
    )  # fmt: skip


def add_vicinal(runs: Runs, server: Server) -> None:
    """Measure Vicinal's server at each effort."""
    for setting in VICINAL.settings:
        effort = setting["effort"]
        runs.add(
            f"vicinal, {effort} effort", server, f"{INDEX}/query", _vicinal_body,
            lambda answer: [int(match["id"]) for match in answer["result"]["matches"]],
            {"Vicinal-Effort": effort},
        )  # fmt: skip


def _chroma(runs: Runs, task: Task, folder: Path) -> None:
    database = folder / "chroma"
    with ExitStack() as running:
        process = running.enter_context(_filled(_CHROMA, task.vectors, database))
        setting = tuned(process, task, HIGH) or _CHROMA.settings[-1]
        process.close()
    with serving.chroma(_CHROMA, database) as server, Client(server.port) as client:
        collection = client.ask("GET", _CHROMA_COLLECTIONS)[1][0]["id"]
        runs.add(
            f"chromadb, {report.options_text(setting)}", server,
            f"{_CHROMA_COLLECTIONS}/{collection}/query", _chroma_body,
            lambda answer: [int(id_) for id_ in answer["ids"][0]],
        )  # fmt: skip


def _fill(contender: Contender, vectors: Vectors, database: Path) -> None:
    """Fill a folder with a database, as a library does it, and close it."""
    with _filled(contender, vectors, database) as process:
        process.close()


def _filled(contender: Contender, vectors: Vectors, database: Path) -> Process:
    process = Process(contender, database.with_suffix(".log"))
    process.open(database, vectors)
    process.insert(vectors, 0, len(vectors.values))
    process.build()
    return process


def _vicinal_body(vector: list[float]) -> bytes:
    return msgspec.json.encode({"vector": vector, "topK": K})


def _chroma_body(vector: list[float]) -> bytes:
    request = {"query_embeddings": [vector], "n_results": K, "include": ["distances"]}
    return msgspec.json.encode(request)


def _marks(runs: Runs) -> list[Mark]:
    ours = [name for name in runs.recalls if name.startswith("vicinal")]
    high = runs.best_rate("vicinal", HIGH)
    rival = runs.best_rate("chromadb", nearly(HIGH))
    single = [runs.loads[name, 1].p50_ms for name in ours if runs.recalls[name] >= HIGH]
    return [
        report.at_least(f"queries/s at recall {FAIR}", runs.best_rate("vicinal", FAIR), 1_000),
        report.at_least(f"queries/s at recall {HIGH}", high, 850),
        report.at_most(
            f"p50 ms at one connection, recall {HIGH}", min(single, default=None), 2.0
        ),
        report.at_least(
            f"queries/s, to chromadb's at recall {HIGH}", high / rival if high and rival else None,
            3.0,
        ),
    ]  # fmt: skip

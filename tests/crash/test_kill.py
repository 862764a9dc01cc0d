"""A process killed at any moment under concurrent writers comes back with all it acknowledged.

SIGKILL, at moments chosen by a seed that every failure names. After each restart every
acknowledged batch is there exactly, of a batch in flight all or nothing, and the readable
state never goes back. The engine alone is killed as it recovers, seals and merges too; the
whole server under writers over HTTP.
"""

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest

from tests.support import server as servers
from tests.support.killing import (
    DIMENSIONS,
    WRITERS,
    Contents,
    Ledger,
    Step,
    ids_of,
    step_of,
)
from tests.support.server import Running

ROOT = Path(__file__).parents[2]
JITTER_S = 0.004
STEPS_HEARD = (0, 1, 5, 30, 150)  # before a worker is killed
BATCHES_HEARD = (1, 10, 100)  # before a server is


def chosen_seed() -> int:
    """Return a new seed, or that of the failure to be seen again."""
    return int(os.environ.get("VICINAL_KILL_SEED", random.SystemRandom().randrange(10**9)))


# The engine


@contextmanager
def worker(folder: Path, ledger: Ledger) -> Iterator[subprocess.Popen[str]]:
    firsts = [number + 1 for number in ledger.begun]
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.support.kill_worker"),
            *(str(folder), str(ledger.seed), json.dumps(firsts)),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def lines_of(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    """Yield what a worker has said, up to its death; a line cut short was not said."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.endswith("\n"):
            yield json.loads(line)


def live_and_die(
    folder: Path, ledger: Ledger, random_: random.Random, applied: int, kill_after: int
) -> tuple[int, int]:
    """Run a worker, kill it once as many steps were acknowledged, and note what it said.

    Returns:
        The highest seqno that was acknowledged or seen applied, and how many steps were
        acknowledged.
    """
    heard = 0
    with worker(folder, ledger) as process:
        for line in lines_of(process):
            if "found" in line:
                assert line["applied"] >= applied, f"seed {ledger.seed}: applied_seqno went back"
                assert line["count"] == len(line["found"])
                assert line["wrong_words"] == [], f"seed {ledger.seed}: a text index differs"
            heard += note(ledger, line)
            applied = max(applied, line.get("applied", 0), line.get("seqno", 0))
            if heard >= kill_after and process.poll() is None:
                time.sleep(random_.random() * JITTER_S)  # any moment will do
                process.kill()
    return applied, heard


def note(ledger: Ledger, line: dict[str, Any]) -> int:
    """Enter what a worker said; return how many steps were acknowledged by it."""
    if "found" in line:
        ledger.settle({key: (tuple(values), step) for key, (values, step) in line["found"].items()})
    if "begun" in line:
        writer, number = line["begun"]
        ledger.begun[writer] = number
    if "acknowledged" in line:
        writer, number = line["acknowledged"]
        ledger.acknowledged[writer] = number
    return int("acknowledged" in line)


def shuffled(random_: random.Random, values: Sequence[int], count: int) -> list[int]:
    """Return the values again and again in random order, so that no seed leaves out the large."""
    repeated = list(islice(cycle(values), count))
    random_.shuffle(repeated)
    return repeated


def kill_engines(folder: Path, kills: int) -> None:
    seed = chosen_seed()
    print(f"VICINAL_KILL_SEED={seed}")  # noqa: T201 shown when the test fails
    random_ = random.Random(seed)
    ledger = Ledger(seed)
    applied = heard = 0
    for kill_after in shuffled(random_, STEPS_HEARD, kills):
        applied, more = live_and_die(folder, ledger, random_, applied, kill_after)
        assert more >= kill_after, "the worker ended by itself"
        heard += more

    with worker(folder, ledger) as process:
        line = next(lines_of(process))
    assert line["applied"] >= applied
    assert line["wrong_words"] == []
    note(ledger, line)
    assert heard > kills, "the writers hardly wrote"


def test_an_engine_killed_a_few_times_keeps_all_it_acknowledged(tmp_path: Path) -> None:
    kill_engines(tmp_path, 8)


@pytest.mark.slow
def test_an_engine_killed_200_times_keeps_all_it_acknowledged(tmp_path: Path) -> None:
    kill_engines(tmp_path, 200)


@pytest.mark.slow
def test_an_engine_killed_as_it_opens_opens_the_next_time(tmp_path: Path) -> None:
    seed = chosen_seed()
    print(f"VICINAL_KILL_SEED={seed}")  # noqa: T201 shown when the test fails
    random_ = random.Random(seed)
    ledger = Ledger(seed)
    applied, _ = live_and_die(tmp_path, ledger, random_, 0, random_.choice(STEPS_HEARD))
    for _ in range(30):
        with worker(tmp_path, ledger) as process:
            time.sleep(0.2 + 0.4 * random_.random())  # any moment of starting will do
            process.kill()
            for line in lines_of(process):
                assert line.get("applied", applied) >= applied
                applied = max(applied, line.get("applied", 0))
                note(ledger, line)


# The server


class TooManyRequests(Exception):
    """A request was refused for now: nothing of it is written."""


class Client:
    """One connection to the REST API of a server that may die at any moment."""

    def __init__(self, running: Running) -> None:
        self._connection = HTTPConnection("127.0.0.1", running.port, timeout=60)
        self._prefix = f"/client/v4/accounts/{running.account}/vectorize/v2/indexes"
        self._headers = {"Authorization": f"Bearer {running.token}"}

    def post(self, path: str, body: bytes, content_type: str = "application/json") -> Any:
        headers = self._headers | {"Content-Type": content_type}
        return self._answer("POST", path, body, headers)

    def get(self, path: str) -> Any:
        return self._answer("GET", path, None, self._headers)

    def close(self) -> None:
        self._connection.close()

    def _answer(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Any:
        self._connection.request(method, self._prefix + path, body, headers)
        answer = self._connection.getresponse()
        content = json.loads(answer.read())
        if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
            raise TooManyRequests(content)
        assert answer.status == HTTPStatus.OK, content
        return content["result"]


def send_until_taken(client: Client, step: Step) -> str:
    """Send a step, again while writers are ahead of the disk; return the id of its mutation."""
    while True:
        try:
            return send(client, step)
        except TooManyRequests:
            continue


def send(client: Client, step: Step) -> str:
    """Send a step; return the id of its mutation.

    Raises:
        TooManyRequests: see `Client`.
    """
    if step.kind == "delete":
        answer = client.post("/docs/delete_by_ids", json.dumps({"ids": step.ids}).encode())
    else:
        lines = [
            json.dumps({"id": each, "values": values, "metadata": {"step": step.label}})
            for each, values in zip(step.ids, step.values, strict=True)
        ]
        answer = client.post(
            f"/docs/{step.kind}", "\n".join(lines).encode(), "application/x-ndjson"
        )
    return str(answer["mutationId"])


def found_over_http(client: Client) -> Contents:
    everyone = [each for writer in range(WRITERS) for each in ids_of(writer)]
    found: Contents = {}
    for start in range(0, len(everyone), 20):
        body = json.dumps({"ids": everyone[start : start + 20]}).encode()
        for each in client.post("/docs/get_by_ids", body):
            found[each["id"]] = (tuple(each["values"]), each["metadata"]["step"])
    assert client.get("/docs/info")["vectorCount"] == len(found)
    return found


def in_threads(works: Sequence[Callable[[], None]]) -> list[threading.Thread]:
    threads = [threading.Thread(target=work) for work in works]
    for each in threads:
        each.start()
    return threads


def write_until_dead(running: Running, ledger: Ledger, writer: int, heard: list[str]) -> None:
    client = Client(running)
    number = ledger.begun[writer]
    try:
        while True:
            number += 1
            ledger.begun[writer] = number
            heard.append(send_until_taken(client, step_of(ledger.seed, writer, number)))
            ledger.acknowledged[writer] = number
    except (OSError, HTTPException, json.JSONDecodeError):
        pass  # the server is dead
    finally:
        client.close()


def kill_servers(folder: Path, kills: int) -> None:
    seed = chosen_seed()
    print(f"VICINAL_KILL_SEED={seed}")  # noqa: T201 shown when the test fails
    random_ = random.Random(seed)
    ledger = Ledger(seed)
    heard: list[str] = []
    batches = shuffled(random_, BATCHES_HEARD, kills)
    for life in range(kills + 1):
        running = servers.start(folder, environment={"VICINAL_MEMTABLE_ROWS_MAX": "100"})
        process = running.process
        assert process is not None
        client = Client(running)
        try:
            if life == 0:
                config = {"dimensions": DIMENSIONS, "metric": "euclidean"}
                client.post("", json.dumps({"name": "docs", "config": config}).encode())
            ledger.settle(found_over_http(client))
            if life < kills:
                target = len(heard) + batches[life]
                threads = in_threads([
                    lambda writer=writer: write_until_dead(running, ledger, writer, heard)  # type: ignore[misc]  # noqa: B023 they end before the next life
                    for writer in range(WRITERS)
                ])  # fmt: skip
                while len(heard) < target and process.poll() is None:
                    time.sleep(random_.random() * JITTER_S)  # any moment will do
                assert len(heard) >= target, "the server ended by itself"
                process.kill()
                for each in threads:
                    each.join()
        finally:
            client.close()
            process.kill()
            process.wait()
    assert len(heard) > kills
    assert len(set(heard)) == len(heard)


def test_a_server_killed_a_few_times_keeps_all_it_acknowledged(tmp_path: Path) -> None:
    kill_servers(tmp_path, 3)


@pytest.mark.slow
def test_a_server_killed_200_times_keeps_all_it_acknowledged(tmp_path: Path) -> None:
    kill_servers(tmp_path, 200)

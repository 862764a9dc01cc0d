"""A server killed in the middle of backfills comes back with vectors and words that agree.

SIGKILL while older vectors are put into a text index, into a metadata index, and while texts are
embedded and written, at moments chosen by a seed that every failure names; writers go on all the
time. After the restart what was acknowledged is there, an index is there whole or not at all, and
its backfill can be asked for again.
"""

import json
import math
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.crash.test_kill import chosen_seed
from tests.support import server as servers
from tests.support.embedding_service import Answer, Asked, Service, embedding_service
from tests.support.killing import DIMENSIONS, WRITERS, Contents, Ledger, ids_of, step_of
from tests.support.server import Running
from tests.support.waiting import wait_until
from vicinal import trust

BASE, GROUPS = 12_000, 400
"""Vectors that are older than any index, and the words and numbers that they share."""

MODEL = "@mine/embeds"
HOLD_S_MAX = 0.15  # of a backfill, before the server is killed; one of texts takes longer
PROBED = 12
KINDS: Mapping[str, dict[str, Any]] = {
    "text": {"propertyName": "step", "indexType": "text", "backfill": True},
    "number": {"propertyName": "group", "indexType": "number", "backfill": True},
}


class Api:
    """The REST API of a server that may die at any moment."""

    def __init__(self, running: Running) -> None:
        self._client = httpx.Client(
            base_url=f"http://127.0.0.1:{running.port}/client/v4/accounts/{running.account}",
            headers={"Authorization": f"Bearer {running.token}"},
            timeout=120,
            verify=trust.verification(None),
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def post(self, path: str, body: Any) -> httpx.Response:
        """Post JSON, or lines of it."""
        if isinstance(body, list):
            content = "\n".join(json.dumps(line) for line in body)
            headers = {"Content-Type": "application/x-ndjson"}
            return self._client.post(path, content=content, headers=headers)
        return self._client.post(path, json=body)

    def result(self, path: str, body: Any) -> Any:
        """Post what must be answered; while the server is busy, again."""
        while True:
            answer = self.post(path, body)
            if answer.status_code != httpx.codes.TOO_MANY_REQUESTS:
                assert answer.status_code == httpx.codes.OK, answer.text
                return answer.json()["result"]

    def indexed(self) -> set[str]:
        """Return the properties with a metadata index."""
        answer = self._client.get(f"{DOCS}/metadata_index/list").json()["result"]
        return {each["propertyName"] for each in answer["metadataIndexes"]}


DOCS = "/vectorize/v2/indexes/docs"


@dataclass
class Told:
    """What clients of one server have heard."""

    ledger: Ledger
    has_index: bool = False
    embedded: int = 0
    embedding: int = 0
    created: set[str] = field(default_factory=set)
    interrupted: list[str] = field(default_factory=list)


def base_vector(number: int) -> dict[str, Any]:
    group = number % GROUPS
    text = f"base r{group} {'many other words that take a while ' * 3} u{number}"
    return {
        "id": f"b{number}",
        "values": [1, 2, number],
        "metadata": {"step": text, "group": group},
    }


def vector_of(text: str) -> list[float]:
    return [3.0, 4.0, 0.0] if len(text) % 2 else [0.0, 0.6, 0.8]


def embeds(asked: Asked) -> Answer:
    rows = [
        {"index": n, "embedding": vector_of(text)} for n, text in enumerate(asked.body["input"])
    ]
    return Answer({"data": rows})


def write(api: Api, told: Told, writer: int) -> None:
    """Take steps until the server is dead."""
    ledger = told.ledger
    number = ledger.begun[writer]
    while True:
        number += 1
        step = step_of(ledger.seed, writer, number)
        ledger.begun[writer] = number
        if step.kind == "delete":
            api.result(f"{DOCS}/delete_by_ids", {"ids": step.ids})
        else:
            pairs = zip(step.ids, step.values, strict=True)
            lines = [
                {"id": each, "values": values, "metadata": {"step": step.label, "group": -1}}
                for each, values in pairs
            ]
            api.result(f"{DOCS}/{step.kind}", lines)
        ledger.acknowledged[writer] = number


def embed(api: Api, told: Told) -> None:
    """Have texts embedded and write them until the server is dead."""
    while True:
        number = told.embedding = told.embedded + 1
        text = f"embedded e{number}"
        (values,) = api.result(f"/ai/run/{MODEL}", {"text": [text]})["data"]
        line = {"id": f"e{number}", "values": values, "metadata": {"step": text, "group": -2}}
        api.result(f"{DOCS}/upsert", [line])
        told.embedded = number


def backfill(api: Api, told: Told, kind: str) -> None:
    """Ask for a backfill."""
    try:
        api.result(f"{DOCS}/metadata_index/create", KINDS[kind])
    except (httpx.HTTPError, HTTPException):
        told.interrupted.append(kind)
        raise
    told.created.add(kind)


@contextmanager
def in_threads(works: list[Callable[[], None]]) -> Iterator[None]:
    """Do works beside the block, until the server is dead; wait for them."""
    failures: list[BaseException] = []

    def run(work: Callable[[], None]) -> None:
        try:
            work()
        except httpx.HTTPError:
            pass  # the server is dead
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join()
    assert not failures, failures


def written(api: Api, told: Told) -> Contents:
    """Return what there is of the writers; check that all that was embedded is there."""
    ids = [each for writer in range(WRITERS) for each in ids_of(writer)]
    ids += [f"e{number + 1}" for number in range(told.embedding)]
    found: Contents = {}
    for start in range(0, len(ids), 20):
        for each in api.result(f"{DOCS}/get_by_ids", {"ids": ids[start : start + 20]}):
            found[each["id"]] = (tuple(each["values"]), each["metadata"]["step"])
    embedded = {key: value for key, value in found.items() if key.startswith("e")}
    assert len(embedded) in (told.embedded, told.embedding)
    for key, (values, text) in embedded.items():
        assert text == f"embedded {key}"
        assert values == pytest.approx([each / _norm(text) for each in vector_of(text)])
        del found[key]
    told.embedded = told.embedding = len(embedded)
    return found


def _norm(text: str) -> float:
    return math.hypot(*vector_of(text))


def check_words(api: Api, found: Contents, embedded: int, random_: random.Random) -> None:
    """Check that words find what is there, and nothing else."""
    for group in random_.sample(range(GROUPS), PROBED):
        expected = {f"b{number}" for number in range(group, BASE, GROUPS)}
        assert ids_found(api, {"text": f"r{group}"}) == expected
    numbers = {step.rpartition("-")[2] for _, step in found.values()}
    for number in random_.sample(sorted(numbers), min(PROBED, len(numbers))):
        expected = {each for each, (_, step) in found.items() if number in step.split("-")}
        assert ids_found(api, {"text": number}) == expected, number
    for of_text in {1, embedded}:
        expected = {f"e{of_text}"} if 0 < of_text <= embedded else set()
        assert ids_found(api, {"text": f"e{of_text}"}) == expected


def check_groups(api: Api, found: Contents, random_: random.Random) -> None:
    """Check that a filter finds what is there, and nothing else."""
    for group in random_.sample(range(GROUPS), PROBED):
        expected = {f"b{number}" for number in range(group, BASE, GROUPS)}
        wanted = {"vector": [1.0, 2.0, 3.0], "filter": {"group": group}}
        assert ids_found(api, wanted) == expected
    wanted = {"vector": [1.0, 2.0, 3.0], "filter": {"group": -1}}
    assert len(ids_found(api, wanted)) == min(100, len(found))


def ids_found(api: Api, wanted: dict[str, Any]) -> set[str]:
    matches = api.result(f"{DOCS}/query", {"topK": 100, **wanted})["matches"]
    found = {match["id"] for match in matches}
    assert len(found) == len(matches), "an id is there twice"
    return found


def live(api: Api, told: Told, random_: random.Random) -> None:
    """Check what the last life has left, and make it whole."""
    found = written(api, told)
    told.ledger.settle(found)
    indexed = api.indexed()
    for kind, wanted in KINDS.items():
        name = wanted["propertyName"]
        assert kind not in told.created or name in indexed, f"the index {name} is lost"
        checks: Callable[[], None] = (
            (lambda: check_words(api, found, told.embedded, random_))
            if kind == "text"
            else (lambda: check_groups(api, found, random_))
        )
        if name in indexed:
            checks()
        answer = api.post(f"{DOCS}/metadata_index/create", wanted)
        assert answer.status_code in (httpx.codes.OK, httpx.codes.CONFLICT), answer.text
        wait_until(partial(is_indexed, api, name))
        checks()
        api.result(f"{DOCS}/metadata_index/delete", {"propertyName": name})
    told.created.clear()


def is_indexed(api: Api, name: str) -> bool:
    return name in api.indexed()


def life(folder: Path, service: Service, told: Told, kind: str | None, hold_s: float) -> None:
    """Run a server; check what is there; kill it in the middle of a backfill, if any."""
    arguments = ("--embedding-url", service.url, "--embedding-models", f"{MODEL}=theirs")
    environment = {"VICINAL_MEMTABLE_ROWS_MAX": "5000"}
    running = servers.start(folder, arguments=arguments, environment=environment)
    process = running.process
    assert process is not None
    api = Api(running)
    apis = [Api(running) for _ in range(WRITERS + 2)]
    try:
        if not told.has_index:
            told.has_index = True
            config = {"dimensions": DIMENSIONS, "metric": "euclidean"}
            api.result("/vectorize/v2/indexes", {"name": "docs", "config": config})
            for start in range(0, BASE, 1_000):
                lines = [base_vector(number) for number in range(start, start + 1_000)]
                api.result(f"{DOCS}/upsert", lines)
        else:
            live(api, told, random.Random(f"{told.ledger.seed} {hold_s}"))
        if kind is None:
            return
        works: list[Callable[[], None]] = [
            *(partial(write, apis[writer], told, writer) for writer in range(WRITERS)),
            partial(embed, apis[-1], told),
        ]
        embedded = told.embedded
        with in_threads(works):
            wait_until(lambda: told.embedded > embedded)
            with in_threads([partial(backfill, apis[-2], told, kind)]):
                time.sleep(hold_s)  # any moment will do
                process.kill()
    finally:
        process.kill()
        process.wait()
        for each in [api, *apis]:
            each.close()


def kill_backfills(folder: Path, kinds: list[str]) -> None:
    seed = chosen_seed()
    print(f"VICINAL_KILL_SEED={seed}")  # noqa: T201 shown when the test fails
    random_ = random.Random(seed)
    told = Told(Ledger(seed))
    with embedding_service(embeds) as service:
        for kind in [*kinds, None]:
            life(folder, service, told, kind, random_.random() * HOLD_S_MAX)
    assert told.interrupted, "every backfill had ended before its server was killed"
    assert told.embedded, "no text was embedded and written"


def test_a_server_killed_in_backfills_agrees_with_itself_and_takes_them_again(
    memory_path: Path,
) -> None:
    kill_backfills(memory_path, ["text", "number", "text"])


@pytest.mark.slow
def test_a_server_killed_in_many_backfills_agrees_with_itself(memory_path: Path) -> None:
    kill_backfills(memory_path, ["text", "number"] * 15)

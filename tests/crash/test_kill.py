"""The real server, killed at random moments under writers, comes back with all it acknowledged.

Each writer owns three vectors and changes them together, so that after a crash its last
acknowledged batch is there, or the one that was under way, whole, and nothing in between.
One more writer adds batches of thousands, so that tails are sealed and merged meanwhile.
"""

import json
import random
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.server import Running, start, stop

WRITERS = 6
BULK_ROWS = 3_000  # a tail of 20,000 rows is sealed every seventh batch
DIMENSIONS = 8
INDEX = "/vectorize/v2/indexes/docs"

State = int | None
"""What the vectors of a writer hold: a number, or None when they are deleted."""


@dataclass
class Writer:
    """What one writer has been told, and what it has asked for and not been told of."""

    name: str
    acknowledged: State = None
    asked: State = None
    is_waiting: bool = False
    bulk: list[int] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        return [f"{self.name}-{part}" for part in "abc"]

    def possible(self) -> set[State]:
        """Return the states that may be found after a crash."""
        return {self.acknowledged, self.asked} if self.is_waiting else {self.acknowledged}


def client(running: Running) -> httpx.Client:
    return httpx.Client(
        base_url=f"{running.base_url}/accounts/{running.account}",
        headers={"authorization": f"Bearer {running.token}"},
        timeout=30,
    )


def post(http: httpx.Client, path: str, body: object) -> Any:
    content = body if isinstance(body, str) else json.dumps(body)
    answer = http.post(f"{INDEX}{path}", content=content)
    assert answer.status_code == 200, answer.text
    return answer.json()["result"]


def record(vector_id: str, number: int) -> str:
    values = [float(number), *([1.0] * (DIMENSIONS - 1))]
    return json.dumps({"id": vector_id, "values": values, "metadata": {"n": number}})


def write(running: Running, writer: Writer, seed: int, is_over: threading.Event) -> None:
    """Change the writer's vectors, all together, until the server is gone."""
    decide = random.Random(seed)
    with client(running) as http:
        while not is_over.is_set():
            before = writer.acknowledged if writer.acknowledged is not None else seed
            is_delete = writer.acknowledged is not None and decide.random() < 0.2
            writer.asked = None if is_delete else before + 1
            writer.is_waiting = True
            try:
                if writer.asked is None:
                    post(http, "/delete_by_ids", {"ids": writer.ids})
                else:
                    lines = [record(each, writer.asked) for each in writer.ids]
                    post(http, "/upsert", "\n".join(lines))
            except httpx.TransportError:
                return
            writer.acknowledged, writer.is_waiting = writer.asked, False


def write_bulk(running: Running, writer: Writer, is_over: threading.Event) -> None:
    """Add thousands of vectors at a time until the server is gone."""
    with client(running) as http:
        while not is_over.is_set():
            number = writer.bulk[-1] + 1 if writer.bulk else 0
            lines = [record(f"bulk-{number}-{row}", number) for row in range(BULK_ROWS)]
            try:
                post(http, "/upsert", "\n".join(lines))
            except httpx.TransportError:
                return
            writer.bulk.append(number)


def check(running: Running, writers: list[Writer], bulk: Writer, at: str) -> None:
    """Everything acknowledged is there, whole; what was under way is there whole or not at all."""
    with client(running) as http:
        for writer in writers:
            found = post(http, "/get_by_ids", {"ids": writer.ids})
            states: set[State] = {vector["metadata"]["n"] for vector in found}
            if len(found) < len(writer.ids):
                states.add(None)
            assert len(states) == 1, f"{at}: {writer.name} is half applied: {found}"
            (state,) = states
            assert state in writer.possible(), f"{at}: {writer}, found {state}"
            assert all(vector["values"][0] == state for vector in found)
            writer.acknowledged, writer.is_waiting = state, False
        for number in bulk.bulk:
            ids = [f"bulk-{number}-{row}" for row in range(0, BULK_ROWS, BULK_ROWS // 10)]
            found = post(http, "/get_by_ids", {"ids": ids})
            assert [vector["id"] for vector in found] == ids, f"{at}: batch {number}"
            assert {vector["metadata"]["n"] for vector in found} == {number}


def kill_again_and_again(folder: Path, kills: int, seed: int) -> None:
    decide = random.Random(seed)
    writers = [Writer(f"writer{place}") for place in range(WRITERS)]
    bulk = Writer("bulk")
    running = start(folder)
    with client(running) as http:
        config = {"name": "docs", "config": {"dimensions": DIMENSIONS, "metric": "euclidean"}}
        assert http.post("/vectorize/v2/indexes", json=config).status_code == 200
    for kill in range(kills):
        is_over = threading.Event()
        threads = [
            threading.Thread(target=write, args=(running, each, 1_000 * kill + place, is_over))
            for place, each in enumerate(writers)
        ]
        threads.append(threading.Thread(target=write_bulk, args=(running, bulk, is_over)))
        for thread in threads:
            thread.start()
        # Not a wait for something: the moment of the kill is what varies.
        is_over.wait(decide.uniform(0.01, 0.6))
        assert running.process is not None
        running.process.kill()
        running.process.wait()
        is_over.set()
        for thread in threads:
            thread.join()
        running = start(folder)
        check(running, writers, bulk, f"kill {kill}, seed {seed}")
        del bulk.bulk[:-5]  # older batches have been found often enough
    stop(running)


def test_a_killed_server_has_everything_it_acknowledged(tmp_path: Path) -> None:
    kill_again_and_again(tmp_path, kills=6, seed=random.SystemRandom().randrange(2**32))


@pytest.mark.slow
def test_a_server_killed_two_hundred_times_has_everything_it_acknowledged(tmp_path: Path) -> None:
    kill_again_and_again(tmp_path, kills=200, seed=random.SystemRandom().randrange(2**32))

"""Servers of one database, in processes of their own, that are killed under writes.

Each server writes, folds, fills and answers while one of them is killed (SIGKILL) and started
again, with its folder or without it.
"""

import http.client
import json
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from tests.support.postgres import fresh_schema, server
from tests.support.server import Running, start, stop
from tests.support.waiting import wait_until

QUERY = b'{"vector":[0,0],"topK":1}'
DOCS = "/client/v4/accounts/acme/vectorize/v2/indexes"
WITHIN_S = 120.0


class Cluster:
    """Three servers over one database."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.schema = fresh_schema()
        self.servers: list[Running] = []

    def start_all(self) -> None:
        for number in range(3):
            (self.folder / str(number)).mkdir()
            self.servers.append(self.start(number))

    def start(self, number: int) -> Running:
        environment = {
            "VICINAL_DATABASE": server().dsn,
            "VICINAL_DATABASE_SCHEMA": self.schema,
            "VICINAL_WRITE_DEADLINE_S": "30",
        }
        return start(self.folder / str(number), environment=environment)

    def kill(self, number: int) -> None:
        process = self.servers[number].process
        assert process is not None
        process.kill()
        process.wait(WITHIN_S)

    def log(self, number: int) -> str:
        return (self.folder / str(number) / "server.log").read_text(errors="replace")[-4_000:]

    def close(self) -> None:
        for running in self.servers:
            assert running.process is not None
            if running.process.poll() is None:
                stop(running)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path)
    try:
        cluster.start_all()
        yield cluster
    finally:
        cluster.close()


def ask(
    running: Running, method: str, path: str, body: bytes = b"", **headers: str
) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=60)
    try:
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        headers["authorization"] = f"Bearer {running.token}"
        connection.request(method, path, body or None, headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def result(running: Running, method: str, path: str, body: bytes = b"", **headers: str) -> Any:
    status, answer = ask(running, method, path, body, **headers)
    assert status == 200, answer
    return answer["result"]


def wait_for_copy(running: Running) -> None:
    """Ask until a server's copy is open; while that takes longer than a second, callers are told
    to come again."""
    wait_until(
        lambda: ask(running, "POST", f"{DOCS}/docs/query", QUERY)[0] == HTTPStatus.OK, WITHIN_S
    )


@pytest.mark.parametrize("loses_folder", [False, True], ids=["comes back", "comes back empty"])
def test_what_servers_acknowledged_is_there_whoever_is_killed(
    cluster: Cluster, loses_folder: bool
) -> None:
    config = b'{"name":"docs","config":{"dimensions":2,"metric":"euclidean"}}'
    result(cluster.servers[0], "POST", DOCS, config)
    for running in cluster.servers[:2]:
        wait_for_copy(running)
    acknowledged: dict[str, str] = {}
    stop_writing, errors = threading.Event(), []

    def write(number: int, writer: int) -> None:
        """Write to one server, and to another when it is gone; all of one id come from here."""
        count = 0
        while not stop_writing.is_set():
            id_ = f"w{writer}-{count}"
            body = f'{{"id":"{id_}","values":[{writer},{count}]}}\n'.encode()
            for turn in range(3):
                running = cluster.servers[(number + turn) % 3]
                try:
                    status, answer = ask(
                        running, "POST", f"{DOCS}/docs/upsert", body,
                        content_type="application/x-ndjson",
                    )  # fmt: skip
                except (OSError, http.client.HTTPException):
                    continue  # not known: the next one may write the same again
                if status == 200:
                    acknowledged[id_] = answer["result"]["mutationId"]
                    break
                if status != HTTPStatus.TOO_MANY_REQUESTS:  # which writes nothing
                    errors.append(answer)
            count += 1

    def read() -> int:
        count = 0
        while not stop_writing.is_set():
            for number in range(2):
                status, answer = ask(cluster.servers[number], "POST", f"{DOCS}/docs/query", QUERY)
                assert status == HTTPStatus.OK, f"{answer}\n{cluster.log(number)}"
                count += answer["result"]["count"]
        return count

    with ThreadPoolExecutor(5) as threads:
        writing = [threads.submit(write, number, number) for number in range(3)]
        reading = threads.submit(read)
        try:
            for _ in range(2):
                count = len(acknowledged)
                wait_until(lambda count=count: len(acknowledged) > count + 60, WITHIN_S)  # type: ignore[misc]
                cluster.kill(2)
                count = len(acknowledged)
                wait_until(lambda count=count: len(acknowledged) > count + 60, WITHIN_S)  # type: ignore[misc]
                if loses_folder:
                    shutil.rmtree(cluster.folder / "2" / "data")
                cluster.servers[2] = cluster.start(2)
        finally:
            stop_writing.set()
        for each in writing:
            each.result(WITHIN_S)
        assert reading.result(WITHIN_S) > 0

    assert errors == []
    last = result(
        cluster.servers[0], "POST", f"{DOCS}/docs/upsert", b'{"id":"last","values":[0,0]}\n',
        content_type="application/x-ndjson", prefer="wait=60",
    )  # fmt: skip
    sql = f"SET search_path = {cluster.schema}; SELECT mutation_id FROM mutation ORDER BY seqno"
    log = server().sql(sql).splitlines()[1:]
    assert len(set(log)) == len(log)
    assert log[-1] == last["mutationId"]
    assert set(acknowledged.values()) <= set(log)
    ids = sorted(acknowledged)
    for running in cluster.servers:
        wait_for_copy(running)
        info = result(running, "GET", f"{DOCS}/docs/info")
        assert info["processedUpToMutation"] == last["mutationId"]
        for first in range(0, len(ids), 20):
            asked = json.dumps({"ids": ids[first : first + 20]}).encode()
            found = result(running, "POST", f"{DOCS}/docs/get_by_ids", asked)
            assert sorted(each["id"] for each in found) == ids[first : first + 20]

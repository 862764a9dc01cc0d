"""A long body costs a server no memory of its length: not the one that takes it, nor another."""

import http.client
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.support.postgres import fresh_schema, server
from tests.support.server import Running, in_process
from tests.support.waiting import wait_until
from vicinal.wire.columns import CONTENT_TYPE

DOCS = "/client/v4/accounts/acme/vectorize/v2/indexes"
DIMENSIONS = 2_048
WITHIN_S = 300.0
MIB = 1 << 20
ALLOWED = 40 * MIB  # ids, and some parts of the values


def anonymous_bytes(pid: int) -> int:
    """Memory that a process has to keep: pages of files are the system's to take back."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no RssAnon")


class Watch:
    """The most memory that processes have had, each, since it began."""

    def __init__(self, pids: list[int]) -> None:
        self.before = {pid: anonymous_bytes(pid) for pid in pids}
        self.most = dict(self.before)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._is_over.wait(0.005):
            for pid in self.most:
                self.most[pid] = max(self.most[pid], anonymous_bytes(pid))

    @property
    def growth(self) -> list[int]:
        return [self.most[pid] - before for pid, before in self.before.items()]

    @classmethod
    @contextmanager
    def over(cls, pids: list[int]) -> Iterator["Watch"]:
        watch = cls(pids)
        watch._thread.start()
        try:
            yield watch
        finally:
            watch._is_over.set()
            watch._thread.join()


def answered(
    running: Running, method: str, path: str, body: bytes = b""
) -> tuple[int, dict[str, object]]:
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=WITHIN_S)
    try:
        headers = {"authorization": f"Bearer {running.token}"}
        connection.request(method, f"{DOCS}{path}", body or None, headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def ask(running: Running, method: str, path: str, body: bytes = b"") -> dict[str, object]:
    status, answer = answered(running, method, path, body)
    assert status == http.client.OK, answer
    return answer


def has_copy(running: Running) -> bool:
    """Ask for the index; while a copy opens for longer than a second, callers are told to come
    again."""
    return answered(running, "GET", "/docs/info")[0] == http.client.OK


def send(running: Running, head: bytes, rows: int) -> bytes:
    """Send columns of values made on the way; return the answer."""
    size = len(head) + 4 * DIMENSIONS * rows
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=WITHIN_S)
    try:
        connection.putrequest("POST", f"{DOCS}/docs/columns/upsert")
        for name, value in (
            ("authorization", f"Bearer {running.token}"),
            ("content-type", CONTENT_TYPE),
            ("content-length", str(size)),
        ):
            connection.putheader(name, value)
        connection.endheaders(head)
        random = np.random.default_rng(1)
        while rows:
            count = min(rows, 500)
            connection.send(random.standard_normal((count, DIMENSIONS)).astype("<f4").tobytes())
            rows -= count
        response = connection.getresponse()
        answer = response.read()
        assert response.status == http.client.OK, answer
        return answer
    finally:
        connection.close()


@pytest.mark.skipif(sys.platform != "linux", reason="READS /proc")
@pytest.mark.parametrize("rows", [10_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_a_body_of_many_megabytes_takes_no_memory_of_its_length_on_any_server(
    tmp_path: Path, rows: int
) -> None:
    """78 MiB; in the slow form 780 MiB, close to what one mutation may have."""
    environment = {
        "VICINAL_DATABASE": server().dsn,
        "VICINAL_DATABASE_SCHEMA": fresh_schema(),
        "VICINAL_LIMITS": "open",
        "VICINAL_WRITE_DEADLINE_S": "120",
    }
    with ExitStack() as opened:
        servers = []
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
            running = in_process(tmp_path / name, environment=environment)
            servers.append(opened.enter_context(running))
        config = {"name": "docs", "config": {"dimensions": DIMENSIONS, "metric": "cosine"}}
        ask(servers[0], "POST", "", json.dumps(config).encode())
        for each in servers:
            wait_until(lambda each=each: has_copy(each), WITHIN_S)  # type: ignore[misc]
        ids = [f"v{number}" for number in range(rows)]
        head = json.dumps({"dimensions": DIMENSIONS, "ids": ids}).encode() + b"\n"
        pids = [each.process.pid for each in servers if each.process is not None]

        with Watch.over(pids) as watch:
            answer = json.loads(send(servers[0], head, rows))
            mutation_id = answer["result"]["mutationId"]
            for each in servers:
                wait_until(lambda each=each: is_applied(each, mutation_id), WITHIN_S)  # type: ignore[misc]

        allowed = ALLOWED + rows * DIMENSIONS // 8 * 2  # with the codes, of a bit for a value
        assert all(growth < allowed for growth in watch.growth), [
            f"{growth / MIB:.0f} MiB" for growth in watch.growth
        ]
        stored = ask(servers[1], "POST", "/docs/get_by_ids", b'{"ids":["v7"]}')["result"]
        assert isinstance(stored, list)
        assert [len(each["values"]) for each in stored] == [DIMENSIONS]


def is_applied(running: Running, mutation_id: str) -> bool:
    result = ask(running, "GET", "/docs/info")["result"]
    assert isinstance(result, dict)
    return bool(result["processedUpToMutation"] == mutation_id)

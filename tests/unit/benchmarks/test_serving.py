"""Servers under load: the floor does the parsing it claims, refusals are not counted as work."""

import importlib
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from benchmarks import http_ingest, serving, texts
from benchmarks.contender import Failed
from benchmarks.serving import INDEX, NDJSON, Client, Server

VECTOR = [0.25, -0.5, 1e-8]


@pytest.fixture(scope="module")
def floor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The bare server, in a process of its own."""
    with serving.floor(tmp_path_factory.mktemp("floor")) as server:
        yield server


def test_the_floor_answers_a_query_with_ten_matches(floor: Server) -> None:
    with Client(floor.port) as client:
        found = client.result("POST", "/query", json.dumps({"vector": VECTOR}).encode())

    assert found["count"] == len(found["matches"]) == 10


def test_the_floor_reads_every_line_of_ndjson(floor: Server) -> None:
    lines = b"\n".join(json.dumps({"id": "a", "values": VECTOR}).encode() for _ in range(7))

    with Client(floor.port) as client:
        status, answer = client.ask("POST", "/upsert", lines, NDJSON)

    assert (status, answer) == (200, {"count": 7})


def test_the_floor_does_not_answer_what_it_cannot_parse(floor: Server) -> None:
    with Client(floor.port) as client, pytest.raises(Failed, match="was answered 500"):
        client.result("POST", "/upsert", b'{"id":"a","values":["text"]}', NDJSON)


def test_a_server_that_does_not_start_is_a_failure_with_its_log(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the data folder should be")

    with (
        pytest.raises(Failed, match=r"(?s)did not start: .*data"),
        serving.vicinal(tmp_path / "data"),
    ):
        pass


def test_what_is_written_over_http_is_what_was_in_the_array(tmp_path: Path) -> None:
    rows = np.array([VECTOR, [1.0, 2.0, 3.0]], np.float32)
    lines = [
        json.dumps({"id": str(row), "values": values}).encode()
        for row, values in enumerate(serving.numbers(rows))
    ]

    with serving.vicinal(tmp_path / "data") as server, Client(server.port) as client:
        serving.create_index(client, 3, "cosine")
        written = client.result("POST", f"{INDEX}/upsert", b"\n".join(lines), NDJSON)
        serving.wait_until_visible(client, written["mutationId"])
        stored = client.result("POST", f"{INDEX}/get_by_ids", b'{"ids":["0","1"]}')

    assert np.array([each["values"] for each in stored]) == pytest.approx(rows, abs=1e-8)


@contextmanager
def refusing(statuses: list[int]) -> Iterator[tuple[Server, list[bytes]]]:
    """Serve answers of these statuses in turn, then 200, and gather the bodies."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(statuses.pop(0) if statuses else 200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield Server(server.server_address[1], None), bodies  # type: ignore[arg-type]  # no process
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_batch_that_was_too_much_is_sent_again() -> None:
    with refusing([429, 429]) as (server, bodies):
        sent = http_ingest.send(server, "/upsert", [b"one", b"two"], 1)

    assert sent.retries == 2
    assert sorted(bodies) == sorted([b"one", b"two", b"one", b"two"])


def test_a_batch_that_is_refused_ends_the_run() -> None:
    with (
        refusing([400]) as (server, _),
        pytest.raises(Failed, match="/upsert was answered 400"),
    ):
        http_ingest.send(server, "/upsert", [b"one"] * 3, 2)


def test_without_wrk_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)

    with pytest.raises(Failed, match="apt-get install wrk"):
        serving.require_wrk()


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_load_is_counted_and_refusals_are_errors(floor: Server, tmp_path: Path) -> None:
    body = json.dumps({"vector": VECTOR}).encode()
    good = serving.write_lines(tmp_path / "good", [body])
    bad = serving.write_lines(tmp_path / "bad", [b"no JSON"])

    answered = serving.wrk(floor, "/query", good, connections=2, seconds=1)
    refused = serving.wrk(floor, "/query", bad, connections=1, seconds=1)

    assert answered.requests > 0  # in a second of a machine that may be busy
    assert answered.errors == 0
    assert 0 < answered.p50_ms <= answered.p99_ms
    assert answered.cpu_us > 0
    assert refused.errors > 0


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_a_prefix_makes_every_body_another(tmp_path: Path) -> None:
    rest = serving.write_lines(tmp_path / "rest", [b'","values":[1,2,3]}'])

    with serving.vicinal(tmp_path / "data") as server, Client(server.port) as client:
        serving.create_index(client, 3, "cosine")
        load = serving.wrk(
            server, f"{INDEX}/upsert", rest, connections=1, seconds=1, prefix='{"id":"write-%d'
        )
        last = client.result("POST", f"{INDEX}/upsert", b'{"id":"last","values":[1,2,3]}')
        serving.wait_until_visible(client, last["mutationId"])
        count = client.result("GET", f"{INDEX}/info")["vectorCount"]

    assert load.errors == 0
    # The request that was under way when the time ended may have been written, too.
    assert count - 1 - load.requests in (0, 1)


@pytest.mark.parametrize("name", ["http_query", "nodes", "durable_writes", "large", "versions"])
def test_a_benchmark_that_needs_a_missing_wrk_ends_before_anything_is_made(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = importlib.import_module(f"benchmarks.{name}").run
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(texts, "embedded", lambda *_: pytest.fail("texts were embedded"))

    with pytest.raises(Failed, match="wrk is missing"):
        run(*([tmp_path] if name == "versions" else []), is_quick=True)

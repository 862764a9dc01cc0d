"""The balancers of docs/scale-out.md before three servers, in this machine's nginx and HAProxy.

Where an index goes, also when a server joins or leaves, is seen with servers that answer who they
are; that Vicinal's do what the page says of them, with those.
"""

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support import programs
from tests.support.ports import free_port
from tests.support.postgres import fresh_schema, server
from tests.support.server import in_thread
from tests.support.waiting import wait_until
from vicinal.app import Application, create
from vicinal.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "scale-out.md"
INDEXES = "/client/v4/accounts/local/vectorize/v2/indexes"
NAMES = [f"index-{number}" for number in range(8)]
MANY = [f"name-{number}" for number in range(90)]

balancers = pytest.mark.parametrize("kind", ["nginx", "haproxy"])


def configuration(kind: str, folder: Path, ports: Sequence[int], port: int) -> str:
    """Return the page's configuration, for servers and a port of this test."""
    match = re.search(rf"```{kind}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert match is not None
    lines = match[1].splitlines(keepends=True)
    (last,) = [number for number, line in enumerate(lines) if "10.0.0.3:8790" in line]
    for number in range(4, len(ports) + 1):  # added at the end
        added = lines[last].replace("10.0.0.3", f"10.0.0.{number}")
        lines.insert(last + number - 3, added.replace("vicinal3", f"vicinal{number}"))
    text = "".join(lines)
    for listen in ("listen 8080;", "bind :8080\n"):
        text = text.replace(
            listen, listen.replace(":8080", "8080").replace("8080", f"127.0.0.1:{port}")
        )
    for number, each in enumerate(ports, 1):
        text = text.replace(f"10.0.0.{number}:8790", f"127.0.0.1:{each}")
    assert "10.0.0" not in text
    assert f"127.0.0.1:{port}" in text
    if kind == "haproxy":
        return text
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return (
        f"daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{temporary}{text}}}\n"
    )


class Balancer:
    """A balancer of a kind before servers; skips a test where its program is missing."""

    def __init__(self, kind: str, folder: Path, ports: Sequence[int], opened: ExitStack) -> None:
        program = shutil.which(kind) or shutil.which(f"/usr/sbin/{kind}")
        if program is None:
            pytest.skip(f"NEEDS {kind.upper()} (Debian: {kind})")
        folder.mkdir()
        self.port = free_port()
        path = folder / "configuration"
        path.write_text(configuration(kind, folder, ports, self.port))
        options = {
            "nginx": ["-p", str(folder), "-c", str(path), "-e", "stderr"],
            "haproxy": ["-db", "-f", str(path)],
        }
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [program, *options[kind]], start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        opened.callback(programs.end, process)
        try:
            wait_until(lambda: self.ask("GET", "/healthz")[0] == 200)
        except AssertionError as error:
            error.add_note(programs.tail(folder / "log"))
            raise

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        """Return status and body of the answer; a status of 0 when there is none."""
        try:
            connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
            connection.request(method, path, json.dumps(body).encode() if body else None)
            response = connection.getresponse()
            answer = response.read()
            connection.close()
        except (OSError, HTTPException):
            return 0, b""
        return response.status, answer

    def answers(self, method: str, path: str, body: object = None) -> bool:
        """Tell whether the answer is a success."""
        return self.ask(method, path, body)[0] == 200


class Named:
    """A server that answers every request with its number."""

    def __init__(self, number: int, opened: ExitStack) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("content-length", str(len(str(number))))
                self.end_headers()
                self.wfile.write(str(number).encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        opened.callback(self.close)

    def close(self) -> None:
        """Stop listening, and answering."""
        self._server.shutdown()
        self._server.server_close()


def homes(balancer: Balancer) -> dict[str, int]:
    """Ask for each index, by different paths; return which server answers for it."""
    return {name: home for name, (home,) in answering(balancer).items()}


def homes_once_noticed(balancer: Balancer) -> dict[str, int]:
    """Return which server answers for each index once the balancer has seen that one is gone.

    Until its checks tell, HAProxy tries another server for each request, which need not be the one
    that the index goes to then; every request is answered meanwhile.
    """
    asked: list[dict[str, set[int]]] = []

    def has_noticed() -> bool:
        asked.append(answering(balancer))
        return all(len(numbers) == 1 for numbers in asked[-1].values())

    wait_until(has_noticed)
    return {name: home for name, (home,) in asked[-1].items()}


def answering(balancer: Balancer) -> dict[str, set[int]]:
    """Ask for each index, by different paths; return which servers answer for it."""
    numbers: dict[str, set[int]] = {}
    for name in MANY:
        numbers[name] = set()
        for rest in ("", "/info", "/list?count=7"):
            status, answer = balancer.ask("GET", f"{INDEXES}/{name}{rest}")
            assert status == 200, name
            numbers[name].add(int(answer))
    return numbers


@balancers
def test_an_index_goes_to_one_server_and_stays_there_when_others_join_or_leave(
    kind: str, tmp_path: Path
) -> None:
    with ExitStack() as opened:
        servers = [Named(number, opened) for number in range(4)]
        ports = [each.port for each in servers]
        three = Balancer(kind, tmp_path / "three", ports[:3], opened)
        four = Balancer(kind, tmp_path / "four", ports, opened)

        before, after = homes(three), homes(four)

        for number in range(3):
            assert sum(home == number for home in before.values()) > len(MANY) / 9
        moved = {name for name in MANY if before[name] != after[name]}
        assert {after[name] for name in moved} == {3}  # none went to another old one
        assert len(moved) < len(MANY) / 2

        servers[0].close()
        left = homes_once_noticed(three)
        assert {name for name in MANY if left[name] != before[name]} == {
            name for name in MANY if before[name] == 0
        }
        assert set(left.values()) == {1, 2}


class Vicinals:
    """Three servers of Vicinal over one database."""

    def __init__(self, folder: Path, opened: ExitStack) -> None:
        schema = fresh_schema()
        self.applications: list[Application] = []
        self.stops: list[ExitStack] = []
        self.ports: list[int] = []
        for number in range(3):
            settings = Settings(
                data=folder / f"data{number}", database=server().dsn, database_schema=schema
            )
            application = create(settings)
            opened.callback(application.close)
            stop = opened.enter_context(ExitStack())
            self.ports.append(stop.enter_context(in_thread(application.asgi)).port)
            self.applications.append(application)
            self.stops.append(stop)

    def homes(self) -> dict[str, list[int]]:
        """Return which servers have a copy of each index."""
        found: dict[str, list[int]] = {name: [] for name in NAMES}
        for number, application in enumerate(self.applications):
            for index in application.asgi.services.engine.usage().open_indexes:
                found[index.address.name].append(number)
        return found


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


@balancers
def test_a_copy_of_an_index_is_on_one_server_and_on_the_next_when_that_leaves(
    kind: str, tmp_path: Path, opened: ExitStack
) -> None:
    servers = Vicinals(tmp_path, opened)
    balancer = Balancer(kind, tmp_path / "balancer", servers.ports, opened)
    query = {"vector": [1, 2], "topK": 1}
    for name in NAMES:
        config = {"name": name, "config": {"dimensions": 2, "metric": "cosine"}}
        assert balancer.answers("POST", INDEXES, config)
    for name in NAMES:  # a server whose copy opens for longer than a second says to come again
        wait_until(lambda name=name: balancer.answers("POST", f"{INDEXES}/{name}/query", query))  # type: ignore[misc]
    for _ in range(5):
        for name in NAMES:
            body = {"id": "a", "values": [1, 2]}
            assert balancer.answers("POST", f"{INDEXES}/{name}/upsert", body)
            assert balancer.answers("POST", f"{INDEXES}/{name}/query", query)

    before = servers.homes()
    assert all(len(each) == 1 for each in before.values()), before
    assert len({each[0] for each in before.values()}) > 1

    gone = before[NAMES[0]][0]
    servers.stops[gone].close()
    for name in NAMES:
        wait_until(lambda name=name: balancer.answers("POST", f"{INDEXES}/{name}/query", query))  # type: ignore[misc]
    after = servers.homes()
    for name in NAMES:  # the one that left still has its copy; its successor has one now
        assert len(after[name]) == (2 if before[name] == [gone] else 1)

"""The balancer of docs/scale-out.md before three servers, in the nginx of this machine."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.support import programs
from tests.support.postgres import fresh_schema, server
from tests.support.server import free_port, in_thread
from tests.support.waiting import wait_until
from vicinal.app import Application, create
from vicinal.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "scale-out.md"
INDEXES = "/client/v4/accounts/local/vectorize/v2/indexes"
NAMES = [f"index-{number}" for number in range(8)]


class Balanced:
    """Three servers behind nginx."""

    def __init__(self, folder: Path, opened: ExitStack) -> None:
        program = shutil.which("nginx")
        if program is None:
            pytest.skip("needs nginx (Debian: nginx)")
        schema = fresh_schema()
        self.applications: list[Application] = []
        self.stops: list[ExitStack] = []
        ports = []
        for number in range(3):
            settings = Settings(
                data=folder / f"data{number}", database=server().dsn, database_schema=schema
            )
            application = create(settings)
            opened.callback(application.close)
            stop = opened.enter_context(ExitStack())
            ports.append(stop.enter_context(in_thread(application.asgi)).port)
            self.applications.append(application)
            self.stops.append(stop)
        self.port = free_port()
        path = folder / "nginx.conf"
        path.write_text(configuration(folder, ports, self.port))
        process = subprocess.Popen(
            [program, "-p", str(folder), "-c", str(path), "-e", "stderr"], start_new_session=True
        )
        opened.callback(programs.end, process)
        wait_until(lambda: self.answers("GET", "/healthz"))

    def answers(self, method: str, path: str, body: object = None) -> bool:
        """Ask through nginx; tell whether the answer is a success."""
        try:
            connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
            connection.request(method, path, json.dumps(body).encode() if body else None)
            status = connection.getresponse().status
            connection.close()
        except OSError:
            return False
        return status == 200

    def homes(self) -> dict[str, list[int]]:
        """Return which servers have a copy of each index."""
        found: dict[str, list[int]] = {name: [] for name in NAMES}
        for number, application in enumerate(self.applications):
            for index in application.asgi.services.engine.usage().open_indexes:
                found[index.address.name].append(number)
        return found


def configuration(folder: Path, ports: list[int], port: int) -> str:
    """Return the page's configuration, for servers and a port of this test."""
    match = re.search(r"```nginx\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert match is not None
    text = match[1].replace("listen 8080;", f"listen 127.0.0.1:{port};")
    for number, each in enumerate(ports, 1):
        text = text.replace(f"10.0.0.{number}:8790", f"127.0.0.1:{each}")
    assert "10.0.0" not in text
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return (
        f"daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{temporary}{text}}}\n"
    )


@pytest.fixture
def balanced(tmp_path: Path) -> Iterator[Balanced]:
    with ExitStack() as opened:
        yield Balanced(tmp_path, opened)


def test_an_index_stays_on_one_server_and_moves_when_that_leaves(balanced: Balanced) -> None:
    query = {"vector": [1, 2], "topK": 1}
    for name in NAMES:
        config = {"name": name, "config": {"dimensions": 2, "metric": "cosine"}}
        assert balanced.answers("POST", INDEXES, config)
    for _ in range(5):
        for name in NAMES:
            body = {"id": "a", "values": [1, 2]}
            assert balanced.answers("POST", f"{INDEXES}/{name}/upsert", body)
            assert balanced.answers("POST", f"{INDEXES}/{name}/query", query)

    homes = balanced.homes()
    assert all(len(each) == 1 for each in homes.values()), homes
    assert len({each[0] for each in homes.values()}) > 1

    gone = homes[NAMES[0]][0]
    balanced.stops[gone].close()
    for name in NAMES:
        wait_until(lambda name=name: balanced.answers("POST", f"{INDEXES}/{name}/query", query))  # type: ignore[misc]
    assert len(balanced.homes()[NAMES[0]]) == 2  # the one that left, and its successor

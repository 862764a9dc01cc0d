"""The commands of docs/scale-out.md that make a cluster on one machine, run in their order.

Slow, as Patroni notices a lost leader after 20 seconds, the least that it allows.
"""

import json
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.support import programs
from tests.support.ports import free_port
from tests.support.postgres import children, need_postgres, server_user

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "scale-out.md"
INDEX = "/client/v4/accounts/local/vectorize/v2/indexes/docs"
WITHIN_S = 240.0
GROUPS = (8000, 5440, 8790)  # and the three ports after each
ALONE = (2379, 2380)


def blocks() -> list[str]:
    """The commands of the chapter, but for those that install."""
    chapter = PAGE.read_text().split("## All of it on one machine")[1].split("\n## ")[0]
    install, *others = re.findall(r"```sh\n(.*?)```", chapter, re.DOTALL)
    assert "apt-get install" in install
    return others


def with_ports(text: str, ports: dict[int, int]) -> str:
    """Return commands with the ports of this test."""
    for port, other in ports.items():
        text = re.sub(rf"\b{port}\b", str(other), text)
    return text


def free_ports() -> dict[int, int]:
    """Ports of this test for those of the page, of which some follow one another."""
    ports = {port: free_port() for port in ALONE}
    for first in GROUPS:
        base = free_port()
        ports |= {first + number: base + number for number in range(4)}
    return ports


class Recipe:
    """The page's cluster, in folders of this test."""

    def __init__(self) -> None:
        need_postgres()
        for program, package in (("etcd", "etcd-server"), ("patroni", "patroni"), ("curl", "curl")):
            if shutil.which(program) is None:
                pytest.skip(f"NEEDS {program.upper()} (Debian: {package})")
        self.folder = Path(tempfile.mkdtemp(prefix="vicinal-recipe-"))
        self.user = server_user()
        if self.user is not None:
            shutil.chown(self.folder, self.user)
        self.ports = free_ports()
        self.blocks = [with_ports(block, self.ports) for block in blocks()]

    def run(self, block: str, *, as_server: bool) -> str:
        """Run commands of the page; they stop at the first that fails."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return programs.run(
            ["bash", "-euo", "pipefail", "-c", block], within_s=WITHIN_S,
            cwd=self.folder, user=self.user if as_server else None,
            env={"PATH": path, "HOME": str(self.folder)},
        )  # fmt: skip

    def ask(self, number: int, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        connection = HTTPConnection("127.0.0.1", self.ports[8790 + number], timeout=60)
        try:
            connection.request(method, path, json.dumps(body).encode() if body else None)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def close(self) -> None:
        for path in (self.folder / "server-pids", self.folder / "cluster" / "pids"):
            with suppress(FileNotFoundError):
                for pid in path.read_text().split():
                    end(int(pid))
        for path in self.folder.glob("cluster/data*/postmaster.pid"):
            end(int(path.read_text().split("\n")[0]))
        shutil.rmtree(self.folder, ignore_errors=True)

    def logs(self) -> str:
        return "".join(programs.tail(path) for path in self.folder.rglob("*.log"))


def end(pid: int) -> None:
    for each in [pid, *children(pid)]:
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)


@pytest.fixture
def recipe() -> Iterator[Recipe]:
    recipe = Recipe()
    try:
        yield recipe
    finally:
        recipe.close()


def test_the_commands_of_the_page_make_a_cluster_that_survives_its_leader(recipe: Recipe) -> None:
    etcd, members, database, servers, store, kill, go_on = recipe.blocks
    try:
        for block in (etcd, members, database):
            recipe.run(block, as_server=True)
        said = recipe.run(servers, as_server=False)
        assert "synchronous_standby_names is" in said
        found = recipe.run(store, as_server=False)
        assert '"id":"a"' in found.splitlines()[-1]

        recipe.run(kill, as_server=True)
        found = recipe.run(go_on, as_server=False)

        assert '"id":"a"' in found
        assert "mutationId" in found.splitlines()[-1]
        for number in (1, 2, 3):
            status, answer = recipe.ask(number, "POST", f"{INDEX}/get_by_ids", {"ids": ["a"]})
            assert (status, b'"id":"a"' in answer) == (200, True)
    except AssertionError as error:
        error.add_note(recipe.logs())
        raise

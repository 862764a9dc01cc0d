"""The commands of docs/scale-out.md that back a database up and bring it back to a moment.

Slow: PostgreSQL syncs, is restarted, and replays its WAL.
"""

import os
import re
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.support import programs
from tests.support.engines import DOCS, Record, batch, create, found, insert, vector
from tests.support.ports import free_port
from tests.support.postgres import children, need_postgres, server_user
from tests.support.waiting import wait_until
from vicinal.engine.shared.engine import SharedEngine, SharedOptions
from vicinal.errors import IndexNotFound
from vicinal.model import Delete, IndexAddress, Query, Upsert

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "scale-out.md"
WITHIN_S = 180.0
ALL = Query(top_k=100, vector=vector(0, 0))
OTHERS = IndexAddress("acme", "others")
BUSY = IndexAddress("acme", "busy")
MOMENT = "2026-11-28 12:00:00+00"  # as the page has it


def blocks() -> list[str]:
    """The commands of the chapter."""
    chapter = PAGE.read_text().split("## Backup, and going back to a moment")[1].split("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", chapter, re.DOTALL)


class Database:
    """A PostgreSQL in a folder of its own, run by its own programs alone."""

    def __init__(self) -> None:
        self._programs = need_postgres()
        self._user = server_user()
        self.folder = Path(tempfile.mkdtemp(prefix="vicinal-restore-"))
        self._data = self.folder / "data"
        self._port = free_port()
        if self._user is not None:
            shutil.chown(self.folder, self._user)

    @property
    def dsn(self) -> str:
        return f"postgresql://vicinal@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        self.run(
            'initdb -D "$PGDATA" -U vicinal -A trust -E UTF8 --locale=C --no-sync\n'
            'echo "unix_socket_directories = \'\'" >> "$PGDATA/postgresql.conf"\n'
            'echo "port = $PGPORT" >> "$PGDATA/postgresql.conf"\n'
            'pg_ctl start -w -D "$PGDATA" -l postgresql.log'
        )

    def run(self, commands: str) -> str:
        return programs.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            within_s=WITHIN_S, log=self.folder / "postgresql.log", cwd=self.folder,
            user=self._user,
            env={
                "PATH": f"{self._programs}:{os.environ['PATH']}", "HOME": str(self.folder),
                "PGDATA": str(self._data), "PGHOST": "127.0.0.1", "PGPORT": str(self._port),
                "PGUSER": "vicinal", "PGDATABASE": "postgres",
            },
        )  # fmt: skip

    def close(self) -> None:
        with suppress(FileNotFoundError):
            postmaster = int((self._data / "postmaster.pid").read_text().split("\n")[0])
            for pid in [postmaster, *children(postmaster)]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture
def database() -> Iterator[Database]:
    database = Database()
    try:
        database.start()
        yield database
    finally:
        database.close()


def write(node: SharedEngine, prefix: str, count: int) -> None:
    for number in range(count):
        insert(node, Record(f"{prefix}{number}", [number, 1]))


def write_while(node: SharedEngine, work: Callable[[], object]) -> list[str]:
    """Write to an index while something runs; return the ids that were acknowledged."""
    ids: list[str] = []
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(work)
        while not running.done():
            id_ = f"busy{len(ids):06}"
            upsert = Upsert(batch(Record(id_, [len(ids), 1])))
            node.append(BUSY, upsert).result(WITHIN_S)
            ids.append(id_)
        running.result()
    return ids


def is_there(node: SharedEngine, address: IndexAddress) -> bool:
    try:
        node.get_index(address)
    except IndexNotFound:
        return False
    return True


def test_a_database_goes_back_to_a_moment_and_servers_that_run_go_with_it(
    database: Database, tmp_path: Path
) -> None:
    back_up, restore = blocks()
    assert MOMENT in restore
    options = SharedOptions(database.dsn, write_deadline_s=WITHIN_S, open_wait_s=WITHIN_S)
    with ExitStack() as opened:
        nodes = []
        for name in ("writer", "reader"):
            nodes.append(SharedEngine.open(tmp_path / name, options))
            opened.callback(nodes[-1].close)
        writer, reader = nodes
        create(writer)
        write(writer, "before", 20)
        writer.list(DOCS, 1, None)  # in the rows
        create(writer, BUSY)
        busy = write_while(writer, lambda: database.run(back_up))
        assert len(busy) > 1
        write(writer, "since", 20)
        expected = sorted(found(writer, ALL))
        assert sorted(found(reader, ALL)) == expected
        moment = database.run("psql -Atc 'SELECT now()'").strip()

        writer.append(DOCS, Delete([f"since{number}" for number in range(20)])).result(WITHIN_S)
        write(writer, "after", 30)
        create(writer, OTHERS)
        assert is_there(reader, OTHERS)
        database.run(restore.replace(MOMENT, moment))

        for node in nodes:
            wait_until(lambda node=node: sorted(found(node, ALL)) == expected, WITHIN_S)  # type: ignore[misc]
            wait_until(lambda node=node: not is_there(node, OTHERS), WITHIN_S)  # type: ignore[misc]
            assert node.counts.refills["log went back"] == 1
        logged = writer.append(DOCS, Upsert(batch(Record("new", [9, 9])))).result(WITHIN_S)
        assert logged.seqno == 41
        new = SharedEngine.open(tmp_path / "new", options)
        opened.callback(new.close)
        for node in (*nodes, new):
            assert sorted(node.list(BUSY, 1_000, None).ids) == sorted(busy)[:1_000]
            assert node.wait_applied(DOCS, logged.seqno, WITHIN_S)
            assert sorted(found(node, ALL)) == sorted([*expected, "new"])
            ids = node.list(DOCS, 100, None).ids
            assert sorted(ids) == sorted([*expected, "new"])

"""Nodes whose database refuses, whose disk is full or whose clock is wrong."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import pytest

from tests.support.engines import (
    APPLIED_WITHIN_S,
    DOCS,
    Record,
    batch,
    create,
    found,
    insert,
    open_shared,
    shared_schema,
    upsert,
    vector,
)
from tests.support.postgres import server
from tests.support.waiting import wait_until
from vicinal.engine import copying
from vicinal.engine.shared import follower, ledger, schema
from vicinal.engine.shared.engine import SharedEngine
from vicinal.errors import Error, ResourceExhausted, Unavailable
from vicinal.limits import Limits
from vicinal.model import Query, Upsert

OpenNode = Callable[..., SharedEngine]
ALL = Query(top_k=100, vector=vector(0, 0))
WITHIN_S = 60.0


@pytest.fixture
def open_node(tmp_path: Path) -> Iterator[OpenNode]:
    """Open one more node of the test's database; one of a name finds its folder again."""
    opened: list[SharedEngine] = []

    def open_(folder: Path | None = None, **options: object) -> SharedEngine:
        folder = folder or tmp_path / f"node{len(opened)}"
        opened.append(open_shared(tmp_path, Limits(), folder, **options))
        return opened[-1]

    yield open_
    for engine in opened:
        engine.close()


def sql(folder: Path, statements: str) -> str:
    return server().sql(f"SET search_path = {shared_schema(folder)};{statements}").split("\n")[-1]


def fail(folder: Path, table: str, state: str) -> None:
    """Have the database refuse every row of a table, as it does for want of disk or memory."""
    sql(
        folder,
        "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = '{state}'; END$$;"
        f"CREATE TRIGGER refuse BEFORE INSERT ON {table} EXECUTE FUNCTION refuse()",
    )


def test_a_database_whose_disk_is_full_refuses_writes_as_such_and_reads_go_on(
    open_node: OpenNode, tmp_path: Path
) -> None:
    node = open_node()
    create(node)
    insert(node, Record("a", [1, 1]))
    fail(tmp_path, "mutation", "53100")

    for _ in range(3):
        with pytest.raises(ResourceExhausted, match="the database's disk is full") as caught:
            node.append(DOCS, Upsert(batch(Record("b", [2, 2])))).result(WITHIN_S)

    assert caught.value.retry_after is not None
    assert found(node, ALL) == ["a"]
    sql(tmp_path, "DROP TRIGGER refuse ON mutation")
    assert upsert(node, Record("c", [3, 3])).seqno == 2  # nothing of what was refused is there
    assert found(node, ALL) == ["a", "c"]


def test_rows_that_the_database_has_no_room_for_are_written_once_it_has(
    open_node: OpenNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile writes are acknowledged, and visible."""
    monkeypatch.setattr(follower, "CHECKPOINT_AFTER_S", 0.01)
    monkeypatch.setattr(follower, "FAILED_POLL_S", 0.01)
    node = open_node()
    create(node)
    fail(tmp_path, "vector", "53100")

    insert(node, Record("a", [1, 1]))
    assert found(node, ALL) == ["a"]
    assert sql(tmp_path, "SELECT seqno FROM folded") == "0"

    sql(tmp_path, "DROP TRIGGER refuse ON vector")
    wait_until(lambda: sql(tmp_path, "SELECT seqno, vector_count FROM folded") == "1\t1")
    assert node.list(DOCS, 9, None).ids == ["a"]


def test_a_database_without_memory_is_asked_again(open_node: OpenNode, tmp_path: Path) -> None:
    node = open_node()
    create(node)
    fail(tmp_path, "mutation", "53200")

    waiting = node.append(DOCS, Upsert(batch(Record("a", [1, 1]))))
    wait_until(lambda: sql(tmp_path, "SELECT count(*) FROM mutation") == "0")
    sql(tmp_path, "DROP TRIGGER refuse ON mutation")

    assert waiting.result(WITHIN_S).seqno == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    made = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk],
        capture_output=True, check=False, timeout=WITHIN_S,
    )  # fmt: skip
    if not made or made.returncode:
        pytest.skip("NO DISK CAN BE MOUNTED HERE, WHICH TAKES LINUX AND ITS ROOT USER")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True, timeout=WITHIN_S)


def test_a_node_whose_disk_is_full_says_so_and_answers_once_there_is_room(
    open_node: OpenNode, small_disk: Path
) -> None:
    writer = open_node()
    create(writer, dimensions=1_000)
    rows = [Record(f"v{number}", [number] * 1_000) for number in range(2_500)]  # 10 MB
    insert(writer, *rows)
    writer.list(DOCS, 1, None)  # which brings the rows up to the log
    filler = small_disk / "filler"
    filler.write_bytes(b"\0" * (6 << 20))
    node = open_node(small_disk / "node")

    with pytest.raises(ResourceExhausted):
        node.status(DOCS)

    assert shutil.disk_usage(small_disk).free > 1 << 20  # what was filled is gone again
    assert upsert(writer, Record("v1", [0] * 1_000)).seqno == 2  # others go on
    filler.unlink()
    writer.delete_index(DOCS)
    create(writer)
    insert(writer, Record("a", [1, 1]))
    wait_until(lambda: node.get_index(DOCS).config.dimensions == 2)
    assert found(node, ALL) == ["a"]


@pytest.mark.parametrize("skew", [timedelta(days=-400), timedelta(days=400)], ids=str)
def test_a_node_whose_clock_is_wrong_loses_nothing_and_holds_up_nobody(
    open_node: OpenNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, skew: timedelta
) -> None:
    """All that times decide is how long the log keeps what the rows have."""

    class Skewed(datetime):
        @classmethod
        def now(cls, tz: object = None) -> Self:
            return cls.fromtimestamp((datetime.now(UTC) + skew).timestamp(), UTC)

    monkeypatch.setattr(ledger, "datetime", Skewed)
    monkeypatch.setattr(follower, "CHECKPOINT_AFTER_S", 0.01)
    monkeypatch.setattr(follower, "TRUNCATE_EVERY_S", 0.0)
    nodes = [open_node(), open_node()]
    create(nodes[0])
    for number in range(12):
        last = upsert(nodes[number % 2], Record(f"v{number}", [number, 1]))
        monkeypatch.setattr(ledger, "datetime", datetime if number % 3 else Skewed)

    for node in [*nodes, open_node()]:
        assert node.wait_applied(DOCS, last.seqno, APPLIED_WITHIN_S)
        assert len(found(node, ALL)) == 12
    assert sql(tmp_path, "SELECT max(seqno) FROM mutation") == "12"


def test_a_copy_whose_filling_was_cut_off_is_filled_anew(
    open_node: OpenNode, tmp_path: Path
) -> None:
    """As a kill leaves it: segments, and nothing that says it is whole."""
    writer = open_node()
    create(writer)
    insert(writer, *(Record(f"v{number}", [number, 1]) for number in range(50)))
    writer.list(DOCS, 1, None)
    folder = tmp_path / "node"
    node = open_node(folder)
    assert len(found(node, ALL)) == 50
    node.close()
    (left,) = (folder / "copies").iterdir()
    (left / copying.FILLED).unlink()
    for path in (left / "segments").rglob("*.*"):
        path.unlink()

    again = open_node(folder)

    assert len(found(again, ALL)) == 50
    assert again.counts.fills == 1


def refused(open_node: OpenNode, dsn: str) -> Error:
    with pytest.raises(Error) as caught:
        open_node(dsn=dsn)
    return caught.value


def role(name: str, options: str = "", *statements: str) -> str:
    """Make a role; return the URL that it connects by."""
    server().sql(f"DROP ROLE IF EXISTS {name}; CREATE ROLE {name} LOGIN {options}")
    for statement in statements:
        server().sql(statement)
    return f"postgresql://{name}:hush@127.0.0.1:{server().port}/postgres"


def test_a_wrong_password_is_said_and_not_repeated(open_node: OpenNode) -> None:
    dsn = role("locked", "PASSWORD 'right'")

    error = refused(open_node, dsn)

    assert "refuses the user or password" in str(error)
    assert "hush" not in str(error)
    assert open_node(dsn=dsn.replace("postgresql://locked:hush", "postgresql://vicinal")).usage()


def test_a_server_that_takes_no_writes_is_refused(open_node: OpenNode) -> None:
    dsn = role("reader", "", "ALTER ROLE reader SET default_transaction_read_only = on")

    assert "takes no writes" in str(refused(open_node, dsn))


def test_a_user_without_rights_to_the_tables_is_told(open_node: OpenNode, tmp_path: Path) -> None:
    open_node().close()
    name = shared_schema(tmp_path)
    dsn = role("outsider")

    assert "lacks a right" in str(refused(open_node, dsn))
    server().sql(f"GRANT USAGE ON SCHEMA {name} TO outsider")
    assert "lacks a right" in str(refused(open_node, dsn))
    server().sql(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {name} TO outsider")
    node = open_node(dsn=dsn)
    create(node)
    insert(node, Record("a", [1, 1]))
    assert found(node, ALL) == ["a"]
    node.close()
    server().sql("DROP OWNED BY outsider")


def test_a_postgresql_that_is_too_old_is_refused_with_both_versions(
    open_node: OpenNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "SERVER_VERSION_MIN", 990_000)

    with pytest.raises(Unavailable, match=r"is of version \d+\.\d+, the least is 99\.0"):
        open_node()

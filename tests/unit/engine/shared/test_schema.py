"""Tables of older and newer versions, and nodes of two versions on one database."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.postgres import fresh_schema, server
from tests.unit.moving.conftest import BOOKS, apply, contents_of, database_engine, populate, rows
from vicinal.engine.shared import nodes, schema
from vicinal.engine.shared.database import PostgresDatabase
from vicinal.engine.shared.schema import FORMAT, MIGRATIONS, Migration
from vicinal.errors import Unavailable

ADDED = Migration(
    FORMAT + 1, 1, "ALTER TABLE vicinal.catalog ADD COLUMN note text NOT NULL DEFAULT ''"
)
BREAKING = replace(ADDED, format_min=FORMAT + 1)


@pytest.fixture
def name() -> str:
    server()
    return fresh_schema()


class Version:
    """Which migrations the code knows, as another version would."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def knows(self, migrations: Sequence[Migration]) -> None:
        newest = migrations[-1].format if migrations else 1
        self._monkeypatch.setattr(schema, "MIGRATIONS", migrations)
        self._monkeypatch.setattr(schema, "FORMAT", newest)
        self._monkeypatch.setattr(nodes, "FORMAT", newest)


@pytest.fixture
def version(monkeypatch: pytest.MonkeyPatch) -> Iterator[Version]:
    version = Version(monkeypatch)
    yield version
    version.knows(MIGRATIONS)


def prepare(name: str) -> bytes:
    with closing(PostgresDatabase(server().dsn, name)) as database:
        return schema.prepare(database)


def cluster(name: str) -> str:
    return server().sql(f"SELECT format, format_min FROM {name}.cluster")


def test_the_format_is_that_of_the_last_migration() -> None:
    assert [migration.format for migration in MIGRATIONS] == list(range(2, FORMAT + 1))
    assert all(1 <= migration.format_min <= migration.format for migration in MIGRATIONS)


def test_tables_of_the_first_version_become_this_ones_and_keep_what_they_have(
    name: str, version: Version, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version.knows(())
    monkeypatch.setattr(
        nodes, "_BEAT", nodes._BEAT.replace(  # noqa: SLF001 - the statement of that version
            "(node_id, name, seen_at, format) VALUES ($1, $2, now(), $4)",
            "VALUES ($1, $2, now() + make_interval(secs => 0 * $4::int))",
        ),
    )  # fmt: skip
    with database_engine(tmp_path / "old", name) as old:
        populate(old, count=40)
        expected = contents_of(old)
        secret = prepare(name)
        columns = f"SELECT count(*) FROM {name}.cluster AS c WHERE to_jsonb(c) ? 'format_min'"
        assert server().sql(columns) == "0"

        version.knows(MIGRATIONS)  # the first server is upgraded while the other one goes on
        assert prepare(name) == secret
        assert cluster(name) == f"{FORMAT}\t1"
        apply(old, BOOKS, rows(500, 5))
        monkeypatch.undo()
        with database_engine(tmp_path / "new", name) as new:
            apply(new, BOOKS, rows(600, 5))
            both = contents_of(new)

    assert len(both["acme/books"]["vectors"]) == len(expected["acme/books"]["vectors"]) + 10


def test_each_node_migrates_once_though_many_start_at_once(name: str, version: Version) -> None:
    version.knows(())
    prepare(name)
    version.knows((*MIGRATIONS, ADDED))

    with ThreadPoolExecutor(6) as threads:
        secrets = set(threads.map(prepare, [name] * 6))

    assert len(secrets) == 1
    assert cluster(name) == f"{FORMAT + 1}\t1"


def test_a_node_of_the_version_before_starts_on_tables_that_it_can_bear(
    name: str, version: Version
) -> None:
    version.knows((*MIGRATIONS, ADDED))
    prepare(name)

    version.knows(MIGRATIONS)
    prepare(name)

    assert cluster(name) == f"{FORMAT + 1}\t1", "an older version changes nothing back"


def test_a_newer_version_that_has_not_said_what_it_needs_is_refused(name: str) -> None:
    prepare(name)
    server().sql(f"UPDATE {name}.cluster SET format = 99")

    with pytest.raises(Unavailable, match=f"'{name}' are of format 99, made by a newer version"):
        prepare(name)


def test_tables_that_need_a_newer_version_are_refused_by_name(name: str, version: Version) -> None:
    version.knows((*MIGRATIONS, BREAKING))
    prepare(name)
    version.knows(MIGRATIONS)

    complaint = f"of format {FORMAT + 1}, made by a newer version; this one knows up to {FORMAT}"
    with pytest.raises(Unavailable, match=complaint):
        prepare(name)


def test_a_migration_that_a_live_server_could_not_bear_waits_until_it_is_stopped(
    name: str, version: Version, tmp_path: Path
) -> None:
    with database_engine(tmp_path / "old", name) as old:
        populate(old, count=20)
        version.knows((*MIGRATIONS, BREAKING))
        with pytest.raises(Unavailable, match=r"still run: .+; stop them first"):
            prepare(name)
        assert cluster(name) == f"{FORMAT}\t1"

    prepare(name)

    assert cluster(name) == f"{FORMAT + 1}\t{FORMAT + 1}"


def test_a_migration_that_fails_changes_nothing(name: str, version: Version) -> None:
    prepare(name)
    version.knows((*MIGRATIONS, replace(ADDED, sql=ADDED.sql + "; SELECT * FROM vicinal.nothing")))

    with pytest.raises(Unavailable, match="nothing"):
        prepare(name)

    assert cluster(name) == f"{FORMAT}\t1"
    found = "SELECT count(*) FROM information_schema.columns WHERE column_name = 'note'"
    assert server().sql(f"{found} AND table_schema = '{name}'") == "0"

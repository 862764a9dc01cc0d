"""The catalog is durable before it says so, and what it cannot read it does not forget."""

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from vicinal.engine import catalog as catalog_module
from vicinal.engine.catalog import Catalog, CatalogEntry
from vicinal.errors import (
    Corruption,
    IndexExists,
    IndexNotFound,
    LimitExceeded,
    ResourceExhausted,
    Unavailable,
)
from vicinal.model import Index, IndexAddress, IndexConfig, Metric
from vicinal.storage import sqlite as storage

MADE_AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def entry(name: str, account: str = "acme") -> CatalogEntry:
    config = IndexConfig(3, Metric.COSINE, preset="a preset")
    folder = f"folder-of-{account}-{name}"
    return CatalogEntry(account, Index(folder, name, f"the {name} of Zoë", config, MADE_AT))


def reopened(catalog: Catalog, folder: Path) -> Catalog:
    catalog.close()
    return Catalog(folder)


def test_entries_come_back_whole_and_oldest_first(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path, create=True)
    entries = [entry("zebra"), entry("ant"), entry("zebra", "other")]
    for each in entries:
        catalog.add(each, None)

    catalog = reopened(catalog, tmp_path)

    assert list(catalog.all()) == entries
    assert list(catalog.of_account("acme")) == entries[:2]
    assert catalog.get(IndexAddress("other", "zebra")) == entries[2]
    catalog.close()


def test_a_removed_entry_stays_removed_and_its_name_is_free(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path, create=True)
    catalog.add(entry("a"), None)
    catalog.add(entry("b"), None)

    assert catalog.remove(entry("a").address) == entry("a").folder
    with pytest.raises(IndexNotFound, match="'a'"):
        catalog.remove(entry("a").address)

    catalog = reopened(catalog, tmp_path)
    assert list(catalog.all()) == [entry("b")]
    catalog.add(entry("a"), None)
    assert list(catalog.all()) == [entry("b"), entry("a")]
    catalog.close()


def test_a_name_that_is_taken_is_refused_before_the_limit_is_looked_at(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path, create=True)
    catalog.add(entry("a"), 1)

    for check in (catalog.check_new, lambda address, most: catalog.add(entry("a"), most)):
        with pytest.raises(IndexExists, match="'a'"):
            check(entry("a").address, 1)
    with pytest.raises(LimitExceeded, match="1 indexes, the maximum is 1"):
        catalog.add(entry("b"), 1)
    catalog.add(entry("b", "other"), 1)
    catalog.close()


def test_every_change_is_in_the_database_itself_before_it_is_reported(tmp_path: Path) -> None:
    # What is only in SQLite's write-ahead log can be lost to damage without notice, and
    # with its entry an index would lose its folder.
    catalog = Catalog(tmp_path, create=True)
    catalog.add(entry("kept"), None)
    catalog.add(entry("gone"), None)
    catalog.remove(entry("gone").address)

    (tmp_path / "copy").mkdir()
    copy = tmp_path / "copy" / "catalog.db"
    copy.write_bytes((tmp_path / "catalog.db").read_bytes())
    catalog.close()

    assert list(Catalog(copy.parent).all()) == [entry("kept")]


@pytest.mark.parametrize("content", [None, b""])
def test_a_catalog_that_should_be_there_is_not_made_anew(
    tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "catalog.db").write_bytes(content)

    with pytest.raises(Corruption, match=r"catalog\.db is missing or empty"):
        Catalog(tmp_path)


def columns() -> list[str]:
    return ["account", "name", "folder", "document"]


@pytest.mark.parametrize("column", columns())
def test_a_changed_field_of_a_row_costs_the_index_of_that_row(tmp_path: Path, column: str) -> None:
    catalog = Catalog(tmp_path, create=True)
    catalog.add(entry("a"), None)
    catalog.add(entry("c", "other"), None)
    catalog.close()
    with closing(sqlite3.connect(tmp_path / "catalog.db")) as connection, connection:
        connection.execute(f"UPDATE \"index\" SET {column} = CAST(replace({column}, 'a', 'b') AS"
                           f" {'BLOB' if column == 'document' else 'TEXT'})"
                           " WHERE account = 'acme'")  # fmt: skip

    catalog = Catalog(tmp_path)

    (unreadable,) = catalog.unreadable()
    assert re.search(r"index '[ab]' in .*catalog\.db fails its checksum", unreadable.damage)
    assert unreadable.folder is None  # which may be that of another
    with pytest.raises(Corruption, match="fails its checksum"):
        catalog.get(unreadable.address)
    assert list(catalog.all()) == [entry("c", "other")]
    catalog.close()


def document(**members: object) -> bytes:
    config = {"dimensions": 3, "metric": "cosine"}
    created_at = "2026-01-02T03:04:05Z"
    return msgspec.json.encode(
        {"name": "a", "description": None, "config": config, "created_at": created_at, **members}
    )


@pytest.mark.parametrize(
    "written",
    [
        document(config={"dimensions": 3.5, "metric": "cosine"}),
        document(config={"dimensions": 0, "metric": "cosine"}),
        document(config={"dimensions": 3, "metric": "taxi"}),
        document(description=7),
        document(created_at="yesterday"),
        document(created_at="0001-01-01T00:00:00+14:00"),
        document(name="b"),
        b"[]",
        b"[" * 100_000,
        b"\xff",
        b"",
    ],
)
def test_a_row_that_is_whole_and_not_of_an_index_costs_that_index_until_it_is_removed(
    tmp_path: Path, written: bytes
) -> None:
    catalog = Catalog(tmp_path, create=True)
    catalog.add(entry("a"), None)
    catalog.add(entry("b"), None)
    catalog.close()
    with closing(sqlite3.connect(tmp_path / "catalog.db")) as connection, connection:
        whole = storage.checksum("acme", "a", entry("a").folder, written)
        connection.execute(
            "UPDATE \"index\" SET document = ?, checksum = ? WHERE name = 'a'", (written, whole)
        )

    catalog = Catalog(tmp_path)

    with pytest.raises(Corruption, match=r"the entry of index 'a' in .* cannot be read"):
        catalog.get(IndexAddress("acme", "a"))
    with pytest.raises(IndexExists):
        catalog.check_new(IndexAddress("acme", "a"), None)
    assert list(catalog.all()) == [entry("b")]
    assert catalog.remove(IndexAddress("acme", "a")) == entry("a").folder
    catalog.add(entry("a"), None)
    catalog = reopened(catalog, tmp_path)
    assert list(catalog.all()) == [entry("b"), entry("a")]
    assert not catalog.unreadable()
    catalog.close()


FIELDS: list[tuple[str, object]] = [
    ("account", b"acme"),
    ("folder", b"folder-of-acme-a"),
    ("folder", ""),
    ("folder", ".."),
    ("folder", "../folder-of-acme-b"),
    ("folder", "folder-of-acme-b/"),
    ("folder", "/tmp"),
    ("folder", "a\0b"),
    ("document", 7),
    ("document", 7.5),
    ("document", "{}"),
]


@pytest.mark.parametrize(("column", "written"), FIELDS)
def test_a_row_with_a_field_that_cannot_be_costs_its_index_and_names_no_folder(
    tmp_path: Path, column: str, written: object
) -> None:
    catalog = Catalog(tmp_path, create=True)
    catalog.add(entry("a"), None)
    catalog.add(entry("b"), None)
    catalog.close()
    set_field(tmp_path, column, written)

    catalog = Catalog(tmp_path)

    (unreadable,) = catalog.unreadable()
    assert "the entry of index 'a' in" in unreadable.damage
    assert unreadable.folder in (None, entry("a").folder)
    assert list(catalog.all()) == [entry("b")]
    catalog.close()


def test_no_index_has_a_folder_that_two_rows_name(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path, create=True)
    for name in "abc":
        catalog.add(entry(name), None)
    catalog.close()
    set_field(tmp_path, "folder", entry("b").folder)

    catalog = Catalog(tmp_path)

    assert [each.folder for each in catalog.unreadable()] == [None, None]
    assert list(catalog.all()) == [entry("c")]
    assert catalog.remove(IndexAddress("acme", "a")) is None
    catalog = reopened(catalog, tmp_path)
    assert list(catalog.all()) == [entry("b"), entry("c")]
    catalog.close()


def set_field(folder: Path, column: str, written: object) -> None:
    """Replace a field of the row of index a, and make its checksum right."""
    with closing(sqlite3.connect(folder / "catalog.db")) as connection, connection:
        connection.execute(f"UPDATE \"index\" SET {column} = ? WHERE name = 'a'", (written,))
        fields = connection.execute(
            "SELECT account, name, folder, document FROM \"index\" WHERE name = 'a'"
        ).fetchone()
        connection.execute(
            "UPDATE \"index\" SET checksum = ? WHERE name = 'a'", (storage.checksum(*fields),)
        )


def test_an_address_with_an_id_is_that_index_alone(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path, create=True)
    catalog.add(entry("a"), None)
    another = IndexAddress("acme", "a", "another")

    for act in (catalog.get, catalog.remove):
        with pytest.raises(IndexNotFound, match="'a'"):
            act(another)

    assert catalog.get(entry("a").address) == catalog.get(IndexAddress("acme", "a")) == entry("a")
    assert catalog.remove(entry("a").address) == entry("a").folder
    catalog.close()


class Fault:
    """Makes the n-th call of a function from now on fail, and with `for_good` all after it."""

    def __init__(
        self,
        real: Callable[..., object],
        at: int,
        code: int = sqlite3.SQLITE_IOERR,
        *,
        for_good: bool = False,
    ) -> None:
        self._real, self._left, self._code, self._for_good = real, at, code, for_good

    def __call__(self, *args: object) -> object:
        self._left -= 1
        if not self._left or (self._left < 0 and self._for_good):
            error = sqlite3.OperationalError("it failed")
            error.sqlite_errorcode = self._code
            raise error
        return self._real(*args)


@pytest.mark.parametrize("act", ["add", "remove"])
def test_a_change_that_fails_stops_all_changes_until_the_catalog_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    catalog = Catalog(tmp_path, create=True)
    catalog.add(entry("a"), None)
    with monkeypatch.context() as patch:
        patch.setattr(catalog_module, "transaction", Fault(storage.transaction, 1))
        with pytest.raises(Unavailable, match=r"catalog\.db.*failed"):
            catalog.remove(entry("a").address) if act == "remove" else catalog.add(entry("b"), None)

    with pytest.raises(Unavailable, match="failed"):
        catalog.add(entry("c"), None)
    with pytest.raises(Unavailable, match="failed"):
        catalog.remove(entry("a").address)
    assert catalog.get(entry("a").address) == entry("a")

    catalog = reopened(catalog, tmp_path)
    catalog.add(entry("c"), None)
    catalog.close()


@pytest.mark.parametrize("act", ["add", "remove"])
def test_a_change_that_a_full_disk_refuses_has_not_happened_and_the_next_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    catalog = Catalog(tmp_path, create=True)
    catalog.add(entry("a"), None)
    full = Fault(storage.transaction, 1, sqlite3.SQLITE_FULL, for_good=True)
    with monkeypatch.context() as patch:
        patch.setattr(catalog_module, "transaction", full)
        with pytest.raises(ResourceExhausted, match=r"catalog\.db"):
            catalog.remove(entry("a").address) if act == "remove" else catalog.add(entry("b"), None)

    assert list(catalog.all()) == [entry("a")]
    catalog.add(entry("c"), None)
    catalog.remove(entry("a").address)
    catalog = reopened(catalog, tmp_path)
    assert list(catalog.all()) == [entry("c")]
    catalog.close()


def test_an_index_is_removed_with_the_reserve_when_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = Catalog(tmp_path, create=True)
    catalog.add(entry("a"), None)
    reserve = tmp_path / "reserve"
    assert reserve.stat().st_blocks * 512 >= catalog_module.RESERVE_BYTES

    def transaction(connection: sqlite3.Connection) -> object:
        left = 1 if reserve.exists() else 9
        return Fault(storage.transaction, left, sqlite3.SQLITE_FULL)(connection)

    with monkeypatch.context() as patch:
        patch.setattr(catalog_module, "transaction", transaction)
        catalog.remove(entry("a").address)

    assert not reserve.exists()
    catalog.make_reserve()
    assert reserve.exists()
    catalog = reopened(catalog, tmp_path)
    assert list(catalog.all()) == []
    catalog.close()


def test_a_checkpoint_that_fails_does_not_undo_what_was_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = Catalog(tmp_path, create=True)
    with monkeypatch.context() as patch:
        patch.setattr(catalog_module, "checkpoint", Fault(storage.checkpoint, 1))
        catalog.add(entry("a"), None)

    catalog.add(entry("b"), None)
    catalog = reopened(catalog, tmp_path)

    assert list(catalog.all()) == [entry("a"), entry("b")]
    catalog.close()


def test_a_closed_catalog_says_so(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path, create=True)
    catalog.close()
    catalog.close()

    with pytest.raises(Unavailable, match="closed"):
        catalog.add(entry("a"), None)

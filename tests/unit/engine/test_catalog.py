"""The catalog is durable before it says so, and what it cannot read it does not forget."""

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from vicinal.engine import catalog as catalog_module
from vicinal.engine.catalog import Catalog, CatalogEntry
from vicinal.errors import Corruption, IndexExists, IndexNotFound, LimitExceeded, Unavailable
from vicinal.model import Index, IndexAddress, IndexConfig, Metric
from vicinal.storage import sqlite as storage

MADE_AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def entry(name: str, account: str = "acme") -> CatalogEntry:
    config = IndexConfig(3, Metric.COSINE, preset="a preset")
    index = Index(name, f"the {name} of Zoë", config, MADE_AT)
    return CatalogEntry(IndexAddress(account, name), f"folder-of-{account}-{name}", index)


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

    assert catalog.remove(entry("a").address) == entry("a")
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
def test_a_changed_field_of_a_row_is_noticed(tmp_path: Path, column: str) -> None:
    catalog = Catalog(tmp_path, create=True)
    catalog.add(entry("a"), None)
    catalog.close()
    with sqlite3.connect(tmp_path / "catalog.db") as connection:
        connection.execute(f"UPDATE \"index\" SET {column} = CAST(replace({column}, 'a', 'b') AS"
                           f" {'BLOB' if column == 'document' else 'TEXT'})")  # fmt: skip
    connection.close()

    with pytest.raises(Corruption, match=r"index 'a?b?' in .*catalog\.db fails its checksum"):
        Catalog(tmp_path)


class Fault:
    """Makes the n-th call of a function from now on fail."""

    def __init__(self, real: Callable[..., object], at: int) -> None:
        self._real, self._left = real, at

    def __call__(self, *args: object) -> object:
        self._left -= 1
        if not self._left:
            raise sqlite3.OperationalError("database or disk is full")
        return self._real(*args)


@pytest.mark.parametrize("act", ["add", "remove"])
def test_a_change_that_fails_stops_all_changes_until_the_catalog_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    catalog = Catalog(tmp_path, create=True)
    catalog.add(entry("a"), None)
    with monkeypatch.context() as patch:
        patch.setattr(catalog_module, "transaction", Fault(storage.transaction, 1))
        with pytest.raises(Unavailable, match=r"catalog\.db.*full"):
            catalog.remove(entry("a").address) if act == "remove" else catalog.add(entry("b"), None)

    with pytest.raises(Unavailable, match="full"):
        catalog.add(entry("c"), None)
    with pytest.raises(Unavailable, match="full"):
        catalog.remove(entry("a").address)
    assert catalog.get(entry("a").address) == entry("a")

    catalog = reopened(catalog, tmp_path)
    catalog.add(entry("c"), None)
    catalog.close()


def test_folding_that_fails_does_not_undo_what_was_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = Catalog(tmp_path, create=True)
    with monkeypatch.context() as patch:
        patch.setattr(catalog_module, "fold", Fault(storage.fold, 1))
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

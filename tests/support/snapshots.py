"""Short words for tests of snapshots: a server's parts on a folder, and what is in them."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from tests.support.engines import DOCS, Record
from vicinal.engine.embedded import EmbeddedEngine, EngineOptions
from vicinal.model import IndexAddress, Query
from vicinal.ranking import TextQuery
from vicinal.snapshots.manifest import ServerSnapshot
from vicinal.snapshots.restoring import restore_folder
from vicinal.snapshots.sinks import StoreSink
from vicinal.snapshots.store import Store
from vicinal.snapshots.taking import Server, new_id, take_snapshot
from vicinal.snapshots.work import InlineWork, Work

Contents = Mapping[str, tuple[list[float], str, bytes]]
"""Id -> values, namespace, metadata."""


def points(first: int, last: int, color: str = "red") -> list[Record]:
    return [
        Record(
            f"v{n:04}",
            [n, 1.0],
            f"space-{n % 2}",
            {"color": color, "n": n, "body": f"fox w{n % 5}"},
        )
        for n in range(first, last)
    ]


def take(
    engine: EmbeddedEngine,
    data: Path,
    store: Path,
    snapshot_id: str = "",
    *,
    copies: bool = False,
    work: Work | None = None,
) -> ServerSnapshot:
    """Make a snapshot of an engine in a store."""
    opened = Store.create(store)
    snapshot_id = snapshot_id or new_id()
    with (
        opened.locked(writes=True),
        StoreSink(opened, snapshot_id, work or InlineWork(), copies=copies) as sink,
    ):
        return take_snapshot(Server(engine, data, "test"), sink, snapshot_id)


def restore(store: Path, snapshot_id: str, data: Path, *, copies: bool = False) -> None:
    """Restore a snapshot of a store to a new folder."""
    opened = Store(store)
    with opened.locked():
        restore_folder(opened, opened.manifest(snapshot_id), data, InlineWork(), copies=copies)


@contextmanager
def restored(store: Path, snapshot_id: str, data: Path) -> Iterator[EmbeddedEngine]:
    """Open what is restored, and remove it in the end."""
    restore(store, snapshot_id, data)
    with closing(EmbeddedEngine.open(data, EngineOptions())) as engine:
        yield engine
    shutil.rmtree(data)


def words(engine: EmbeddedEngine, address: IndexAddress = DOCS) -> Mapping[str, object]:
    """Return what texts find, with scores."""
    return {
        text: [
            (match.id, match.score)
            for match in engine.query(address, Query(1_000, text=TextQuery(text))).matches
        ]
        for text in ("fox", "w1 w2", "fox w3")
    }


def contents(engine: EmbeddedEngine, address: IndexAddress = DOCS) -> Contents:
    """Return all vectors of an index."""
    ids: list[str] = []
    cursor = None
    while True:
        page = engine.list(address, 1_000, cursor)
        ids += page.ids
        cursor = page.next_cursor
        if cursor is None:
            break
    return {
        vector.id: (vector.values.tolist(), vector.namespace, vector.metadata)
        for start in range(0, len(ids), 100)
        for vector in engine.get(address, ids[start : start + 100])
    }

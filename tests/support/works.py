"""Work during which things go wrong, and what may be found afterwards."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.support.crash import Readout, applied_seqno, read_all
from tests.support.engines import (
    APPLIED_WITHIN_S,
    DOCS,
    Record,
    apply,
    batch,
    create,
    insert,
    received,
    upsert,
)
from tests.support.model_engine import ModelEngine
from vicinal.engine.base import Engine
from vicinal.engine.embedded import EngineOptions
from vicinal.filters.nodes import Scalar
from vicinal.model import (
    CreateMetadataIndex,
    Delete,
    DeleteMetadataIndex,
    IndexAddress,
    IndexType,
    MetadataIndex,
    Seqno,
    Upsert,
)

OTHER = IndexAddress("acme", "other")
NEW = IndexAddress("acme", "new")
COLOR = MetadataIndex("color", IndexType.STRING)
SIZE = MetadataIndex("size", IndexType.NUMBER)
PROBES: list[tuple[str, Scalar]] = [("color", "red"), ("color", "blue"), ("size", 1.0)]
SEALS_BY_ITSELF = EngineOptions(memtable_rows_max=4)
SEALS_WHEN_ASKED = EngineOptions(memtable_rows_max=1000)


def points(first: int, last: int) -> list[Record]:
    return [
        Record(f"v{n}", [n, 1], f"n{n % 2}", {"color": ["red", "blue"][n % 2], "size": n % 3})
        for n in range(first, last)
    ]


def prepared(engine: Engine) -> None:
    """Two indexes; of `DOCS` some is sealed, some dead and some in the log alone."""
    create(engine, OTHER)
    insert(engine, Record("o", [1, 1]), address=OTHER)
    create(engine)
    apply(engine, CreateMetadataIndex(COLOR))
    upsert(engine, *points(0, 4))
    upsert(engine, *points(4, 8))
    engine.compact(DOCS)
    upsert(engine, *points(2, 5))
    apply(engine, Delete(["v7"]))


def prepared_to_merge(engine: Engine) -> None:
    prepared(engine)
    upsert(engine, *points(10, 14))
    upsert(engine, *points(20, 24))


def prepared_with_backfill(engine: Engine) -> None:
    prepared(engine)
    apply(engine, CreateMetadataIndex(SIZE, backfill=True))


def prepared_to_overtake(engine: Engine) -> None:
    """Metadata indexes come and go after the last seal."""
    prepared_with_backfill(engine)
    apply(engine, DeleteMetadataIndex("color"))
    apply(engine, CreateMetadataIndex(MetadataIndex("color", IndexType.NUMBER)))
    apply(engine, DeleteMetadataIndex("size"))


def receive(engine: Engine, *records: Record) -> None:
    """Upsert what comes over time."""
    accepted = received(engine, Upsert, batch(*records)).result(APPLIED_WITHIN_S)
    assert engine.wait_applied(DOCS, accepted.seqno, APPLIED_WITHIN_S)


@dataclass(frozen=True)
class Work:
    """Something during which the crash happens.

    Args:
        name: Shown in the names of tests.
        act: The work.
        prepare: What comes before it.
        options: Of the engine that does both.
    """

    name: str
    act: Callable[[Engine], object]
    prepare: Callable[[Engine], object] = prepared
    options: EngineOptions = SEALS_WHEN_ASKED


WORKS = [
    Work("create an index", lambda e: create(e, NEW)),
    Work("drop an index", lambda e: e.delete_index(DOCS)),
    Work("upsert", lambda e: upsert(e, *points(3, 30))),
    Work("upsert what came over time", lambda e: receive(e, *points(3, 90))),
    Work("insert", lambda e: insert(e, *points(6, 9))),
    Work("delete", lambda e: apply(e, Delete(["v1", "v4", "never"]))),
    Work("create a metadata index", lambda e: apply(e, CreateMetadataIndex(SIZE))),
    Work("backfill", lambda e: apply(e, CreateMetadataIndex(SIZE, backfill=True))),
    Work("drop a metadata index", lambda e: apply(e, DeleteMetadataIndex("color"))),
    Work("seal", lambda e: e.compact(DOCS)),
    Work("seal what was backfilled", lambda e: e.compact(DOCS), prepared_with_backfill),
    Work("seal what came and went", lambda e: e.compact(DOCS), prepared_to_overtake),
    Work("merge", lambda e: upsert(e, *points(30, 34)), prepared_to_merge, SEALS_BY_ITSELF),
    Work("close", lambda e: e.close()),
]


@dataclass(frozen=True)
class State:
    """All that can be read, index by index, and how far `DOCS` has come."""

    indexes: tuple[Readout | None, ...]
    seqno: Seqno | None


def state_of(engine: Engine) -> State:
    names = {info.name for info in engine.list_indexes("acme")}
    return State(
        tuple(
            read_all(engine, address, PROBES) if address.name in names else None
            for address in (DOCS, OTHER, NEW)
        ),
        applied_seqno(engine, DOCS) if DOCS.name in names else None,
    )


def modelled(*acts: Callable[[Engine], object]) -> State:
    model = ModelEngine()
    for act in acts:
        act(model)
    return state_of(model)


def works_on(engine: Engine) -> bool:
    """Tell whether an engine still writes, seals and finds, if it has the index."""
    if all(info.name != DOCS.name for info in engine.list_indexes("acme")):
        return True
    upsert(engine, Record("later", [9, 9]))
    engine.compact(DOCS)
    return [vector.id for vector in engine.get(DOCS, ["later"])] == ["later"]

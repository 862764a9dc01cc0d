"""Every implementation of the Engine seam, and the short words tests use to talk to one."""

import hashlib
import json
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.model_engine import ModelEngine
from tests.support.postgres import server
from vicinal.engine.base import Engine
from vicinal.engine.catalog import Catalog
from vicinal.engine.embedded import EmbeddedEngine, EngineOptions
from vicinal.engine.shared.engine import SharedEngine, SharedOptions
from vicinal.limits import Limits
from vicinal.model import (
    Accepted,
    BatchWriter,
    Floats,
    IndexAddress,
    IndexConfig,
    Insert,
    Metric,
    Mutation,
    Query,
    UnresolvedMutation,
    Upsert,
    VectorBatch,
)

DOCS = IndexAddress("acme", "docs")
APPLIED_WITHIN_S = 120.0  # far beyond what any engine needs; a test that waits so long fails


@dataclass(frozen=True, slots=True)
class Implementation:
    """One engine under the conformance suite.

    Args:
        name: Shown in the names of tests.
        build: Opens an engine that keeps its files in a folder.
        durable: Whether opening the folder again finds what was acknowledged.
        spoil: Damages the files of one index of a closed engine, or None when there are none.
        is_healed: Whether the engine has all that is in them elsewhere.
        is_new_at_opening: Whether it differs from another one in this alone, that every opening has
            an empty folder.
    """

    name: str
    build: Callable[[Path, Limits], Engine]
    durable: bool
    spoil: Callable[[Path, IndexAddress], None] | None = None
    is_healed: bool = False
    is_new_at_opening: bool = False


def spoil_embedded(folder: Path, address: IndexAddress) -> None:
    """Overwrite the second half of the log of one index of a closed embedded engine.

    Not a few bytes of it: most of a small log is room for more rows, where nothing is to be lost.
    """
    catalog = Catalog(folder)
    log = folder / "indexes" / catalog.get(address).folder / "index.db"
    catalog.close()
    raw = bytearray(log.read_bytes())
    raw[len(raw) // 2 :] = b"\xff" * (len(raw) - len(raw) // 2)
    log.write_bytes(raw)


def spoil_shared(folder: Path, _address: IndexAddress) -> None:
    """Overwrite the second half of every file of the copies of a closed node."""
    for path in (folder / "node" / "copies").rglob("*"):
        if path.is_file():
            raw = path.read_bytes()
            path.write_bytes(raw[: len(raw) // 2] + b"\xff" * (len(raw) - len(raw) // 2))


def shared_schema(folder: Path) -> str:
    """Return the name of the schema that all nodes with folders in `folder` have."""
    return f"test_{hashlib.sha256(str(folder).encode()).hexdigest()[:32]}"


def open_shared(
    folder: Path, limits: Limits, node: Path | None = None, **options: Any
) -> SharedEngine:
    """Open a node of the shared engine; what has the same folder has the same database."""
    options = {"dsn": server().dsn, "open_wait_s": APPLIED_WITHIN_S, **options}
    shared = SharedOptions(schema=shared_schema(folder), index=EngineOptions(limits), **options)
    return SharedEngine.open(node or folder / "node", shared)


BUILDERS = [
    Implementation("model", lambda _folder, limits: ModelEngine(limits), durable=False),
    Implementation(
        "embedded",
        lambda folder, limits: EmbeddedEngine.open(folder, EngineOptions(limits)),
        durable=True,
        spoil=spoil_embedded,
    ),
    Implementation(
        # So small a memtable that almost everything is in segments, which merge all the time.
        "embedded, always sealing",
        lambda folder, limits: EmbeddedEngine.open(
            folder, EngineOptions(limits, memtable_rows_max=2, memtables_max=1_000_000)
        ),
        durable=True,
        spoil=spoil_embedded,
    ),
]

BUILDERS += [
    Implementation("shared", open_shared, durable=True, spoil=spoil_shared, is_healed=True),
    Implementation(
        "shared, every opening a new empty node",
        lambda folder, limits: open_shared(folder, limits, folder / uuid.uuid4().hex),
        durable=True,
        is_new_at_opening=True,
    ),
]


@dataclass(frozen=True, slots=True)
class Record:
    """A vector as a test writes it down."""

    id: str
    values: Sequence[float]
    namespace: str = ""
    metadata: dict[str, object] | None = None


def batch(*records: Record) -> VectorBatch:
    """Lay records out column by column."""
    return VectorBatch(
        ids=[record.id for record in records],
        values=np.array([record.values for record in records], np.float32),
        namespaces=[record.namespace for record in records],
        metadata=[
            b"" if record.metadata is None else compact(record.metadata) for record in records
        ],
    )


def compact(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def create(
    engine: Engine,
    address: IndexAddress = DOCS,
    *,
    dimensions: int = 2,
    metric: Metric = Metric.EUCLIDEAN,
) -> None:
    engine.create_index(address, IndexConfig(dimensions, metric), None)


def put(writer: BatchWriter, values: Floats) -> None:
    """Put rows into a batch."""
    while len(values):
        free = writer.free()[: len(values)]
        free[:] = values[: len(free)]
        writer.advance(len(free))
        values = values[len(free) :]


def written(writer: BatchWriter, vectors: VectorBatch) -> VectorBatch:
    """Return the batch that a writer makes of these vectors."""
    put(writer, vectors.values)
    return writer.batch(vectors.ids, vectors.namespaces, vectors.metadata)


def received(
    engine: Engine, kind: type[Insert | Upsert], vectors: VectorBatch, address: IndexAddress = DOCS
) -> Future[Accepted]:
    """Append vectors that were received over time."""
    with closing(engine.open_batch(address)) as writer:
        return engine.append(address, kind(written(writer, vectors)))


def apply(
    engine: Engine, mutation: Mutation | UnresolvedMutation, address: IndexAddress = DOCS
) -> Accepted:
    """Append a mutation and wait until queries see it."""
    accepted = engine.append(address, mutation).result(APPLIED_WITHIN_S)
    assert engine.wait_applied(address, accepted.seqno, APPLIED_WITHIN_S)
    return accepted


def insert(engine: Engine, *records: Record, address: IndexAddress = DOCS) -> Accepted:
    return apply(engine, Insert(batch(*records)), address)


def upsert(engine: Engine, *records: Record, address: IndexAddress = DOCS) -> Accepted:
    return apply(engine, Upsert(batch(*records)), address)


def vector(*values: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.array(values, np.float32)


def found(engine: Engine, query: Query, address: IndexAddress = DOCS) -> list[str]:
    """Return the ids a query finds, best first."""
    return [match.id for match in engine.query(address, query).matches]

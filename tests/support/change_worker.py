"""A process to be killed: it changes one group of an index by filter, once.

    python -m tests.support.change_worker FOLDER fill
    python -m tests.support.change_worker FOLDER delete|patch GROUP STEP

It prints ``begun`` before the change and ``acknowledged`` when that is durable.
"""

import sys
from pathlib import Path

from tests.support.engines import DOCS, Record, apply, create, insert
from vicinal import metadata
from vicinal.engine.embedded import EmbeddedEngine, EngineOptions
from vicinal.filters.nodes import Operator, Predicate
from vicinal.model import (
    CreateMetadataIndex,
    DeleteScope,
    IndexType,
    MetadataIndex,
    PatchMetadata,
    Scope,
)

COUNT, GROUPS = 6_000, 6


def fill(folder: Path) -> None:
    engine = EmbeddedEngine.open(folder)
    create(engine)
    apply(engine, CreateMetadataIndex(MetadataIndex("g", IndexType.NUMBER)))
    records = [Record(f"v{n}", [n, 1], "", {"g": n % GROUPS}) for n in range(COUNT)]
    insert(engine, *records[: COUNT // 2])
    engine.compact(DOCS)
    insert(engine, *records[COUNT // 2 :])
    engine.close()


def change(folder: Path, kind: str, group: int, step: int) -> None:
    engine = EmbeddedEngine.open(folder, EngineOptions(memtable_rows_max=1_500))
    scope = Scope(filter=(Predicate("g", Operator.EQ, (float(group),)),))
    patch = PatchMetadata(scope, metadata.encode({"step": step}))
    engine.status(DOCS)
    print("begun", flush=True)  # noqa: T201 for the process that kills this one
    engine.append(DOCS, DeleteScope(scope) if kind == "delete" else patch).result()
    print("acknowledged", flush=True)  # noqa: T201 as above
    sys.stdin.read()


if __name__ == "__main__":
    path, kind = Path(sys.argv[1]), sys.argv[2]
    if kind == "fill":
        print("begun", flush=True)  # noqa: T201 as above
        fill(path)
    else:
        change(path, kind, int(sys.argv[3]), int(sys.argv[4]))

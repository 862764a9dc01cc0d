"""Stores of every kind with the same indexes, and what is equal about two of them."""

import atexit
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from tests.support.postgres import fresh_schema, server
from vicinal.cli import main
from vicinal.engine.contents import HasContents
from vicinal.engine.embedded import EmbeddedEngine, EngineOptions
from vicinal.engine.shared.engine import SharedEngine, SharedOptions
from vicinal.filters.nodes import Operator, Predicate, Scalar
from vicinal.limits import PROFILES
from vicinal.model import (
    CreateMetadataIndex,
    Delete,
    DeleteMetadataIndex,
    Effort,
    IndexAddress,
    IndexConfig,
    IndexType,
    MetadataIndex,
    Metric,
    Mutation,
    Query,
    Upsert,
    VectorBatch,
)
from vicinal.ranking import TextQuery

BOOKS = IndexAddress("acme", "books")
SMALL = IndexAddress("other", "small")
EMPTY = IndexAddress("acme", "empty")
LIMITS = PROFILES["open"]
DIMENSIONS = 6
_SPECIAL = np.array([-0.0, 1e-42, 3.4e38, -1.1754942e-38, 0.1, 1 / 3], np.float32)
_EVERYTHING: Mapping[IndexType, tuple[Operator, Scalar]] = {
    IndexType.STRING: (Operator.GTE, ""),
    IndexType.NUMBER: (Operator.GTE, -1e308),
    IndexType.BOOLEAN: (Operator.IN, True),
}


def rows(first: int, count: int, *, seed: int = 11) -> Upsert:
    """Vectors with every kind of metadata, some without, and values that few formats keep."""
    random = np.random.default_rng(seed + first)
    values = random.standard_normal((count, DIMENSIONS)).astype(np.float32)
    values[0] = _SPECIAL
    metadata = [
        b"" if row % 7 == 0 else
        f'{{"kind":"k{row % 3}","n":{row},"title":"Books of w{row % 5}","deep":{{"on":true}},'
        f'"\u00e9":["a",null,1.5]}}'.encode()
        for row in range(first, first + count)
    ]  # fmt: skip
    return Upsert(
        VectorBatch(
            [f"id {row:05} \u00e9\x00" for row in range(first, first + count)],
            values,
            ["" if row % 5 == 0 else f"space {row % 4}" for row in range(first, first + count)],
            metadata,
        )
    )


def create_property(name: str, index_type: IndexType, *, backfill: bool = False) -> Mutation:
    language = "english" if index_type is IndexType.TEXT else None
    return CreateMetadataIndex(MetadataIndex(name, index_type, language), backfill)


def apply(engine: HasContents, address: IndexAddress, mutation: Mutation) -> None:
    accepted = engine.append(address, mutation).result()
    assert engine.wait_applied(address, accepted.seqno, 60)


def populate(engine: HasContents, *, count: int = 400) -> None:
    """Make three indexes: one with a history, a small one of another account, an empty one."""
    config = IndexConfig(DIMENSIONS, Metric.EUCLIDEAN, effort=Effort.HIGH, model="@x/some")
    engine.create_index(BOOKS, config, "every book")
    quarter = count // 4
    for mutation in (
        create_property("old", IndexType.STRING),
        rows(0, quarter),
        create_property("kind", IndexType.STRING),
        rows(quarter, quarter),
        create_property("title", IndexType.TEXT),
        create_property("n", IndexType.NUMBER, backfill=True),
        create_property("deep.on", IndexType.BOOLEAN),
        rows(2 * quarter, quarter),
        DeleteMetadataIndex("old"),
        Delete([f"id {row:05} \u00e9\x00" for row in range(5, count, 40)]),
        rows(10, 20, seed=99),  # written again, so they are in all the metadata indexes
        rows(3 * quarter, count - 3 * quarter),
    ):
        apply(engine, BOOKS, mutation)
    engine.create_index(SMALL, IndexConfig(3, Metric.COSINE), None)
    apply(engine, SMALL, Upsert(VectorBatch(["a"], np.ones((1, 3), np.float32), [""], [b""])))
    engine.create_index(EMPTY, IndexConfig(2, Metric.DOT_PRODUCT), "nothing yet")


Contents = dict[str, Any]


def contents_of(engine: HasContents, *, with_coverage: bool = True) -> dict[str, Contents]:
    """Everything that a client could find out about the indexes of an engine."""
    found: dict[str, Contents] = {}
    for address in engine.addresses():
        index = engine.get_index(address)
        ids: list[str] = []
        cursor: str | None = None
        while True:
            page = engine.list(address, 1_000, cursor)
            ids += page.ids
            cursor = page.next_cursor
            if cursor is None:
                break
        vectors = {
            vector.id: (vector.values.tobytes(), vector.namespace, vector.metadata)
            for vector in engine.get(address, ids)
        }
        assert len(ids) == len(vectors), "an id is listed twice"
        metadata_indexes = list(engine.list_metadata_indexes(address))
        found[f"{address.account}/{address.name}"] = {
            "config": index.config,
            "description": index.description,
            "vectors": vectors,
            "metadata indexes": metadata_indexes,
            "covered": {
                each.property_name: covered(engine, address, each) for each in metadata_indexes
            }
            if with_coverage
            else None,
        }
    return found


def covered(engine: HasContents, address: IndexAddress, index: MetadataIndex) -> frozenset[str]:
    """The ids that a metadata index has."""
    if index.index_type is IndexType.TEXT:
        text = TextQuery("book", weights=((index.property_name, 1.0),))
        matches = engine.query(address, Query(1_000, text=text)).matches
        return frozenset(match.id for match in matches)
    operator, operand = _EVERYTHING[index.index_type]
    vector = np.ones(engine.get_index(address).config.dimensions, np.float32)
    filter_ = (Predicate(index.property_name, operator, (operand,)),)
    query = Query(1_000, vector=vector, filter=filter_, effort=Effort.EXACT)
    return frozenset(match.id for match in engine.query(address, query).matches)


def filled_folder(folder: Path, memtable_rows_max: int = 20_000) -> dict[str, Contents]:
    """Make a folder with the indexes of `populate`, by a copy of one that is made once."""
    first, expected = _filled(memtable_rows_max)
    shutil.copytree(first, folder)
    return dict(expected)


@functools.cache
def _filled(memtable_rows_max: int) -> tuple[Path, dict[str, Contents]]:
    folder = Path(tempfile.mkdtemp(prefix="vicinal-test-")) / "data"
    atexit.register(shutil.rmtree, folder.parent, ignore_errors=True)
    with folder_engine(folder, memtable_rows_max=memtable_rows_max) as engine:
        populate(engine)
        return folder, contents_of(engine)


@contextmanager
def folder_engine(folder: Path, **options: Any) -> Iterator[EmbeddedEngine]:
    options = {"memtables_max": 1_000_000, **options}
    with closing(EmbeddedEngine.open(folder, EngineOptions(LIMITS, **options))) as engine:
        yield engine


@contextmanager
def database_engine(node: Path, schema: str) -> Iterator[SharedEngine]:
    options = SharedOptions(server().dsn, schema, open_wait_s=60.0, index=EngineOptions(LIMITS))
    with closing(SharedEngine.open(node, options)) as engine:
        yield engine


class Commands:
    """The command line with a state folder of its own, in this process or in one to be killed."""

    def __init__(self, folder: Path) -> None:
        self._environment = {"XDG_STATE_HOME": str(folder / "state"), "TERM": "dumb"}
        self.state = folder / "state"

    def run(self, *arguments: str | Path) -> Result:
        return CliRunner().invoke(
            main, ["copy", *map(str, arguments)], env=self._environment, catch_exceptions=True
        )

    def ok(self, *arguments: str | Path) -> str:
        result = self.run(*arguments)
        assert result.exit_code == 0, result.output + repr(result.exception)
        return result.stdout

    def fails(self, *arguments: str | Path) -> str:
        result = self.run(*arguments)
        assert result.exit_code in (1, 2), result.output
        assert isinstance(result.exception, SystemExit), repr(result.exception)
        return result.stderr

    def killed_at(self, save: int, *arguments: str | Path, after: bool) -> None:
        """Run the command in a process that is killed before or after a save of the journal."""
        done = subprocess.run(
            [sys.executable, "-c", _KILLED, str(save), str(int(after)), *map(str, arguments)],
            env=os.environ | self._environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == -9, done.stdout + done.stderr


_KILLED = """
import os, signal, sys
from vicinal.cli import main
from vicinal.moving.journal import Journal
from vicinal.engine import contents
from vicinal.engine.shared import filling

contents.BATCH_ROWS = filling.BATCH_ROWS = 30
at, is_after, save, count = int(sys.argv[1]), sys.argv[2] == "1", Journal.save, 0

def killing(*arguments):
    global count
    count += 1
    if count == at and not is_after:
        os.kill(os.getpid(), signal.SIGKILL)
    save(*arguments)
    if count == at and is_after:
        os.kill(os.getpid(), signal.SIGKILL)

Journal.save = killing
main(["copy", *sys.argv[3:]])
"""


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    monkeypatch.chdir(tmp_path)
    return Commands(tmp_path)


@pytest.fixture
def schema() -> str:
    server()
    return fresh_schema()

"""docs/format.md names every file, table and array of a real data folder, and nothing else."""

import contextlib
import re
import sqlite3
import struct
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import numpy as np
import pytest
from zlib_ng.zlib_ng import crc32

from tests.support.ann import one_list
from tests.support.engines import DOCS, apply, put
from tests.support.waiting import wait_until
from vicinal import settings
from vicinal.ann.graph import DEGREE, CodeGraph
from vicinal.ann.graph_kind import GraphKind
from vicinal.d1.databases import Databases
from vicinal.d1.messages import Statement
from vicinal.engine import embedded
from vicinal.engine.embedded import EmbeddedEngine, EngineOptions
from vicinal.model import (
    CreateMetadataIndex,
    Delete,
    Floats,
    IndexConfig,
    IndexType,
    Insert,
    MetadataIndex,
    Metric,
    VectorBatch,
)
from vicinal.segment import format as segment_format
from vicinal.storage import files
from vicinal.storage.files import ComponentFile, Seal
from vicinal.tokens import Permission, Tokens

PAGE = (Path(__file__).parents[1] / "docs" / "format.md").read_text(encoding="utf-8")
DIMENSIONS = 64
ROWS = 4_500  # codes serve segments of 4,000 and more
SEED = 20_240_521


class Array(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int


class Trailer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    kind: str
    version: int
    arrays: tuple[Array, ...]
    blocks: tuple[int, ...]
    block_bytes: int


_ARRAY = re.compile(r"^\| (`[^|]+`) \| `(\w+)` \| [^|]+ \| ([^|]+) \| [^|]+ \|$", re.MULTILINE)
_PLACEHOLDERS = {
    "uuid": r"[0-9a-f-]{36}",
    "seqno": r"\d{8}",
    "number": r"\d+",
    "account": r"[^/]+",
    "database": r"[^/]+",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data folder with everything in it, while all that writes to it has it open."""
    folder = tmp_path_factory.mktemp("data")
    with contextlib.ExitStack() as opened:
        fill_index(folder, opened)
        fill_beside(folder, opened)
        yield folder


def fill_index(folder: Path, opened: contextlib.ExitStack) -> None:
    options = EngineOptions(memtable_rows_max=ROWS, merges=False, idle_s=3_600)
    engine = EmbeddedEngine.open(folder, options)
    opened.callback(engine.close)
    engine.create_index(DOCS, IndexConfig(DIMENSIONS, Metric.COSINE), None)
    for kind in IndexType:
        apply(engine, CreateMetadataIndex(MetadataIndex(kind.value, kind)))
    apply(engine, insert(0, ROWS))
    wait_until(lambda: len(list(folder.glob("indexes/*/segments/[0-9]*[0-9]"))) == 1)
    apply(engine, Delete([f"v{n}" for n in range(10)]))
    apply(engine, insert(ROWS, ROWS))
    wait_until(lambda: len(list(folder.glob("indexes/*/segments/[0-9]*[0-9]"))) == 2)
    write_graph(next(folder.glob("indexes/*/segments/[0-9]*[0-9]")))
    wait_until(lambda: not list(folder.glob("indexes/*/blobs/*")))
    apply(engine, insert(2 * ROWS, 2_000))  # stays in the log, in a blob file
    writer = engine.open_batch(DOCS)
    opened.callback(writer.close)
    put(writer, vectors(20_000))  # is still being received


def write_graph(segment: Path) -> None:
    """Put the file there that segments of 200,000 rows have, for the rows of a small one."""
    raw = (segment / "codes").read_bytes()
    size, checksum = len(raw), struct.unpack("<II8s", raw[-16:])[1]
    codes = ComponentFile(segment / "codes", "codes", Seal(size, checksum))
    neighbours = np.zeros((ROWS, DEGREE), np.uint32)
    graph = CodeGraph(neighbours, one_list([0]), ((1, 1), (1, 1), (1, 1)), ROWS)
    arrays = {**codes, **graph.arrays()}
    assert set(arrays) == set(GraphKind().layout(ROWS))
    files.write(segment / "graph", "graph", arrays)


def fill_beside(folder: Path, opened: contextlib.ExitStack) -> None:
    tokens = Tokens(folder / settings.TOKENS_FILE)
    opened.callback(tokens.close)
    tokens.create("laptop", Permission.READ)
    databases = Databases(folder / "d1")
    opened.callback(databases.stop)
    databases.execute("acme", "texts", [Statement("CREATE TABLE text (id TEXT)")])


def vectors(count: int) -> Floats:
    return np.random.default_rng(SEED).standard_normal((count, DIMENSIONS)).astype(np.float32)


def insert(first: int, count: int) -> Insert:
    return Insert(
        VectorBatch(
            [f"v{first + n}" for n in range(count)],
            vectors(count),
            [f"space {n % 3}" for n in range(count)],
            [
                b'{"string":%s,"number":%d,"boolean":true}' % (b'["a"]' if n % 7 else b'"a"', n)
                for n in range(count)
            ],
        )
    )


def listed_files() -> dict[str, re.Pattern[str]]:
    """Return the files of the page's tree, as patterns of their paths."""
    [tree] = re.findall(r"^```\nDATA/\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    entries = re.findall(r"^( {2,12})(\S+)", tree, re.MULTILINE)
    found: dict[str, re.Pattern[str]] = {}
    parents: list[str] = []
    for indent, name in entries:
        parents = parents[: len(indent) // 2 - 1]
        if name.endswith("/"):
            parents.append(name)
        else:
            path = "".join([*parents, name])
            found[path] = re.compile(pattern(path))
    return found


def pattern(path: str) -> str:
    parts = re.split(r"<(\w+)>", path)
    return "".join(
        _PLACEHOLDERS[part] if place % 2 else re.escape(part) for place, part in enumerate(parts)
    )


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_every_file_of_a_data_folder_is_in_the_tree(data: Path) -> None:
    beside_sqlite = re.compile(r"(.+\.(?:db|sqlite))-(?:wal|shm)")
    names = {beside_sqlite.sub(r"\1", name) for name in files_in(data)}

    unnamed = {n for n in names if not any(p.fullmatch(n) for p in listed_files().values())}

    assert unnamed == set()
    assert "`-wal`" in PAGE
    assert "`-shm`" in PAGE


def test_every_entry_of_the_tree_is_there(data: Path) -> None:
    names = files_in(data)

    absent = {
        path for path, wanted in listed_files().items() if not any(map(wanted.fullmatch, names))
    }

    assert len(listed_files()) > 8
    assert absent == set()


def listed_arrays() -> dict[str, dict[str, str]]:
    """Return file -> array -> type, of the table of arrays."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    rows = re.findall(
        r"^\| (`[^|]+`) \| `(\w+)` \| [^|]+ \| ([^|]+) \| [^|]+ \|$", PAGE, re.MULTILINE
    )
    for names, array, dtype in rows:
        for name in re.findall(r"`([^`]+)`", names):
            found[name][array] = dtype
    return dict(found)


def arrays_in(folder: Path) -> Mapping[str, Mapping[str, set[str]]]:
    """Return file -> array -> its types, of every component file."""
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for path in folder.glob("indexes/*/*/**/*"):
        if not path.is_file() or path.suffix == ".part":
            continue
        name = "blobs/<seqno>" if path.parent.name == "blobs" else path.name
        for entry in trailer(path).arrays:
            found[re.sub(r"\d+$", "<number>", name)][entry.name].add(np.dtype(entry.dtype).name)
    return found


def trailer(path: Path) -> Trailer:
    """Read a component file's trailer as the page describes it."""
    raw = path.read_bytes()
    size, checksum, magic = struct.unpack("<II8s", raw[-16:])
    found = raw[-16 - size : -16]
    assert magic == raw[:8] == b"VICINAL\n"
    assert crc32(found) == checksum
    return msgspec.json.decode(found, type=Trailer)


def test_the_table_of_arrays_is_that_of_the_files(data: Path) -> None:
    written = {
        name: {array: " or ".join(sorted(types)) for array, types in arrays.items()}
        for name, arrays in arrays_in(data).items()
    }

    assert listed_arrays() == written


def test_the_docstring_of_segments_names_the_arrays_of_each_file(data: Path) -> None:
    assert segment_format.__doc__ is not None
    lines = re.findall(r"^    (\w+) +(`.*(?:\n {17}`.*)*)$", segment_format.__doc__, re.MULTILINE)
    written = arrays_in(data)

    named = {file: set(re.findall(r"`(\w+)`", text)) for file, text in lines}

    files_named = ("values", "ids", "metadata", "codes", "graph")
    assert named == {file: set(written[file]) for file in files_named}


def test_the_docstring_of_the_engine_names_what_it_keeps(data: Path) -> None:
    text = embedded.__doc__ or ""
    [index] = data.glob("indexes/*")
    ours = {path.name for path in data.iterdir()} - {"d1", "tokens-required"}
    kept = {name for name in ours if not name.startswith("tokens.db")}
    kept |= {path.name for path in index.iterdir()}

    assert {name for name in kept if not name.endswith("-wal") and name not in text} == set()


@pytest.mark.parametrize(
    ("file", "glob"),
    [
        ("catalog.db", "catalog.db"),
        ("index.db", "indexes/*/index.db"),
        ("tokens.db", "tokens.db"),
    ],
)
def test_every_table_and_column_of_sqlite_is_named(
    data: Path, tmp_path: Path, file: str, glob: str
) -> None:
    [path] = data.glob(glob)

    assert listed_columns(file) == columns_in(copied(path, tmp_path))


def copied(path: Path, folder: Path) -> Path:
    """Copy an open database with its write-ahead log, as the original is locked."""
    for suffix in ("", "-wal"):
        original = path.with_name(path.name + suffix)
        if original.exists():
            (folder / original.name).write_bytes(original.read_bytes())
    return folder / path.name


def columns_in(path: Path) -> set[str]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        return {
            f"{table}.{row[1]}"
            for (table,) in tables.fetchall()
            for row in connection.execute(f'PRAGMA table_info("{table}")')
        }


def listed_columns(file: str) -> set[str]:
    heading = rf"^\*\*{re.escape(file)}\*\*(.*?)^(?=\*\*|##)"
    [section] = re.findall(heading, PAGE, re.MULTILINE | re.DOTALL)
    return {
        f"{table}.{column}"
        for table, text in re.findall(r"Table `(\w+)`(.*?)(?=Table `|\Z)", section, re.DOTALL)
        for column in re.findall(r"`(\w+)`", text)
    }

"""`vicinal copy` to other products and back, each by its own client: no index loses anything."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.clients.test_other_stores import ENVIRONMENT
from tests.support import shell
from tests.support.installed import python_project
from tests.support.pgvector import pgvector_server
from tests.support.postgres import LOCKED, Postgres
from tests.unit.moving.conftest import _KILLED, apply, contents_of, create_property, folder_engine
from vicinal.model import (
    Delete,
    Effort,
    IndexAddress,
    IndexConfig,
    IndexType,
    Metric,
    Upsert,
    VectorBatch,
)

pytestmark = pytest.mark.clients

PRODUCTS = ("qdrant", "chroma", "lancedb", "pgvector")
COUNT = 700
BOOKS, UNIT = IndexAddress("local", "books"), IndexAddress("local", "unit")
UUID = "0b5f0f6e-8a43-4b1e-9d37-5f5d2b9d7c11"
_PATH = "import sys; sys.path.append(sys.argv.pop(1))\n"
_VICINAL = f"{_PATH}from vicinal.cli import main; main()"

Copy = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def packages() -> Path:
    environment = python_project(ENVIRONMENT).parent.parent
    (found,) = environment.glob("lib/python*/site-packages")
    return found


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with pgvector_server() as server:
        server.sql("CREATE EXTENSION vector")
        yield server


@pytest.fixture
def copy(tmp_path: Path, packages: Path) -> Copy:
    def copy(*arguments: str | Path, program: str = _VICINAL) -> "subprocess.CompletedProcess[str]":
        words = ("copy", *arguments) if program == _VICINAL else arguments
        return subprocess.run(
            [sys.executable, "-c", program, packages, *words],
            env=shell.environment(XDG_STATE_HOME=str(tmp_path / "state")),
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )

    return copy


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """The name of an empty store of a product."""

    def place(product: str) -> str:
        if product != "pgvector":
            return f"{product}:{tmp_path / product}"
        server: Postgres = request.getfixturevalue("database")
        schema = f"s{abs(hash(str(tmp_path)))}"
        server.sql(f"DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema}")
        return f"pgvector:{server.dsn}?search_path={schema},public"

    return place


def fill(folder: Path, count: int = COUNT, *, seed: int = 3) -> None:
    """Make two indexes: one of all kinds of ids and metadata, and one of vectors of length one."""
    random = np.random.default_rng(seed)
    values = random.standard_normal((count, 5)).astype(np.float32)
    documents: list[Any] = [
        {"kind": f"k{row % 3}", "n": row, "deep": {"list": [1, None, "x"]}, "ok": row % 2 == 0}
        if row % 4 else None if row % 8 else {"f": row / 7, "s": "é", "big": 2**60}
        for row in range(count)
    ]  # fmt: skip
    ids = [str(row) if row % 3 else f"id {row} é" for row in range(count)]
    ids[0] = UUID
    batch = VectorBatch(
        ids, values, ["" if row % 5 else f"space {row % 2}" for row in range(count)],
        [b"" if document is None else json.dumps(document).encode() for document in documents],
    )  # fmt: skip
    with folder_engine(folder) as engine:
        config = IndexConfig(5, Metric.EUCLIDEAN, effort=Effort.HIGH, model="@x/some")
        engine.create_index(BOOKS, config, "every book's")
        apply(engine, BOOKS, create_property("kind", IndexType.STRING))
        apply(engine, BOOKS, create_property("n", IndexType.NUMBER))
        apply(engine, BOOKS, Upsert(batch))
        engine.create_index(UNIT, IndexConfig(5, Metric.COSINE), None)
        unit = values / np.linalg.norm(values, axis=1, keepdims=True)
        apply(engine, UNIT, Upsert(VectorBatch(ids, unit, [""] * count, [b""] * count)))


def read(folder: Path) -> dict[str, Any]:
    """All that is in a folder's indexes, metadata as objects."""
    with folder_engine(folder) as engine:
        found = contents_of(engine, with_coverage=False)
    for index in found.values():
        index["vectors"] = {
            id_: (np.frombuffer(raw, np.float32), namespace, json.loads(metadata or b"null"))
            for id_, (raw, namespace, metadata) in index["vectors"].items()
        }
    return found


def check_equal(first: dict[str, Any], second: dict[str, Any], product: str) -> None:
    assert first.keys() == second.keys()
    for name in first:
        expected, found = first[name], second[name]
        assert expected["config"] == found["config"]
        assert expected["description"] == found["description"]
        if product != "lancedb":
            assert expected["metadata indexes"] == found["metadata indexes"]
        assert expected["vectors"].keys() == found["vectors"].keys()
        for id_, (values, namespace, document) in expected["vectors"].items():
            its_values, its_namespace, its_document = found["vectors"][id_]
            assert (namespace, document) == (its_namespace, its_document), id_
            rounding = 1e-6 if name.endswith("unit") else 0.0  # Qdrant scales to length one
            assert np.abs(values - its_values).max() <= rounding, id_


@pytest.mark.parametrize("product", PRODUCTS)
def test_indexes_go_there_and_back(
    product: str, tmp_path: Path, copy: Copy, place: Callable[[str], str]
) -> None:
    fill(tmp_path / "first")
    store = place(product)
    before = set(tmp_path.iterdir())

    planned = copy(tmp_path / "first", store, "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert f"would copy 2 indexes with {2 * COUNT:,} vectors" in planned.stdout
    assert set(tmp_path.iterdir()) == before, "a dry run made something"
    there = copy(tmp_path / "first", store)
    assert there.returncode == 0, there.stderr
    back = copy(store, tmp_path / "second")
    assert back.returncode == 0, back.stderr

    check_equal(read(tmp_path / "first"), read(tmp_path / "second"), product)
    again = copy(tmp_path / "first", store)
    assert again.returncode == 1
    assert "already, with 700 vectors; --into writes to it" in again.stderr


@pytest.mark.parametrize("product", PRODUCTS)
def test_into_a_collection_that_is_there_vectors_are_replaced_whole(
    product: str, tmp_path: Path, copy: Copy, place: Callable[[str], str]
) -> None:
    store = place(product)
    fill(tmp_path / "first")
    assert copy(tmp_path / "first", store).returncode == 0
    fill(tmp_path / "newer", 50, seed=4)
    with folder_engine(tmp_path / "newer") as engine:
        apply(engine, BOOKS, Delete([UUID]))
        batch = VectorBatch(["1"], np.ones((1, 5), np.float32), [""], [b'{"only":1}'])
        apply(engine, BOOKS, Upsert(batch))

    done = copy(tmp_path / "newer", store, "--into")
    assert done.returncode == 0, done.stderr
    assert copy(store, tmp_path / "second").returncode == 0

    first, newer, second = (read(tmp_path / name) for name in ("first", "newer", "second"))
    for name, index in first.items():
        index["vectors"] |= newer[name]["vectors"]
    check_equal(first, second, product)


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("save", [2, 5])
def test_a_copy_that_is_killed_goes_on(
    product: str, save: int, tmp_path: Path, copy: Copy, place: Callable[[str], str]
) -> None:
    fill(tmp_path / "first", 100)
    store = place(product)

    killed = copy(str(save), "0", tmp_path / "first", store, program=_PATH + _KILLED)
    assert killed.returncode == -9, killed.stderr
    done = copy(tmp_path / "first", store)
    assert done.returncode == 0, done.stderr
    assert copy(store, tmp_path / "second").returncode == 0

    check_equal(read(tmp_path / "first"), read(tmp_path / "second"), product)


def test_a_table_of_somebody_elses_is_read_and_what_has_no_home_is_named(
    database: Postgres, tmp_path: Path, copy: Copy
) -> None:
    database.sql(
        "CREATE SCHEMA shop; SET search_path = shop, public;"
        "CREATE TABLE items (sku varchar(20) PRIMARY KEY, embedding vector(3), title text,"
        " price numeric(8,2), tags text[], metadata jsonb, added timestamptz, small halfvec(2));"
        "CREATE INDEX ON items USING hnsw (embedding vector_cosine_ops);"
        "CREATE INDEX ON items (title);"
        "INSERT INTO items SELECT 'sku ' || n, ARRAY[n, 1, 0.5]::real[]::vector,"
        " CASE WHEN n <> 3 THEN 'title ' || n END, n / 4.0, ARRAY['a', 'b'],"
        " jsonb_build_object('deep', jsonb_build_object('n', n)), now(), '[1,2]'"
        " FROM generate_series(1, 5200) n;"
        "CREATE TABLE nokey (embedding vector(3));"
        "CREATE TABLE plain (id bigint PRIMARY KEY, v halfvec(3));"
        "INSERT INTO plain SELECT n, '[1,2,3]' FROM generate_series(1, 3) n"
    )
    source = f"pgvector:{database.dsn}?search_path=shop,public"

    refused = copy(source, tmp_path / "data")
    assert refused.returncode == 1
    for thing in (
        "index local/items: column 'added' of type timestamp with time zone",
        "index local/items: column 'small' of type halfvec(2)",
        "index local/nokey: 'nokey' has no primary key of one column",
    ):
        assert thing in refused.stderr, refused.stderr
    done = copy(source, tmp_path / "data", "--leave-out")
    assert done.returncode == 0, done.stderr

    found = read(tmp_path / "data")
    items, plain = found["local/items"], found["local/plain"]
    assert items["config"] == IndexConfig(3, Metric.COSINE)
    assert [index.property_name for index in items["metadata indexes"]] == ["title"]
    assert len(items["vectors"]) == 5_200
    values, _, document = items["vectors"]["sku 7"]
    assert values.tolist() == [7, 1, 0.5]
    assert document == {
        "title": "title 7", "price": 1.75, "tags": ["a", "b"], "deep": {"n": 7},
    }  # fmt: skip
    assert "title" not in items["vectors"]["sku 3"][2]
    assert plain["config"] == IndexConfig(3, Metric.EUCLIDEAN)
    assert sorted(plain["vectors"]) == ["1", "2", "3"]


def test_a_table_that_no_copy_made_is_not_written(
    database: Postgres, tmp_path: Path, copy: Copy
) -> None:
    fill(tmp_path / "first", 10)
    database.sql("CREATE SCHEMA taken; CREATE TABLE taken.books (id text, embedding vector(5))")
    store = f"pgvector:{database.dsn}?search_path=taken,public"

    refused = copy(tmp_path / "first", store, "--into")

    assert refused.returncode == 1
    assert "table 'books' is in pgvector:" in refused.stderr
    assert "was not made by a copy" in refused.stderr
    assert database.sql("SELECT count(*) FROM taken.books") == "0"


def test_text_that_postgresql_cannot_keep_is_named(
    database: Postgres, tmp_path: Path, copy: Copy, place: Callable[[str], str]
) -> None:
    fill(tmp_path / "first", 10)
    with folder_engine(tmp_path / "first") as engine:
        batch = VectorBatch(["nul"], np.ones((1, 5), np.float32), [""], [b'{"a":"x\\u0000"}'])
        apply(engine, BOOKS, Upsert(batch))

    failed = copy(tmp_path / "first", place("pgvector"))

    assert failed.returncode == 1
    assert "vector 'nul' has the character NUL" in failed.stderr


def test_tables_that_cannot_be_copied_are_named_and_the_others_are_copied_whole(
    database: Postgres, tmp_path: Path, copy: Copy
) -> None:
    rows = "generate_series(1, 5200) n"  # more than a page has
    database.sql(
        'CREATE SCHEMA "Odd ""Shop"; SET search_path = "Odd ""Shop", public;'
        "CREATE EXTENSION IF NOT EXISTS citext WITH SCHEMA public;"
        'CREATE TABLE "Items-1" ("Id" citext PRIMARY KEY, "Vec" vector(2) NOT NULL, "a.b" int,'
        ' "$c" int, d int);'
        """INSERT INTO "Items-1" SELECT CASE WHEN n % 2 = 0 THEN 'A' ELSE 'a' END || n,"""
        f" '[1,2]', 1, 2, n FROM {rows};"
        "CREATE TABLE numbered (id bigint PRIMARY KEY, v vector(2));"
        f"INSERT INTO numbered SELECT n, '[1,2]' FROM {rows};"
        "CREATE TABLE nullvec (id int PRIMARY KEY, v vector(2));"
        "INSERT INTO nullvec VALUES (1, '[1,2]'), (2, NULL);"
        "CREATE TABLE nullid (id int UNIQUE, v vector(2));"
        "INSERT INTO nullid VALUES (NULL, '[1,2]');"
        "CREATE TABLE both_keys (a int, b int, v vector(2), PRIMARY KEY (a, b));"
        "CREATE TABLE sparse (id int PRIMARY KEY, v sparsevec(16001));"
        "CREATE TABLE ragged (id int PRIMARY KEY, v vector);"
        "INSERT INTO ragged VALUES (1, '[1,2]'), (2, '[1,2,3]');"
        "CREATE TABLE infinite (id int PRIMARY KEY, v vector(2), p float8, q numeric[]);"
        "INSERT INTO infinite VALUES (1, '[1,2]', 'NaN'), (2, '[1,2]', 'Infinity');"
        "CREATE TABLE huge (id int PRIMARY KEY, v vector(2), m jsonb);"
        "INSERT INTO huge VALUES (1, '[1,2]', '{\"n\": 1e999}');"
        'CREATE TABLE "a ""b" (id int PRIMARY KEY, v vector(2))'
    )
    source = f"pgvector:{database.dsn}?search_path=%22Odd%20%22%22Shop%22,public"

    refused = copy(source, tmp_path / "data", "--dry-run")

    assert refused.returncode == 1
    for thing in (
        "index local/Items-1: column 'a.b', as key 'a.b' must not contain '.'",
        "index local/Items-1: column '$c', as key '$c' must not start with '$'",
        "index local/infinite: column 'q' of type numeric[]",
        "'nullvec' has rows without a value in 'v'",
        "'nullid' has rows without a value in 'id'",
        "'both_keys' has no primary key of one column",
        "'sparse' has no column of dense vectors",
        "'a \"b' cannot be the name of an index",
    ):
        assert thing in refused.stderr, refused.stderr
    assert not (tmp_path / "data").exists()

    done = copy(source, tmp_path / "data", "--leave-out")

    assert done.returncode == 1
    for thing in (
        "not copied: index local/ragged: ",
        "not copied: index local/infinite: the metadata of '2' has inf, which has no form in JSON",
        "not copied: index local/huge: ",
        "id \"1\": metadata: key 'n': a number is beyond float64",
    ):
        assert thing in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    found = read(tmp_path / "data")
    items, numbered = found["local/Items-1"]["vectors"], found["local/numbered"]["vectors"]
    assert len(items) == 5_200
    assert items["a7"][2] == {"d": 7}
    assert sorted(map(int, numbered)) == list(range(1, 5_201))


def test_a_password_is_never_shown(database: Postgres, tmp_path: Path, copy: Copy) -> None:
    database.sql(f"CREATE ROLE {LOCKED} LOGIN PASSWORD 'right/one'")
    dsn = database.dsn.replace("vicinal@", f"{LOCKED}:hunter%2F2@")

    wrong = copy(f"pgvector:{dsn}", tmp_path / "data")
    broken = copy(f"pgvector:{dsn.replace('%2F', '/')}", tmp_path / "data")
    right = copy(f"pgvector:{dsn.replace('hunter%2F2', 'right%2Fone')}", tmp_path / "data")

    assert "password authentication failed" in wrong.stderr
    assert "are written with percent signs" in broken.stderr
    for ended in (wrong, broken, right):
        assert "hunter" not in ended.stdout + ended.stderr
        assert "right" not in ended.stdout + ended.stderr
        assert "Traceback" not in ended.stderr
    assert wrong.returncode == broken.returncode == 1

"""No part needs what only Unix has: all of it is imported, and a server and an engine run, without.

The names that are hidden are those of `tests/support/no_unix`. This is not Windows: its file names,
its locks and its way to delete files that are open are not tried here.
"""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

import vicinal
from tests.support.no_unix.hidden import FUNCTIONS, HIDDEN
from tests.support.server import Running, in_process

ROOT = Path(vicinal.__file__).parent
PORTABLE = {"PYTHONPATH": str(Path(__file__).parent / "support" / "no_unix")}
ENDS_WITHIN_S = 300

OF_UNIX = {
    "server.http.connection",  # extends uvicorn's connection, by httptools: not used on Windows
}
"""Modules that are imported where their needs are there alone."""

OF_OTHERS = {
    "cli.agent_tools",  # the package mcp asks for the platform, and takes fcntl on this one
}
"""Modules whose libraries do not run with these hidden."""


def modules() -> list[str]:
    """Return all modules but the programs."""
    return sorted(
        ".".join(("vicinal", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(
            ".__init__"
        )
        for path in ROOT.rglob("*.py")
        if path.name != "__main__.py"
    )


def run(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, **PORTABLE},
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


IMPORT_ALL = """
import importlib, json, sys, traceback
failed = {}
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        failed[name] = error.name
print(json.dumps(failed))
"""


def test_every_module_is_imported_without_what_only_unix_has() -> None:
    failed = json.loads(run(IMPORT_ALL, *modules()))

    assert set(failed) - {f"vicinal.{each}" for each in OF_OTHERS} == {
        f"vicinal.{each}" for each in OF_UNIX
    }


def test_what_is_hidden_is_not_there() -> None:
    code = "import os\nfor name in {!r}: assert not hasattr(os, name), name\n"
    run(code.format(FUNCTIONS))
    for name in HIDDEN:
        code = f"try:\n    import {name}\nexcept ModuleNotFoundError:\n    pass\nelse:\n    exit(1)"
        run(code)


ENGINE = """
import sys
from pathlib import Path
import numpy as np
from vicinal.engine.embedded import EmbeddedEngine
from vicinal.engine.options import EngineOptions
from vicinal.errors import Unavailable
from vicinal.model import IndexAddress, IndexConfig, Metric, Query, Upsert, VectorBatch

folder, docs = Path(sys.argv[1]), IndexAddress("a", "docs")

def upsert(engine, start):
    rows = np.arange(start, start + 200, dtype=np.float32)
    values = np.stack([rows, np.ones_like(rows)], axis=1)
    ids = [str(int(row)) for row in rows]
    batch = VectorBatch(ids, values, [""] * 200, [b""] * 200)
    seqno = engine.append(docs, Upsert(batch)).result().seqno
    assert engine.wait_applied(docs, seqno, 60)

engine = EmbeddedEngine.open(folder, EngineOptions())
try:
    EmbeddedEngine.open(folder, EngineOptions())
except Unavailable as error:
    assert "in use" in str(error)
else:
    raise SystemExit("a folder was opened twice")
engine.create_index(docs, IndexConfig(2, Metric.EUCLIDEAN), None)
for start in range(0, 1_000, 200):
    upsert(engine, start)
    engine.compact(docs)
engine.close()
engine = EmbeddedEngine.open(folder, EngineOptions())
assert engine.status(docs).vector_count == 1_000
found = engine.query(docs, Query(1, vector=np.array([456, 1], np.float32)))
assert [match.id for match in found.matches] == ["456"]
upsert(engine, 5_000)
assert engine.usage().open_indexes[0].vector_count == 1_200
engine.close()
print("done")
"""


def test_an_engine_keeps_and_finds_vectors(tmp_path: Path) -> None:
    assert run(ENGINE, str(tmp_path / "data")).strip() == "done"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("portable")
    arguments = ("--snapshot-folder", str(folder / "snapshots"))
    with in_process(folder, environment=PORTABLE, arguments=arguments) as running:
        yield running


def asked(server: Running, method: str, path: str, body: object = None) -> object:
    request = Request(
        f"{server.base_url}{path}",
        None if body is None else json.dumps(body).encode(),
        {"authorization": f"Bearer {server.token}", "content-type": "application/json"},
        method=method,
    )
    with urlopen(request, timeout=ENDS_WITHIN_S) as answer:
        envelope = json.load(answer)
    assert envelope["success"]
    return envelope["result"]


def test_a_server_answers_writes_queries_and_listings(server: Running) -> None:
    indexes = f"/accounts/{server.account}/vectorize/v2/indexes"
    asked(
        server, "POST", indexes, {"name": "docs", "config": {"dimensions": 2, "metric": "cosine"}}
    )
    vectors = [{"id": str(row), "values": [row + 1, 1]} for row in range(50)]
    written = f"{server.base_url}{indexes}/docs/upsert"
    request = Request(
        written,
        json.dumps({"vectors": vectors}).encode(),
        {"authorization": f"Bearer {server.token}", "prefer": "wait=60"},
        method="POST",
    )
    with urlopen(request, timeout=ENDS_WITHIN_S) as answer:
        assert answer.headers["cf-ray"]

    found = asked(server, "POST", f"{indexes}/docs/query", {"vector": [1, 1], "topK": 1})

    assert isinstance(found, dict)
    assert [match["id"] for match in found["matches"]] == ["0"]
    info = asked(server, "GET", f"{indexes}/docs/info")
    assert isinstance(info, dict)
    assert info["vectorCount"] == 50


def test_a_server_takes_a_body_that_is_longer_than_a_part(server: Running) -> None:
    indexes = f"/accounts/{server.account}/vectorize/v2/indexes"
    config = {"dimensions": 1_000, "metric": "cosine"}
    asked(server, "POST", indexes, {"name": "long", "config": config})
    rows = [{"id": str(row), "values": [0.123456] * 1_000} for row in range(300)]
    body = "\n".join(map(json.dumps, rows)).encode()
    request = Request(
        f"{server.base_url}{indexes}/long/upsert",
        body,
        {
            "authorization": f"Bearer {server.token}",
            "prefer": "wait=60",
            "content-type": "application/x-ndjson",
        },
        method="POST",
    )
    with urlopen(request, timeout=ENDS_WITHIN_S) as answer:
        assert answer.status == 200

    info = asked(server, "GET", f"{indexes}/long/info")
    assert isinstance(info, dict)
    assert info["vectorCount"] == 300


def test_a_server_runs_sql_and_makes_snapshots(server: Running) -> None:
    accounts = f"/accounts/{server.account}/d1/database"
    rows = asked(server, "POST", f"{accounts}/notes/query", {"sql": "SELECT 1 + 1 AS two"})
    made = asked(server, "POST", "/vicinal/snapshots", {})

    assert isinstance(rows, list)
    assert rows[0]["results"] == [{"two": 2}]
    assert isinstance(made, dict)
    listed = asked(server, "GET", "/vicinal/snapshots")
    assert isinstance(listed, list)
    assert [each["id"] for each in listed] == [made["id"]]


@cache
def imported_at_once(path: Path) -> frozenset[str]:
    """Return the modules that a module imports without a guard around the statement."""
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return frozenset(names)


@pytest.mark.parametrize("name", sorted(HIDDEN))
def test_no_module_imports_it_unguarded(name: str) -> None:
    told = [
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*.py")
        if any(each.partition(".")[0] == name for each in imported_at_once(path))
    ]

    assert [each for each in told if each != "server/http/connection.py"] == []

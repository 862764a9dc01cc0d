"""Segments that are merged and large enough have a graph: on disk, opened again, damaged.

Large is 36,000 rows here, so that the graph that is tested is built by a merge and not by hand.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.ann import small_graph_kind
from tests.support.clusters import grouped
from tests.support.engines import APPLIED_WITHIN_S, DOCS
from vicinal.ann.binary import WALKED_CODES, BinaryKind
from vicinal.engine import merge
from vicinal.engine.embedded import EmbeddedEngine, EngineOptions
from vicinal.engine.merge import SegmentSize
from vicinal.model import Delete, Effort, Floats, IndexConfig, Metric, Query, Upsert, VectorBatch
from vicinal.native.library import library
from vicinal.segment import row_index, segment
from vicinal.storage import files

ROWS, QUERIES = 36_000, 40
GRAPH_ROWS = 30_000
OPTIONS = EngineOptions(memtable_rows_max=ROWS // 2, idle_s=3_600)

pytestmark = pytest.mark.skipif(
    library() is None, reason="NO GRAPH IS BUILT: there is no C compiler"
)


@pytest.fixture(autouse=True, scope="module")
def _few_rows_are_large() -> Iterator[None]:
    kinds = (small_graph_kind(GRAPH_ROWS), BinaryKind())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_index, "KINDS", kinds)
        patch.setattr(segment, "KINDS", kinds)
        yield


@pytest.fixture(scope="module")
def data() -> tuple[Floats, Floats]:
    return grouped(ROWS, QUERIES)


@pytest.fixture(scope="module")
def merged(
    tmp_path_factory: pytest.TempPathFactory,
    data: tuple[Floats, Floats],
    _few_rows_are_large: None,
) -> Path:
    """The folder of a closed engine with one index of one segment."""
    folder = tmp_path_factory.mktemp("merged")
    with_rows(folder, data[0]).close()
    return folder


@pytest.fixture
def folder(merged: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(merged, tmp_path / "data"))


def with_rows(path: Path, values: Floats) -> EmbeddedEngine:
    engine = EmbeddedEngine.open(path, OPTIONS)
    engine.create_index(DOCS, IndexConfig(values.shape[1], Metric.COSINE), None)
    half = len(values) // 2
    for start in (0, half):
        ids = [f"v{row}" for row in range(start, start + half)]
        batch = VectorBatch(ids, values[start : start + half], [""] * half, [b""] * half)
        last = engine.append(DOCS, Upsert(batch)).result()
        assert engine.wait_applied(DOCS, last.seqno, APPLIED_WITHIN_S)
    engine.compact(DOCS)
    return engine


def components(path: Path) -> set[str]:
    (only,) = path.glob("indexes/*/segments/[0-9]*[0-9]")
    return {file.name for file in only.iterdir()}


def recall(engine: EmbeddedEngine, data: tuple[Floats, Floats]) -> tuple[float, set[str]]:
    """Return the share of the ten nearest that low effort finds, and how it found them."""
    found, methods = 0, set()
    for query in data[1]:
        asked = [
            engine.query(DOCS, Query(top_k=10, vector=query, effort=effort, explain=True))
            for effort in (Effort.LOW, Effort.EXACT)
        ]
        low, exact = ({match.id for match in result.matches} for result in asked)
        found += len(low & exact)
        methods |= {step.method for step in asked[0].explanations}
    return found / (10 * len(data[1])), methods


def test_a_merge_makes_a_graph_that_is_walked_after_opening_again(
    folder: Path, data: tuple[Floats, Floats]
) -> None:
    assert "graph" in components(folder)
    assert "codes" not in components(folder)
    engine = EmbeddedEngine.open(folder, OPTIONS)

    share, methods = recall(engine, data)

    assert methods == {WALKED_CODES}
    assert share >= 0.97
    engine.close()


def test_blocks_that_are_read_for_the_first_time_do_not_change_what_is_found(
    folder: Path, data: tuple[Floats, Floats], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "VERIFIED_AT_OPEN_BYTES_MAX", 0)
    monkeypatch.setattr("vicinal.engine.compactor.VERIFIED_AT_ONCE_BYTES_MAX", 0)
    engine = EmbeddedEngine.open(folder, OPTIONS)

    share, methods = recall(engine, data)

    assert methods == {WALKED_CODES}
    assert share >= 0.97
    engine.close()


def test_deleted_rows_are_walked_through_and_not_found(
    folder: Path, data: tuple[Floats, Floats]
) -> None:
    engine = EmbeddedEngine.open(folder, OPTIONS)
    gone = np.arange(0, ROWS, 9)
    last = engine.append(DOCS, Delete([f"v{row}" for row in gone.tolist()])).result()
    assert engine.wait_applied(DOCS, last.seqno, APPLIED_WITHIN_S)

    for query in data[1]:
        result = engine.query(DOCS, Query(top_k=10, vector=query, effort=Effort.LOW))
        assert len(result.matches) == 10
        assert not {int(match.id[1:]) % 9 for match in result.matches} & {0}
    share, _ = recall(engine, data)

    assert share >= 0.97
    engine.close()


def test_a_damaged_graph_is_done_without_and_made_again(
    folder: Path, data: tuple[Floats, Floats], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where something keeps its file open: it is not verified again, which would end all."""
    kept: list[files.ComponentFile] = []

    def opened(path: Path, kind: str, seal: files.Seal) -> files.ComponentFile:
        kept.append(files.ComponentFile(path, kind, seal))
        return kept[-1]

    monkeypatch.setattr(segment, "ComponentFile", opened)
    (path,) = folder.glob("indexes/*/segments/*/graph")
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    engine = EmbeddedEngine.open(folder, OPTIONS)

    assert recall(engine, data)[0] >= 0.97
    engine.compact(DOCS)
    share, methods = recall(engine, data)

    assert methods == {WALKED_CODES}
    assert share >= 0.97
    assert path.parent not in folder.glob("indexes/*/segments/*")
    engine.close()


@pytest.mark.parametrize("rows", [1_000_000, 10_000_000])
def test_a_row_is_linked_a_few_times_however_many_rows_come(rows: int) -> None:
    """20,000 rows are sealed at a time, and segments merged after each seal."""
    sizes: dict[int, int] = {}
    linked = number = 0
    for _ in range(rows // 20_000):
        sizes[number] = 20_000
        number += 1
        while chosen := merge.candidates([SegmentSize(n, s, s) for n, s in sizes.items()]):
            merged = sum(sizes.pop(each) for each in chosen)
            sizes[number] = merged
            number += 1
            linked += merged if merged >= 200_000 else 0

    assert linked <= 3 * rows

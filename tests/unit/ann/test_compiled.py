"""The compiled search proposes what Python's does, leaves to it what it cannot settle, and
touches no memory but what it is given."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.support.ann import binary_index, candidates, candidates_among, exact_index
from tests.support.clusters import clustered
from tests.support.watched import run_watched
from vicinal.ann import quantizer
from vicinal.ann.base import Selection
from vicinal.ann.binary import LISTED_CODES, BinaryIndex
from vicinal.ann.compiled import CompiledSearch, Plan
from vicinal.ann.exact import Blocks, ExactIndex
from vicinal.ann.quantizer import QuantizerParameters
from vicinal.distance import distances
from vicinal.errors import Corruption
from vicinal.model import Effort, Floats, Mask, Metric, Ordinals
from vicinal.native import library
from vicinal.native.pool import SearchTask

pytestmark = pytest.mark.skipif(
    library.library() is None, reason="THE COMPILED SEARCH WAS NOT BUILT: there is no C compiler"
)

METRICS = list(Metric)
SEED = 7
PLAN = Plan(k=10, margin=30, rescored_expected=200, rescored_min=40, rescored_max=6_400)


def both(values: Floats, metric: Metric, bits: int = 512) -> tuple[BinaryIndex, BinaryIndex]:
    """Return an index that uses the compiled search, and one that does not."""
    scale = float(np.linalg.norm(values, axis=1).max()) if metric is Metric.DOT_PRODUCT else 1.0
    return both_with_scale(values, metric, scale, bits)


def both_with_scale(
    values: Floats, metric: Metric, scale: float, bits: int = 512
) -> tuple[BinaryIndex, BinaryIndex]:
    """The same, with the scale of a parameters that was found for other rows."""
    parameters = QuantizerParameters(bits, scale, ((20, 20), (40, 40), (60, 60)), (200, 800))
    codes = quantizer.encode(values, metric, parameters)
    exact = exact_index(values, metric)
    return BinaryIndex(codes, exact), BinaryIndex(codes, exact, is_compiled=False)


def searched(values: Floats, metric: Metric) -> tuple[CompiledSearch, BinaryIndex]:
    """Return the compiled search alone, and the index that would use it."""
    index = binary_index(values, metric)
    search = index.compiled
    assert search is not None
    return search, index


def proposed(search: CompiledSearch, query: Floats, plan: Plan, count: int) -> Ordinals | None:
    task = search.task(query, plan, Selection(count))
    task.run()
    found = task.candidates()
    return None if found is None else found[0]


def masks(rows: int, random: np.random.Generator) -> list[Mask | None]:
    return [None, *(random.random(rows) < share for share in (0.9, 0.3, 0.09, 0.02, 0.006))]


def nearest(index: BinaryIndex, query: Floats, k: int, rows: Ordinals) -> list[float]:
    """Return the exact distances of the k nearest of some rows."""
    assert len(set(rows.tolist())) == len(rows)
    found = distances(index.exact.values[rows], query, index.exact.metric)
    return sorted(found.tolist())[:k]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("dimensions", "bits"), [(31, 512), (64, 512), (100, 1024), (769, 512), (50, 2048), (64, 1536)]
)
def test_it_opens_as_many_rows_as_python_and_finds_the_same(
    metric: Metric, dimensions: int, bits: int
) -> None:
    check_same(metric, dimensions, bits, queries=10)


def check_same(metric: Metric, dimensions: int, bits: int, *, queries: int) -> None:
    """Compare the compiled search with Python's, behind masks, for short lists and long ones."""
    values = clustered(9_000, dimensions, seed=dimensions)
    one, other = both(np.ascontiguousarray(values[:8_990]), metric, bits)
    random = np.random.default_rng(SEED)
    for query in values[8_990:][:queries]:
        for allowed in masks(8_990, random):
            for k in (1, 10, 100):
                for effort in quantizer.EFFORTS:
                    found = candidates(one, query, k, allowed, effort)
                    wanted = candidates(other, query, k, allowed, effort)

                    assert found.scored_count == wanted.scored_count
                    assert allowed is None or allowed[found.rows].all()
                    near = nearest(one, query, k, found.rows)
                    assert near == nearest(other, query, k, wanted.rows)


@pytest.mark.parametrize("metric", METRICS)
def test_it_is_what_settles_usual_searches(metric: Metric) -> None:
    values = clustered(9_000, 64)
    search, _ = searched(values, metric)

    settled = [proposed(search, each, PLAN, 9_000) for each in values[:50]]

    assert all(each is not None for each in settled)


def test_rows_that_are_the_same_or_zero_are_found_as_python_finds_them() -> None:
    values = clustered(3_000, 40)
    values[::3] = values[0]
    values[1::7] = 0.0
    for metric in METRICS:
        one, other = both(values, metric)
        for query in (values[0], values[5], values[1]):
            near = nearest(one, query, 10, candidates(one, query, 10, None).rows)

            assert near == nearest(other, query, 10, candidates(other, query, 10, None).rows)


@pytest.mark.parametrize("metric", METRICS)
def test_numbers_that_overflow_are_left_to_python(metric: Metric) -> None:
    values = clustered(3_000, 40)
    values[::2] = np.copysign(np.float32(3e38), values[::2])
    search, index = searched(values, metric)
    query = np.full(40, 3e38, np.float32)

    assert proposed(search, query, PLAN, 3_000) is None
    found = candidates(index, query, 10, None).rows
    assert len(set(found.tolist())) == len(found) >= 10


@pytest.mark.parametrize("metric", [Metric.COSINE, Metric.DOT_PRODUCT])
@pytest.mark.parametrize("size", [1e-44, 1e-20, 1.0])
def test_rows_whose_norm_is_infinite_are_left_to_python(metric: Metric, size: float) -> None:
    """Their products may be finite, but nothing tells how far these are off."""
    values = clustered(3_000, 40)
    signs_of_rows = np.sign(values[0])
    values[::500] = signs_of_rows * np.float32(6e37)
    index, python = both_with_scale(values, metric, scale=3.3e38)
    search = index.compiled
    assert search is not None
    query = (signs_of_rows * size).astype(np.float32)

    assert proposed(search, query, PLAN, 3_000) is None
    found = candidates(index, query, 10, None).rows
    assert set(range(0, 3_000, 500)) <= set(found.tolist())
    assert set(found.tolist()) == set(candidates(python, query, 10, None).rows.tolist())


def test_rows_whose_norm_float32_cannot_tell_are_left_to_python() -> None:
    values = clustered(3_000, 40)
    query = values[7] * np.float32(1e20)
    values[::500] = np.sign(values[7]) * np.float32(1e-45)
    search, index = searched(values, Metric.COSINE)

    assert proposed(search, query, PLAN, 3_000) is None
    assert 7 in candidates(index, query, 1, None).rows


def test_more_rows_than_may_be_opened_are_left_to_python() -> None:
    values = np.repeat(clustered(200, 32)[:2], 10_000, axis=0)
    search, _ = searched(values, Metric.COSINE)

    assert proposed(search, values[0], PLAN, 20_000) is None


def test_lists_and_masks_need_not_lie_side_by_side() -> None:
    values = clustered(5_000, 48)
    index = binary_index(values, Metric.COSINE)
    rows = np.arange(0, 5_000, 3)
    allowed = np.zeros((5_000, 2), np.bool_)
    allowed[rows, 0] = True

    listed = candidates_among(index, values[9], 10, np.repeat(rows, 2)[::2])
    masked = candidates(index, values[9], 10, allowed[:, 0])

    assert set(listed.rows.tolist()) == set(masked.rows.tolist()) <= set(rows.tolist())


@pytest.mark.parametrize("count", [1_983, 1_984, 1_985, 1_986, 2_047])
def test_of_a_list_of_any_length_the_last_row_is_compared(count: int) -> None:
    """Codes are compared 64 at a time; the last ones may be fewer."""
    values = clustered(5_000, 48)
    compiled = binary_index(values, Metric.COSINE)
    python = binary_index(values, Metric.COSINE, is_compiled=False)
    rows = np.sort(np.random.default_rng(count).choice(5_000, count, replace=False))

    for query in (values[rows[-1]], values[rows[0]], -values[rows[-1]]):
        one, other = (candidates_among(each, query, 10, rows) for each in (compiled, python))
        assert one.method == LISTED_CODES
        assert one.scored_count == other.scored_count
        assert set(one.rows[:10].tolist()) <= set(other.rows.tolist())
    assert rows[-1] in candidates_among(compiled, values[rows[-1]], 1, rows).rows


def test_any_number_of_threads_search_at_once() -> None:
    values = clustered(20_000, 64)
    index = binary_index(values, Metric.COSINE)
    alone = [candidates(index, each, 10, None).rows.tolist() for each in values[:200]]

    with ThreadPoolExecutor(4) as pool:
        together = list(
            pool.map(lambda each: candidates(index, each, 10, None).rows.tolist(), values[:200])
        )

    assert together == alone


def test_values_that_may_not_be_read_yet_are_not_read() -> None:
    values = clustered(3_000, 40)
    index = binary_index(values, Metric.COSINE)
    rows = index.exact.values
    index.exact.is_verified = False
    index.exact.values = np.full_like(rows, np.nan)  # what a damaged file might hold
    search = index.compiled
    assert search is not None
    index.exact.values = rows

    assert 3 in candidates(index, values[3], 10, None).rows
    assert proposed(search, values[3], PLAN, 3_000) is None


class Unread:
    """Values of which a block may be read when it is verified; until then it is full of NaN."""

    BLOCK_BYTES = 1_024
    START = 64

    def __init__(self, values: Floats) -> None:
        self.values = np.full_like(values, np.nan)
        self.read_count = 0
        self._values = values
        size = self.START + values.nbytes
        verified = np.zeros(-(-size // self.BLOCK_BYTES), np.bool_)
        self.blocks = Blocks(verified, self.BLOCK_BYTES, self.START)

    def verify(self, rows: Ordinals | None) -> bool:
        row_bytes = self._values[0].nbytes
        read, whole = (array.reshape(-1).view(np.uint8) for array in (self.values, self._values))
        for row in () if rows is None else rows.tolist():
            start = self.START + row * row_bytes
            for block in range(
                start // self.BLOCK_BYTES, (start + row_bytes - 1) // self.BLOCK_BYTES + 1
            ):
                self.read_count += not self.blocks.verified[block]
                self.blocks.verified[block] = True
                first = max(block * self.BLOCK_BYTES - self.START, 0)
                last = (block + 1) * self.BLOCK_BYTES - self.START
                read[first:last] = whole[first:last]
        return False


def index_of_unread(
    whole: BinaryIndex, verify: Callable[[Ordinals | None], bool], unread: Unread
) -> BinaryIndex:
    """Return an index whose values are read when they are verified."""
    exact = ExactIndex(unread.values, whole.exact.norms, whole.exact.metric, verify, unread.blocks)
    return BinaryIndex(whole.codes, exact)


@pytest.mark.parametrize("metric", METRICS)
def test_a_row_is_read_when_its_blocks_are_verified_and_verified_once(metric: Metric) -> None:
    values = clustered(5_000, 100)
    whole = binary_index(values[:4_990], metric)
    unread = Unread(np.ascontiguousarray(values[:4_990]))
    index = index_of_unread(whole, unread.verify, unread)

    for query in values[4_990:]:
        for k in (1, 10):
            found, wanted = candidates(index, query, k), candidates(whole, query, k)
            assert found.rows.tolist() == wanted.rows.tolist()
            assert found.scored_count == wanted.scored_count
    assert 0 < unread.read_count < len(unread.blocks.verified)
    before = unread.read_count
    candidates(index, values[4_990], 10)
    assert unread.read_count == before


@pytest.mark.parametrize("is_pooled", [False, True])
def test_a_search_that_comes_to_unverified_rows_goes_on_from_there(is_pooled: bool) -> None:
    values = clustered(5_000, 100)
    whole = binary_index(values, Metric.COSINE)
    unread = Unread(values)
    verified: list[int] = []

    def verify(rows: Ordinals | None) -> bool:
        verified.extend([] if rows is None or not len(rows) else [len(rows)])
        return unread.verify(rows)

    index = index_of_unread(whole, verify, unread)
    prepared = index.prepare(values[7], 3, Selection(5_000), Effort.STANDARD)
    (task,) = prepared.tasks
    if is_pooled:
        run_without_python(task)
        assert task.is_unverified
        assert not verified
    else:
        task.run()
        assert not task.is_unverified
        assert len(verified) > 1, "all rows were verified at a time"

    found = prepared.finish()

    assert len(verified) > 1
    assert found.rows.tolist() == candidates(whole, values[7], 3).rows.tolist()


def test_more_rows_than_one_call_verifies_are_verified_before_any_is_read() -> None:
    values = clustered(8_000, 40)
    whole = binary_index(values, Metric.COSINE)
    unread = Unread(values)
    verified: list[int] = []

    def verify(rows: Ordinals | None) -> bool:
        verified.append(0 if rows is None else len(rows))
        return unread.verify(rows)

    index = index_of_unread(whole, verify, unread)
    plan = Plan(k=10, margin=30, rescored_expected=6_000, rescored_min=6_000, rescored_max=8_000)
    assert index.compiled is not None
    assert whole.compiled is not None

    found = proposed(index.compiled, values[7], plan, 8_000)
    wanted = proposed(whole.compiled, values[7], plan, 8_000)

    assert max(verified) == 4_096 < sum(verified)
    assert found is not None
    assert wanted is not None
    assert found.tolist() == wanted.tolist()


def test_values_that_were_all_verified_meanwhile_are_not_asked_about_again() -> None:
    values = clustered(3_000, 64)
    whole = binary_index(values, Metric.COSINE)
    unread = Unread(values)
    index = index_of_unread(whole, lambda rows: bool(unread.blocks.verified.all()), unread)
    index.prepare(values[7], 3, Selection(3_000), Effort.STANDARD)
    assert not index.exact.is_verified

    unread.verify(np.arange(3_000))  # as a compaction does
    found = candidates(index, values[7], 3)

    assert index.exact.is_verified
    assert found.rows.tolist() == candidates(whole, values[7], 3).rows.tolist()


def run_without_python(task: SearchTask) -> None:
    """Run a task as a pool does."""
    built = library.library()
    assert built is not None
    built.run_task(task.structure)


@pytest.mark.parametrize("is_pooled", [False, True])
def test_damage_that_verifying_finds_ends_the_search(is_pooled: bool) -> None:
    values = clustered(3_000, 64)
    whole = binary_index(values, Metric.COSINE)
    unread = Unread(values)

    def verify(rows: Ordinals | None) -> bool:
        if rows is not None and 7 in rows:
            raise Corruption("damaged")
        return unread.verify(rows)

    index = index_of_unread(whole, verify, unread)
    prepared = index.prepare(values[7], 3, Selection(3_000), Effort.STANDARD)
    (task,) = prepared.tasks
    if is_pooled:
        run_without_python(task)
        assert task.candidates() is None
    else:
        task.run()
        with pytest.raises(Corruption):
            task.candidates()

    with pytest.raises(Corruption):
        prepared.finish()


def test_a_library_of_another_source_is_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = [shutil.copy(each, tmp_path) for each in library.SOURCES]
    for built in library.SOURCES[0].parent.glob("_native-*.so"):
        shutil.copy(built, tmp_path)
    monkeypatch.setattr(library, "SOURCES", tuple(map(Path, sources)))
    assert library.library.__wrapped__() is not None
    with Path(sources[1]).open("a") as header:
        header.write("\n")

    assert library.library.__wrapped__() is None


def test_it_stays_within_the_memory_it_is_given() -> None:
    """The tests of this file again, on a library that watches every access."""
    assert int(run_watched(library.SOURCES, WATCHED)) > 500


WATCHED = """
import os
from pathlib import Path
import pytest
from tests.unit.ann import test_compiled as these, test_graph, test_walk
from tests.unit.native import test_pool
from vicinal.ann import compiled, graph, projection
from vicinal.native import library

calls = 0
watched = library.Library(Path(os.environ["VICINAL_WATCHED"]))
compiled.library = projection.library = lambda: watched
run = watched.run_task

def counted(*given):
    global calls
    calls += 1
    return run(*given)

watched.run_task = counted
for metric in these.METRICS:
    these.check_same(metric, 31, 512, queries=3)
these.check_same(metric, 50, 2048, queries=3)
these.test_rows_that_are_the_same_or_zero_are_found_as_python_finds_them()
these.test_numbers_that_overflow_are_left_to_python(metric)
these.test_more_rows_than_may_be_opened_are_left_to_python()
these.test_any_number_of_threads_search_at_once()
these.test_a_row_is_read_when_its_blocks_are_verified_and_verified_once(metric)
these.test_damage_that_verifying_finds_ends_the_search(False)
graph.library = lambda: watched
test_walk.check_same(metric, 64, queries=1)
test_graph.test_rows_that_are_all_alike_have_a_graph(pytest.MonkeyPatch())
test_pool.library = lambda: watched
test_pool.test_a_pool_finds_what_is_found_without_it()
test_pool.test_what_was_put_is_done_before_a_pool_closes()
print(calls)
"""

"""What the compiled library computes is what numpy computes."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.support.ann import exact_index
from tests.support.clusters import clustered
from vicinal.ann import exact, hamming, projection
from vicinal.ann.base import Selection
from vicinal.model import Metric, Ordinals
from vicinal.native import library

pytestmark = pytest.mark.skipif(
    library.library() is None, reason="THE COMPILED PARTS WERE NOT BUILT: there is no C compiler"
)

METRICS = list(Metric)
SEED = 7


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("dimensions", "bits"),
    [(1, 512), (7, 512), (8, 1024), (64, 512), (100, 2048), (769, 512), (1536, 1024), (4096, 2048)],
)
def test_rows_get_the_codes_that_numpy_gives_them(
    metric: Metric, dimensions: int, bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = clustered(300, dimensions)
    values[7] = 0.0
    scale = float(np.linalg.norm(values, axis=1).max()) if metric is Metric.DOT_PRODUCT else 1.0

    compiled, offset = projection.encode(values, metric, scale, bits)
    monkeypatch.setattr(projection, "library", lambda: None)
    codes, plain_offset = projection.encode(values, metric, scale, bits)

    # Where a projection is next to the mean's, rounding decides its bit.
    differ = np.unpackbits(compiled ^ codes, axis=1).mean()
    assert differ < 1e-3
    assert np.allclose(offset, plain_offset, atol=1e-5)


@pytest.mark.parametrize("dimensions", [1, 15, 16, 63, 64, 65, 768, 1000])
def test_products_are_those_of_numpy(dimensions: int) -> None:
    random = np.random.default_rng(SEED)
    rows = random.normal(size=(37, dimensions)).astype(np.float32)
    others = random.normal(size=(11, dimensions)).astype(np.float32)

    found = projection.products(rows, others)

    assert np.allclose(found, rows.astype(np.float64) @ others.T, atol=1e-4)


@pytest.mark.parametrize("dimensions", [1, 15, 64, 65, 768, 1000])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("rows", [None, np.array([5]), np.arange(2_999, -1, -7)])
def test_products_of_a_query_are_those_of_float64_with_and_without_the_library(
    dimensions: int, metric: Metric, rows: Ordinals | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(SEED)
    values = random.normal(size=(3_000, dimensions)).astype(np.float32)
    query = random.normal(size=dimensions).astype(np.float32)
    index = exact_index(values, metric)
    wide = (values if rows is None else values[rows]).astype(np.float64)
    if metric is Metric.EUCLIDEAN:
        expected, scale = np.square(wide - query).sum(axis=1), None
    else:
        expected = wide @ query.astype(np.float64)
        scale = np.linalg.norm(wide, axis=1) * np.linalg.norm(query.astype(np.float64))

    for built in (library.library(), None):
        monkeypatch.setattr(exact, "library", lambda built=built: built)
        found = index.products(query, np.arange(3_000) if rows is None else rows)
        everything = index.find_candidates(query, 3_000, Selection(3_000)).rows
        relative, absolute = index.error

        assert found.dtype == np.float32
        bound = relative * (expected if scale is None else scale) + absolute
        assert (np.abs(found - expected) <= bound).all()
        assert len(everything) == 3_000


@pytest.mark.parametrize("bits", [512, 1024, 1536, 2048])
@pytest.mark.parametrize("rows", [0, 1, 1_000])
def test_hamming_distances_are_those_of_numpy(
    bits: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(SEED)
    codes = random.integers(0, 256, (rows, bits // 8), np.uint8)
    code = random.integers(0, 256, bits // 8, np.uint8)
    codes[:1] = ~code  # as far as codes are
    expected = np.unpackbits(codes ^ code, axis=1).sum(axis=1).tolist()

    for built in (library.library(), None):
        monkeypatch.setattr(hamming, "library", lambda built=built: built)
        distances = hamming.distances(codes, code)

        assert distances.dtype == np.int32
        assert distances.tolist() == expected


@pytest.mark.parametrize("dimensions", [1, 7, 8, 9, 768, 1536])
def test_norms_are_those_of_numpy(dimensions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(SEED)
    rows = random.normal(size=(50, dimensions)).astype(np.float32)
    rows[1:5] *= np.array([[0], [1e-30], [1e30], [8e37]], np.float32)

    compiled = exact.norms(rows)
    monkeypatch.setattr(exact, "library", lambda: None)
    plain = exact.norms(rows)

    # Sums of float64 differ in their last digits, which may decide how one is rounded.
    assert np.allclose(compiled, plain, rtol=2**-23, atol=0)
    assert compiled.dtype == plain.dtype == np.float32
    assert (np.isinf(compiled) == np.isinf(plain)).all()


def test_arrays_need_not_lie_side_by_side_nor_hold_anything() -> None:
    rows = clustered(400, 32)[:40]
    built = library.library()
    assert built is not None

    assert np.array_equal(
        built.products(rows[::2, ::2], rows[:, ::2]),
        built.products(rows[::2, ::2].copy(), rows[:, ::2].copy()),
    )
    assert built.products(rows[:0], rows).shape == (0, 40)


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_the_compilers_that_a_package_is_built_with_take_it_without_a_warning(
    compiler: str, tmp_path: Path
) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler.upper()} IS NOT INSTALLED")
    sources = [each for each in library.SOURCES if each.suffix == ".c"]
    built = tmp_path / "built.so"

    done = subprocess.run(
        [
            *(compiler, "-std=gnu11", "-O3", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror"),
            *("-pthread", "-o", str(built), *map(str, sources), "-lm"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    values = clustered(300, 40)
    assert np.allclose(library.Library(built).norms(values), np.linalg.norm(values, axis=1))

"""Are packaged kernels as fast as those of `vicinal.native`: SimSIMD's and NumKong's for Hamming
distances and float32 products, faiss's and numpy's for products with all rows?

The loops around the kernels are the same (``kernels.c``), those of a search: blocks of 32 KiB of
codes cut at a limit, products with a few hundred rows here and there, and products with all rows.
All are timed in turns, in one thread, and the least CPU time of the rounds counts. The headers are
those of the source distributions, which pip brings into ``benchmarks/data/headers``.
"""

import ctypes
import mmap
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import faiss
import numpy as np
from numpy.typing import NDArray

from benchmarks import report
from benchmarks.measure import Floats, Rows
from benchmarks.report import Cell, Report, Table
from benchmarks.texts import DATA, SEED
from vicinal.native.library import SOURCES

T = TypeVar("T", bound=np.generic)

_HEADERS = DATA / "headers"
_PACKAGES = {"simsimd": "simsimd==6.5.16", "numkong": "numkong==7.8.6"}
_SOURCE = Path(__file__).with_suffix(".c")
_FLAGS = ("-std=gnu11", "-O3", "-fPIC", "-shared", "-pthread", "-w")
_LIBRARIES = {
    "ours": (),
    "SimSIMD": ("-DSIMSIMD",),
    "NumKong": ("-DNUMKONG",),
    "NumKong, by the block": ("-DNUMKONG_PACKED",),
}
_BITS = (512, 1_024, 2_048)
_DIMENSIONS = (384, 768, 1_536)
_LISTED = 400
_NEAR_SHARE = 0.003
_LEAST_S = 0.01
"""CPU seconds of a timing: it is repeated until it takes them."""

Timed = Mapping[str, Callable[[], Any]]


def run(*, is_quick: bool) -> Report:
    """Time every library's kernels at each length."""
    faiss.omp_set_num_threads(1)
    rounds, rows = (1, 2_000) if is_quick else (9, 30_000)
    libraries = {name: _compiled(name, flags) for name, flags in _LIBRARIES.items()}
    del libraries["NumKong, by the block"].score_rows
    columns = ("work", "length", *libraries, "faiss", "numpy")
    cells: list[tuple[Cell, ...]] = []
    for work, lengths in (
        (_hamming, _BITS), (_products_of_some, _DIMENSIONS), (_products_of_all, _DIMENSIONS)
    ):  # fmt: skip
        for length in lengths:
            for is_euclidean in (False,) if work is _hamming else (False, True):
                timed = work(libraries, rows, length, is_euclidean=is_euclidean)
                least = _least_us(timed, rounds)
                name = f"{work.__doc__}{', squared distances' if is_euclidean else ''}"
                cells.append((name, length, *(least.get(column) for column in columns[2:])))
    return Report(
        "kernels", report.question(__doc__), is_quick,
        report.setup(
            data=f"random numbers, {rows:,} rows", seed=str(SEED), packages=str(_PACKAGES),
            method=f"least CPU time of {rounds} rounds in turns, in microseconds, one thread",
        ),
        (Table("CPU µs", columns, tuple(cells)),),
    )  # fmt: skip


def _hamming(
    libraries: Mapping[str, ctypes.CDLL], rows: int, bits: int, *, is_euclidean: bool
) -> Timed:
    """codes within a limit"""
    random = np.random.default_rng(SEED)
    codes = _aligned(random.integers(0, 256, (rows, bits // 8), np.uint8))
    code = codes[0].copy()
    words, word_code = codes.view(np.uint64), code.view(np.uint64)
    distances = np.bitwise_count(words ^ word_code).sum(axis=1)
    limit = int(np.quantile(distances, _NEAR_SHARE))
    near, hammings = np.empty(rows + 1, np.uint32), np.empty(rows, np.int32)
    expected = np.flatnonzero(distances <= limit)

    def compiled(library: ctypes.CDLL) -> Callable[[], Any]:
        def scan() -> int:
            count: int = library.near_codes(
                _pointer(codes), rows, _pointer(code), bits // 8, limit, _pointer(near)
            )
            return count

        assert np.array_equal(near[: scan()], expected)
        return scan

    def with_faiss() -> Rows:
        faiss.hammings(*map(faiss.swig_ptr, (code, codes)), 1, rows, bits // 8,
                       faiss.swig_ptr(hammings))  # fmt: skip
        return np.flatnonzero(hammings <= limit)

    def with_numpy() -> Rows:
        return np.flatnonzero(
            np.bitwise_count(words ^ word_code).sum(axis=1, dtype=np.uint16) <= limit
        )

    assert np.array_equal(with_faiss(), expected)
    assert np.array_equal(with_numpy(), expected)
    timed = {name: compiled(library) for name, library in libraries.items()}
    return {**timed, "faiss": with_faiss, "numpy": with_numpy}


def _products_of_some(
    libraries: Mapping[str, ctypes.CDLL], rows: int, dimensions: int, *, is_euclidean: bool
) -> Timed:
    """products of 400 rows"""
    values, query = _values(rows, dimensions)
    lists = np.random.default_rng(SEED).integers(0, rows, (50, _LISTED))
    return _timed_products(libraries, values, query, lists, is_euclidean=is_euclidean)


def _products_of_all(
    libraries: Mapping[str, ctypes.CDLL], rows: int, dimensions: int, *, is_euclidean: bool
) -> Timed:
    """products of all rows"""
    values, query = _values(rows, dimensions)
    return _timed_products(libraries, values, query, None, is_euclidean=is_euclidean)


def _timed_products(
    libraries: Mapping[str, ctypes.CDLL],
    values: Floats,
    query: Floats,
    lists: Rows | None,
    *,
    is_euclidean: bool,
) -> Timed:
    """Return what computes products with the rows of the next list each time, or with all."""
    rows, dimensions = values.shape
    count = rows if lists is None else lists.shape[1]
    products = np.empty(count, np.float32)
    turn = 0

    def listed() -> Rows | None:
        nonlocal turn
        turn += 1
        return None if lists is None else lists[turn % len(lists)]

    def compiled(library: ctypes.CDLL) -> Callable[[], Any]:
        def score() -> Floats:
            rows_read = listed()
            narrow = None if rows_read is None else rows_read.astype(np.uint32)
            library.score_rows(
                _pointer(values), dimensions, _pointer(query),
                None if narrow is None else _pointer(narrow), count, int(is_euclidean),
                _pointer(products),
            )  # fmt: skip
            return products

        return score

    def with_faiss() -> Floats:
        rows_read = listed()
        pointers = map(faiss.swig_ptr, (products, query, values))
        if rows_read is None:
            all_rows = faiss.fvec_L2sqr_ny if is_euclidean else faiss.fvec_inner_products_ny
            all_rows(*pointers, dimensions, rows)
        else:
            by_index = faiss.fvec_L2sqr_by_idx if is_euclidean else faiss.fvec_inner_products_by_idx
            by_index(*pointers, faiss.swig_ptr(rows_read), dimensions, 1, count)
        return products

    def with_numpy() -> Floats:
        rows_read = listed()
        found: list[Floats] = []
        for start in range(0, count, 1_024):
            part = values[start : start + 1_024] if rows_read is None else values[rows_read]
            if is_euclidean:
                part = part - query
                found.append(np.einsum("ij,ij->i", part, part))
            else:
                found.append(np.einsum("ij,j->i", part, query))
        return np.concatenate(found)

    timed = {
        name: compiled(library)
        for name, library in libraries.items()
        if "score_rows" in vars(library)
    }
    timed |= {"faiss": with_faiss, "numpy": with_numpy}
    expected = None
    for compute in timed.values():
        turn = 0
        expected = compute().copy() if expected is None else expected
        turn = 0
        assert np.allclose(compute(), expected, rtol=1e-4, atol=1e-2)
    return timed


def _values(rows: int, dimensions: int) -> tuple[Floats, Floats]:
    random = np.random.default_rng(SEED)
    values = _aligned(random.standard_normal((rows, dimensions), np.float32))
    return values, random.standard_normal(dimensions, np.float32)


def _aligned(array: NDArray[T]) -> NDArray[T]:
    """Return a copy at the start of a page, as the arrays of segments and memtables are."""
    memory = mmap.mmap(-1, array.nbytes)
    copy = np.frombuffer(memory, array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def _least_us(timed: Timed, rounds: int) -> dict[str, float]:
    """Return the least CPU microseconds of one call of each, called in turns."""
    repeats = {}
    for name, call in timed.items():
        start = time.thread_time()
        call()
        repeats[name] = max(1, round(_LEAST_S / max(time.thread_time() - start, 1e-6)))
    least = dict.fromkeys(timed, float("inf"))
    for _ in range(rounds):
        for name, call in timed.items():
            start = time.thread_time()
            for _ in range(repeats[name]):
                call()
            least[name] = min(least[name], (time.thread_time() - start) / repeats[name] * 1e6)
    return least


def _compiled(name: str, flags: tuple[str, ...]) -> ctypes.CDLL:
    """Return the loops around one library's kernels."""
    folders = [SOURCES[0].parent]
    for package, requirement in _PACKAGES.items():
        if name.lower().startswith(package):
            folders = [_headers(package, requirement)]
    _HEADERS.mkdir(parents=True, exist_ok=True)
    library = _HEADERS / f"{'_'.join(name.lower().replace(',', '').split())}.so"
    command = ["cc", *_FLAGS, *flags, *(f"-I{folder}" for folder in folders)]
    subprocess.run([*command, "-o", library, _SOURCE, "-lm"], check=True)
    built = ctypes.CDLL(str(library))
    pointer, integer = ctypes.c_void_p, ctypes.c_int64
    built.near_codes.argtypes = (pointer, integer, pointer, integer, integer, pointer)
    built.near_codes.restype = integer
    built.score_rows.argtypes = (
        pointer, integer, pointer, pointer, integer, integer, pointer
    )  # fmt: skip
    built.score_rows.restype = None
    return built


def _headers(package: str, requirement: str) -> Path:
    """Return the folder of a package's headers, downloaded if they are not there yet."""
    found = list(_HEADERS.glob(f"{package}-*/include"))
    if not found:
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
                *("--no-binary", ":all:", "--dest", str(_HEADERS), requirement),
            ],
            check=True,
        )
        (archive,) = _HEADERS.glob(f"{package}-*.tar.gz")
        with tarfile.open(archive) as opened:
            members = [each for each in opened if "/include/" in each.name]
            opened.extractall(_HEADERS, members, filter="data")
        found = list(_HEADERS.glob(f"{package}-*/include"))
    return found[0]


def _pointer(
    array: Floats | Rows | np.ndarray[tuple[int, ...], np.dtype[np.unsignedinteger]],
) -> int:
    address: int = array.ctypes.data
    return address

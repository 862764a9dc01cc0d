"""The library built from the C of this folder when the package was built (``hatch_build.py``).

The library lies beside its sources and carries their checksum in its name, so that one of other
sources is never loaded. `structures.py` is one of them: the build compares its layout with C's.
"""

import ctypes
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.model import Floats, Mask, Metric, Ordinals
from vicinal.native import structures
from vicinal.native.structures import (
    LINE_BYTES,
    NO_MEMORY,
    Graph,
    LineReader,
    PoolTask,
    Projection,
    TermTable,
    WordSearch,
)

SOURCES = tuple(sorted((*Path(__file__).parent.glob("*.[ch]"), Path(structures.__file__))))

_METRICS = {
    Metric.COSINE: structures.COSINE,
    Metric.EUCLIDEAN: structures.EUCLIDEAN,
    Metric.DOT_PRODUCT: structures.DOT_PRODUCT,
}
_POINTER, _INTEGER = ctypes.c_void_p, ctypes.c_int64


def _function(built: ctypes.CDLL, name: str, returned: type | None, *arguments: type) -> Any:
    """Return a function of the library with its types."""
    function = built[f"vicinal_{name}"]
    function.argtypes, function.restype = arguments, returned
    return function


class PoolCalls:
    """The functions of ``pool.c``. Those that return at once keep the interpreter's lock, as
    releasing and acquiring it costs more than they do."""

    def __init__(self, path: Path) -> None:
        quick = ctypes.PyDLL(str(path))
        self.run = _function(ctypes.CDLL(str(path)), "pool_run", None, _POINTER)
        self.open = _function(quick, "pool_open", _POINTER, ctypes.c_int)
        self.put = _function(quick, "pool_put", _INTEGER, _POINTER, _POINTER, _INTEGER)
        self.take = _function(quick, "pool_take", _INTEGER, _POINTER, _POINTER, _INTEGER)
        self.stop = _function(quick, "pool_stop", None, _POINTER)
        self.close = _function(quick, "pool_close", None, _POINTER)


class Library:
    """The functions of the library at `path`, which run without the interpreter's lock.

    Attributes:
        pool: The functions of ``pool.c``.

    Raises:
        OSError: It is not for this kind of machine.
    """

    def __init__(self, path: Path) -> None:
        built = ctypes.CDLL(str(path))
        rows, scores = (_POINTER, _INTEGER), (_INTEGER, _POINTER)
        self._run_task = _function(built, "run_task", None, _POINTER)
        self._read_lines = _function(built, "read_lines", None, _POINTER)
        self._encode = _function(built, "encode", _INTEGER, _POINTER, *rows, _POINTER)
        self._hammings = _function(built, "hammings", None, *rows, _POINTER, *scores)
        self._nearest_pivots = _function(
            built, "nearest_pivots", _INTEGER, _POINTER, *rows, *rows, *scores
        )
        self._link_part = _function(built, "link_part", _INTEGER, _POINTER, *rows)
        self._prune = _function(built, "prune", None, _POINTER, _INTEGER, _INTEGER, ctypes.c_double)
        self._link_back = _function(built, "link_back", None, _POINTER, _POINTER)
        self._cover = _function(built, "cover", _INTEGER, _POINTER, _INTEGER, _POINTER, _POINTER)
        self._in_intervals = _function(built, "in_intervals", None, *rows, *rows, _POINTER)
        self._norms = _function(built, "norms", None, *rows, *scores)
        self._products = _function(built, "products", None, *rows, *rows, *scores)
        self._row_products = _function(built, "row_products", None, *rows, _POINTER, *rows, *scores)
        self._find_terms = _function(
            built, "find_terms", None, *(_POINTER,) * 4, _INTEGER, *(_POINTER,) * 2
        )
        self._best_words = _function(built, "best_words", None, _POINTER)
        self._word_scores = _function(built, "word_scores", None, _POINTER, *rows, _POINTER)
        self.pool = PoolCalls(path)

    def run_task(self, task: PoolTask) -> None:
        """Search in this thread."""
        self._run_task(ctypes.addressof(task))

    def read_lines(self, reader: LineReader) -> None:
        """Read records until there is no space for more, the text ends, or one is not usual."""
        self._read_lines(ctypes.addressof(reader))

    def encode(self, projection: Projection, values: Floats) -> NDArray[np.uint8]:
        """Return the codes of rows ``(n, d)``, ``(n, code_bytes)``.

        Raises:
            MemoryError: Nothing was encoded.
        """
        values = np.ascontiguousarray(values, np.float32)
        codes = np.empty((len(values), projection.code_bytes), np.uint8)
        rows, count = values.ctypes.data, len(values)
        if self._encode(ctypes.addressof(projection), rows, count, codes.ctypes.data) == NO_MEMORY:
            raise MemoryError("no memory to encode rows")
        return codes

    def hammings(self, codes: NDArray[np.uint8], code: NDArray[np.uint8]) -> NDArray[np.int32]:
        """Return the Hamming distances of codes ``(n, b)`` to a code ``(b,)``.

        b is a multiple of `LINE_BYTES`; both are C-contiguous.
        """
        distances = np.empty(len(codes), np.int32)
        self._hammings(
            codes.ctypes.data, len(codes), code.ctypes.data, codes.shape[1] // LINE_BYTES,
            distances.ctypes.data,
        )  # fmt: skip
        return distances

    def nearest_pivots(
        self, graph: Graph, rows: NDArray[np.uint32], pivots: NDArray[np.uint8], count: int
    ) -> NDArray[np.uint16]:
        """Return the nearest pivots of rows, ``(len(rows), count)``, the nearest first.

        Args:
            rows: C-contiguous ordinals.
            pivots: Codes, ``(p, code_bytes)``, C-contiguous, p from `count` to 65,535.
            count: At least 1.

        Raises:
            MemoryError: Nothing was compared.
        """
        nearest = np.empty((len(rows), count), np.uint16)
        status = self._nearest_pivots(
            ctypes.addressof(graph), rows.ctypes.data, len(rows), pivots.ctypes.data, len(pivots),
            count, nearest.ctypes.data,
        )  # fmt: skip
        if status == NO_MEMORY:
            raise MemoryError("no memory to divide rows")
        return nearest

    def link_part(self, graph: Graph, rows: NDArray[np.uint32]) -> None:
        """Make rows of a part neighbours of each other where they are near.

        Raises:
            MemoryError: Nothing was compared.
        """
        rows = np.ascontiguousarray(rows)
        if self._link_part(ctypes.addressof(graph), rows.ctypes.data, len(rows)) == NO_MEMORY:
            raise MemoryError("no memory to link rows")

    def prune(self, graph: Graph, start: int, end: int, ratio: float) -> None:
        """Keep of the neighbours of rows those that lead somewhere else."""
        self._prune(ctypes.addressof(graph), start, end, ratio)

    def link_back(self, graph: Graph, kept: NDArray[np.uint8]) -> None:
        """Make rows neighbours of their neighbours, of which each row has kept some, ``(n,)``."""
        self._link_back(ctypes.addressof(graph), kept.ctypes.data)

    def cover(self, graph: Graph, further: int) -> NDArray[np.uint32]:
        """Return rows such that every other is a neighbour of one of them, or of one of its first
        `further` neighbours."""
        covered = np.zeros(graph.row_count, np.uint8)
        entries = np.empty(graph.row_count, np.uint32)
        count = self._cover(
            ctypes.addressof(graph), further, covered.ctypes.data, entries.ctypes.data
        )
        return entries[:count].copy()

    def find_terms(
        self,
        table: TermTable,
        live: Mask | None,
        terms: bytes,
        ends: NDArray[np.int64],
        postings: NDArray[np.uint8],
    ) -> NDArray[np.int64]:
        """Return in how many live rows of a segment each of some terms is.

        Args:
            live: ``(row_count,)``, or None where all are.
            terms: UTF-8, one after another.
            ends: Where each ends, ``(n,)``.
            postings: ``(n, sizeof(TermPostings))``, C-contiguous, written.
        """
        frequencies = np.empty(len(ends), np.int64)
        self._find_terms(
            ctypes.addressof(table), None if live is None else live.ctypes.data, terms,
            ends.ctypes.data, len(ends), postings.ctypes.data, frequencies.ctypes.data,
        )  # fmt: skip
        return frequencies

    def best_words(self, search: WordSearch) -> None:
        """Find the rows of a view that have the best words."""
        self._best_words(ctypes.addressof(search))

    def word_scores(self, search: WordSearch, rows: Ordinals) -> NDArray[np.float64]:
        """Return the scores of rows, which ascend."""
        scores = np.empty(len(rows), np.float64)
        self._word_scores(ctypes.addressof(search), rows.ctypes.data, len(rows), scores.ctypes.data)
        return scores

    def in_intervals(self, codes: NDArray[np.int32], bounds: NDArray[np.int32]) -> Mask:
        """Tell for each code ``(n,)`` if it is in an interval of ``[start, stop)``, ``(m, 2)``.

        Both are C-contiguous.
        """
        mask = np.empty(len(codes), np.bool_)
        self._in_intervals(
            codes.ctypes.data, len(codes), bounds.ctypes.data, len(bounds), mask.ctypes.data
        )
        return mask

    def norms(self, rows: Floats) -> Floats:
        """Return the euclidean norms of rows ``(n, d)``, ``(n,)``, infinite on overflow."""
        rows = np.ascontiguousarray(rows, np.float32)
        norms = np.empty(len(rows), np.float32)
        self._norms(rows.ctypes.data, len(rows), rows.shape[1], norms.ctypes.data)
        return norms

    def row_products(
        self,
        values_at: int,
        count: int,
        query: Floats,
        rows: Ordinals | None,
        *,
        is_euclidean: bool,
    ) -> Floats:
        """Return the dot products, or squared distances, of a query and some rows, or all.

        Args:
            values_at: The address of the values, ``(count, d)`` float32, C-contiguous: asking an
                array for it takes as long as the products of a few rows.
            count: Number of all rows, below 2**32.
            query: ``(d,)``.
            rows: ``(m,)`` ordinals, or None for all.
        """
        query = np.ascontiguousarray(query, np.float32)
        listed = None if rows is None else rows.astype(np.uint32)
        products = np.empty(count if rows is None else len(rows), np.float32)
        self._row_products(
            values_at, len(query), query.ctypes.data,
            None if listed is None else listed.ctypes.data, len(products), is_euclidean,
            products.ctypes.data,
        )  # fmt: skip
        return products

    def products(self, rows: Floats, others: Floats) -> Floats:
        """Return ``rows @ others.T`` of ``(n, d)`` and ``(m, d)``."""
        rows = np.ascontiguousarray(rows, np.float32)
        others = np.ascontiguousarray(others, np.float32)
        products = np.empty((len(rows), len(others)), np.float32)
        self._products(
            rows.ctypes.data, len(rows), others.ctypes.data, len(others), rows.shape[1],
            products.ctypes.data,
        )  # fmt: skip
        return products


@cache
def library() -> Library | None:
    """Return the library built from `SOURCES`, or None where there is none that can be loaded."""
    path = library_path(SOURCES)
    if not path.exists():
        return None
    try:
        return Library(path)
    except OSError:  # built for another kind of machine
        return None


def library_path(sources: tuple[Path, ...]) -> Path:
    """Return where the library of these sources lies, if it was built."""
    checksum = sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    return sources[0].with_name(f"_native-{checksum[:16]}.so")


def projection(
    flips: Floats, offset: Floats, dimensions: int, metric: Metric, scale: float = 1.0
) -> Projection:
    """Return the structure; it points to `flips` and `offset`, which must outlive it.

    Args:
        flips: Random signs, ``(rounds, blocks, length)``, C-contiguous.
        offset: ``(bits,)``, C-contiguous.
        scale: The largest norm of the rows under dot-product.
    """
    rounds, blocks, length = flips.shape
    return Projection(
        flips=flips.ctypes.data,
        offset=offset.ctypes.data,
        rounds=rounds,
        blocks=blocks,
        length=length,
        code_bytes=len(offset) // 8,
        dimensions=dimensions,
        metric=_METRICS[metric],
        scale=scale,
    )

"""The compiled search by sign codes: what `library` does with one segment.

Where there is no library, `signs` searches in Python: the same answers, at two to three times
the time. Knows nothing of recipes and effort; `signs` does.
"""

import ctypes
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from vicinal.ann import hamming, projection
from vicinal.ann.base import Proposal
from vicinal.ann.exact import ExactIndex
from vicinal.ann.hamming import Bits
from vicinal.ann.library import (
    CODE_BYTES_MAX,
    NO_MEMORY,
    Library,
    Search,
    Segment,
    Task,
    library,
    projection_by,
)
from vicinal.model import Floats, Mask, Ordinals

_LINE_BYTES = 64  # of which a code has a whole number
_ROWS_MAX = 1 << 32
_FOUND_MAX = 4_096  # more proposals, as when very many rows tie, are left to Python


@dataclass(frozen=True, slots=True)
class Plan:
    """How a search goes, whoever does it.

    Attributes:
        k: How many nearest rows are wanted.
        slack: Bits beyond the reach that are opened.
        near_count: How many rows it is likely to open.
        opened_min: How many rows are opened first.
        opened_max: More rows than this are not opened by their codes alone.
    """

    k: int
    slack: int
    near_count: int
    opened_min: int
    opened_max: int


class CompiledSearch:
    """Searches one segment's codes.

    Args:
        codes: ``(n, b)``, b a multiple of 64.
        sample: That of `codes`.
        offset: The projected mean, ``(8 * b,)``.
        exact: Knows the rows' values.
    """

    def __init__(
        self, built: Library, codes: Bits, sample: Bits, offset: Floats, exact: ExactIndex
    ) -> None:
        self._library = built
        dimensions = exact.values.shape[1]
        signs = projection.signs_for(dimensions, exact.metric, len(offset))
        offset = np.ascontiguousarray(offset, np.float32)
        self._kept = (codes, sample, signs, offset, exact)  # what the pointers point to
        relative, absolute = exact.error
        self._segment = Segment(
            projection=projection_by(signs, offset, dimensions, exact.metric),
            codes=codes.ctypes.data,
            sample=sample.ctypes.data,
            values=exact.values.ctypes.data,
            norms=exact.norms.ctypes.data,
            row_count=len(codes),
            sample_count=len(sample),
            step=hamming.sample_step(len(codes)),
            relative=relative,
            absolute=absolute,
        )

    @staticmethod
    def of(codes: Bits, sample: Bits, offset: Floats, exact: ExactIndex) -> "CompiledSearch | None":
        """Return a search over these codes, or None where it takes Python's."""
        built, code_bytes = library(), codes.shape[1]
        fits = code_bytes % _LINE_BYTES == 0 and code_bytes <= CODE_BYTES_MAX
        if built is None or not fits or len(codes) >= _ROWS_MAX:
            return None
        return CompiledSearch(built, codes, sample, offset, exact)

    def task(
        self,
        query: Floats,
        plan: Plan,
        count: int,
        allowed: Mask | None = None,
        listed: Ordinals | None = None,
    ) -> "SearchTask":
        """Return a search as `signs.SignIndex` does it, for any thread to run.

        Args:
            query: ``(d,)``.
            plan: How.
            count: How many rows are meant; at least 1.
            allowed: ``(n,)``: which. Without it and `listed`, all.
            listed: Which, by their ordinals; not together with `allowed`.
        """
        query = np.ascontiguousarray(query, np.float32)
        found = np.empty(_FOUND_MAX, np.int64)
        if allowed is not None:
            allowed = np.ascontiguousarray(allowed)
        if listed is not None:
            listed = np.ascontiguousarray(listed, np.int64)
        search = Search(
            query.ctypes.data,
            _pointer(allowed),
            _pointer(listed),
            0 if listed is None else len(listed),
            count,
            plan.k,
            plan.slack,
            plan.near_count,
            plan.opened_min,
            plan.opened_max,
            found.ctypes.data,
            _FOUND_MAX,
        )
        return SearchTask(
            self._library, self._segment, search, found, (self, query, allowed, listed)
        )


class SearchTask:
    """A search of one segment that any thread may run; implements `steps.Task`.

    Args:
        segment: Where.
        search: What for; it writes into `found`.
        kept: All that the two point to besides, which lives as long as this.
    """

    __slots__ = ("__weakref__", "_found", "_kept", "_library", "_search", "structure")

    def __init__(
        self, built: Library, segment: Segment, search: Search, found: Ordinals, kept: object
    ) -> None:
        self._library = built
        self._search = search
        self._found = found
        self._kept = (segment, kept)
        self.structure = Task(ctypes.addressof(segment), ctypes.addressof(search))

    @property
    def seconds(self) -> float:
        """See `steps.Task`."""
        return cast(float, self.structure.seconds)

    @property
    def cpu_seconds(self) -> float:
        """See `steps.Task`."""
        return cast(float, self.structure.cpu_seconds)

    def run(self) -> None:
        """See `steps.Task`."""
        self._library.run(self.structure)

    def proposal(self) -> Proposal | None:
        """Return what was found once it has run; None where it takes Python's search.

        Raises:
            MemoryError: Nothing was searched.
        """
        status = self.structure.status
        if status == NO_MEMORY:
            raise MemoryError("no memory for a search by sign codes")
        return Proposal(self._found[:status], self._search.opened_count) if status >= 0 else None


def _pointer(array: NDArray[Any] | None) -> int | None:
    return None if array is None else array.ctypes.data

"""The kinds of approximate index: what a kind has to do, and the list of all.

To add a kind, write its module and put it into `KINDS`; `segment` knows kinds by this seam alone,
and every kind passes ``tests/conformance/test_ann_index.py``. The rows themselves always have an
`exact.ExactIndex`, which a kind uses for distances.
"""

from collections.abc import Collection, Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

from vicinal.ann.base import AnnIndex
from vicinal.ann.binary import BinaryKind
from vicinal.ann.exact import ExactIndex
from vicinal.ann.graph_kind import GraphKind
from vicinal.model import Floats, Metric

Arrays = Mapping[str, NDArray[Any]]


class GrowingIndex(Protocol):
    """An index of rows that are appended, as the memtable's are. One writer."""

    def extend(self, values: Floats) -> None:
        """Append rows, ``(n, d)``."""
        ...

    def index(self, exact: ExactIndex) -> AnnIndex:
        """Return the index of the first ``exact.row_count`` rows; later rows never change it."""
        ...


class AnnKind(Protocol):
    """A kind of approximate index.

    `parameters` are those of an index of an older segment (`AnnIndex.parameters`), of any kind:
    a kind uses its own and ignores those of others.
    """

    @property
    def component(self) -> str:
        """The name of the segment's file that has the arrays; part of the format."""
        ...

    def build(self, exact: ExactIndex, parameters: object | None) -> Arrays | None:
        """Return the arrays to store; None where exact search of these rows is as good."""
        ...

    @property
    def added(self) -> Collection[str]:
        """The names of arrays that files of earlier versions lack."""
        ...

    def layout(self, row_count: int) -> Mapping[str, tuple[str, tuple[int | None, ...]]]:
        """Return dtype and shape of each stored array; None where a length is not fixed."""
        ...

    def open(self, arrays: Arrays, exact: ExactIndex) -> AnnIndex:
        """Return the index of stored arrays, which have their `layout` and may be mapped.

        Raises:
            ValueError: the arrays contradict each other.
        """
        ...

    def grow(
        self, values: Floats, metric: Metric, parameters: object | None
    ) -> GrowingIndex | None:
        """Begin an index of rows that are appended; None where exact search is as good."""
        ...


KINDS: tuple[AnnKind, ...] = (GraphKind(), BinaryKind())
"""In the order in which they are tried."""

"""What a segment asks of an ANN index, and nothing more.

An ANN index is immutable once built, belongs to one segment and speaks *ordinals*: row
numbers ``0..n-1`` of that segment. It *proposes* rows; `vicinal.distance` alone says how
far they are, so every score is exact whatever proposed it. It never sees ids, namespaces,
metadata or JSON.

`exact` is the index that needs no building, and the oracle every other one is tested
against (``tests/conformance/test_ann_index.py``).
"""

from dataclasses import dataclass
from typing import Protocol

from vicinal.model import Floats, Mask, Ordinals


@dataclass(frozen=True, slots=True)
class Proposal:
    """Rows among which the nearest are.

    Attributes:
        rows: ``(m,)`` distinct ordinals, in no order.
        scored_count: How many rows' values were read to find them.
    """

    rows: Ordinals
    scored_count: int


class AnnIndex(Protocol):
    """Proposes the nearest rows of one segment."""

    def candidates(self, query: Floats, k: int, allowed: Mask | None) -> Proposal:
        """Return rows among which the `k` nearest allowed ones are.

        Args:
            query: ``(d,)`` float32, finite, as the user gave it.
            k: At least 1.
            allowed: ``(n,)``; rows that are False are never proposed. None allows all.

        Returns:
            At least ``min(k, allowed rows)`` rows; an exact index includes every row that
            ties with the k-th nearest, an approximate one leaves out a near row as rarely
            as its recall says.
        """
        ...

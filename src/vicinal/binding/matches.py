"""The matches of a query, in Python's and NumPy's types."""

from dataclasses import dataclass
from typing import Any

from vicinal.model import Floats
from vicinal.ranking import Highlight, MatchScores


@dataclass(frozen=True, slots=True)
class Match:
    """A match. `values`, `metadata`, `scores` and `highlights` are None unless asked for and
    present."""

    id: str
    score: float
    namespace: str
    values: Floats | None
    metadata: dict[str, Any] | None
    scores: MatchScores | None = None
    highlights: tuple[Highlight, ...] | None = None


@dataclass(frozen=True, slots=True)
class Matches:
    """The matches of a query, best first.

    `unindexed` names filtered properties that have no metadata index: nothing matches those.
    """

    matches: tuple[Match, ...]
    unindexed: tuple[str, ...]

    @property
    def count(self) -> int:
        """The number of matches."""
        return len(self.matches)

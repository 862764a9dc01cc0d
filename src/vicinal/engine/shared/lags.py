"""How far each copy is behind its log, in mutations and in time."""

from collections import deque
from collections.abc import Iterable, Mapping
from uuid import UUID

from vicinal.model import Seqno
from vicinal.usage import Lag

POLLS_MAX = 1_000  # remembered for an index; more make its lag in seconds coarser, not smaller


class Lags:
    """Ends of logs that polls have seen and copies lack. For one thread, but for `current`.

    Times are monotonic seconds.
    """

    def __init__(self) -> None:
        self._positions: dict[UUID, tuple[Seqno, Seqno]] = {}
        self._seen: dict[UUID, deque[tuple[Seqno, float]]] = {}

    def note(self, index_id: UUID, position: Seqno, logged: Seqno, now: float) -> None:
        """Say where a copy is, and where its log was at a moment."""
        seen = self._seen.setdefault(index_id, deque())
        if seen and seen[-1][0] > logged:  # the log went back
            seen.clear()
        if logged > (seen[-1][0] if seen else position):
            if len(seen) == POLLS_MAX:
                del seen[1]  # the oldest counts
            seen.append((logged, now))
        while seen and seen[0][0] <= position:
            seen.popleft()
        self._positions[index_id] = (position, logged)

    def keep(self, index_ids: Iterable[UUID]) -> None:
        """Remove all but these indexes."""
        for index_id in self._positions.keys() - set(index_ids):
            del self._positions[index_id]
            self._seen.pop(index_id, None)

    def current(self, now: float) -> Mapping[UUID, Lag]:
        """Return how far each copy is behind."""
        lags = {}
        for index_id, (position, logged) in list(self._positions.items()):
            lags[index_id] = Lag(max(0, logged - position), self._seconds(index_id, now))
        return lags

    def _seconds(self, index_id: UUID, now: float) -> float:
        seen = self._seen.get(index_id)
        try:
            return 0.0 if seen is None else max(0.0, now - seen[0][1])
        except IndexError:  # empty, maybe just now
            return 0.0

"""Counts of durations by their length, as an operator's charts need them.

A base module: it reads no clock, and knows not what took long.
"""

import threading
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DurationCounts:
    """Durations at one moment.

    Attributes:
        bounds_s: Upper bounds of the classes of durations but the last, which has none.
        counts: Durations in each class.
        sum_s: Seconds of all of them.
        failure_count: Times that the work failed, which no class counts.
    """

    bounds_s: Sequence[float]
    counts: Sequence[int]
    sum_s: float
    failure_count: int = 0


class Durations:
    """Durations of one kind of work. Thread-safe.

    Args:
        bounds_s: As in `DurationCounts`, in ascending order.
    """

    def __init__(self, bounds_s: Sequence[float]) -> None:
        self._bounds_s = bounds_s
        self._counts = [0] * (len(bounds_s) + 1)
        self._sum_s = 0.0
        self._failure_count = 0
        self._lock = threading.Lock()

    def add(self, seconds: float) -> None:
        """Count work that took `seconds`."""
        bucket = bisect_left(self._bounds_s, seconds)
        with self._lock:
            self._counts[bucket] += 1
            self._sum_s += seconds

    def add_failure(self) -> None:
        """Count work that failed."""
        with self._lock:
            self._failure_count += 1

    def current(self) -> DurationCounts:
        """Return all counts as of one moment."""
        with self._lock:
            return DurationCounts(
                self._bounds_s, tuple(self._counts), self._sum_s, self._failure_count
            )

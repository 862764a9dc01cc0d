"""Pins: while an index at one moment is copied, its segments, log rows and blob files stay.

A merge that has committed removes the folders it merged from, and truncating removes mutations
that a segment has by now. Both ask here first: a segment that a pin has is removed when the last of
its pins is released, and mutations after the moment's sealed seqno stay as long. A crash forgets
nothing: opening removes all that the manifest does not name.
"""

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass

from vicinal.model import Seqno


@dataclass(frozen=True, slots=True, eq=False)
class Pin:
    """A moment that is being copied: its segments, and where its mutations begin."""

    segments: Collection[int]
    sealed_seqno: Seqno


class Pins:
    """The pins of one open index. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pins: list[Pin] = []
        self._removals: dict[int, Callable[[], None]] = {}

    @property
    def is_empty(self) -> bool:
        """Whether nothing is pinned."""
        return not self._pins

    def add(self, segments: Collection[int], sealed_seqno: Seqno) -> Pin:
        """Pin a moment, of which nothing has been removed."""
        pin = Pin(segments, sealed_seqno)
        with self._lock:
            self._pins.append(pin)
        return pin

    def release(self, pin: Pin) -> None:
        """Release a pin, and remove the segments that were kept for it alone."""
        with self._lock:
            self._pins.remove(pin)
            kept = {number for other in self._pins for number in other.segments}
            freed = [number for number in self._removals if number not in kept]
            removals = [self._removals.pop(number) for number in freed]
        for remove in removals:
            remove()

    def remove_segment(self, number: int, remove: Callable[[], None]) -> None:
        """Call `remove` for a segment that the manifest does not name, once no pin has it."""
        with self._lock:
            if any(number in pin.segments for pin in self._pins):
                self._removals[number] = remove
                return
        remove()

    def truncatable(self, sealed_seqno: Seqno) -> Seqno:
        """Return up to where mutations may be removed, of those that segments have."""
        with self._lock:
            return min([sealed_seqno, *(pin.sealed_seqno for pin in self._pins)])

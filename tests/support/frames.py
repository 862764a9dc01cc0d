"""Room for the frames of all that a test calls, in one piece.

Python keeps frames in chunks of 16 KiB. It maps a chunk when a call needs more than is left, and
unmaps it when that call returns: a loop whose calls begin at the end of a chunk does so each time
round, which costs more than most calls. Tests are called from far down, hypothesis' from farther.
"""

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_SLOTS = 66_000  # of 8 bytes: a chunk has a power of two of them, so nearly half of it is left


def with_room(call: Callable[[], T]) -> T:
    """Return what a call returns; the frames of what it calls are in one chunk."""
    return call()


# The first frame in a chunk says how large that is, and the code says how large its frame may grow.
with_room.__code__ = with_room.__code__.replace(co_stacksize=_SLOTS)

"""What the engine asks of the C allocator (glibc's; anywhere else it asks nothing).

A heap for each thread is not needed where one lock lets a thread at a time allocate, and what
threads leave in them adds up: 3 MB after 50,000 vectors.

Sealing and merging pass hundreds of megabytes through arrays of a few megabytes each. Left
alone, glibc keeps what they free for later, in one heap for each thread: at 50,000 vectors
of 768 dimensions 180 MB, against 30 MB that are in use.
"""

import ctypes
from functools import cache

_LARGE_BYTES = 1 << 20
_HEAPS_MAX = 2
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # malloc.h


def economise() -> None:
    """Have large arrays given back to the system as soon as they are freed, and few heaps."""
    libc = _glibc()
    if libc is not None:
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        libc.mallopt(_M_ARENA_MAX, _HEAPS_MAX)


def release() -> None:
    """Give freed memory back to the system; takes milliseconds."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL(None)
        libc.malloc_trim, libc.mallopt  # noqa: B018 - asks whether there are such functions
    except (OSError, AttributeError):
        return None
    return libc

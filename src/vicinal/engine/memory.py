"""Settings of glibc's allocator; other allocators are left alone.

glibc is limited to two arenas: under the interpreter's lock one thread at a time allocates, so that
arenas of threads only fragment memory, 3 MB after 50,000 vectors.

Sealing and merging pass hundreds of megabytes through arrays of a few megabytes each. By default
glibc keeps their freed memory in the arena of the thread: 180 MB at 50,000 vectors of 768
dimensions, of which 30 MB are in use.

The memory of a search, up to 1.3 MB where ten million rows are walked, stays with the
heap: mapping it anew for each search took half of the search's CPU.
"""

import ctypes
from functools import cache

RELEASED_BYTES_MIN = 4 << 20
"""Of memtables and segments, after which freed memory is returned; ours."""
_LARGE_BYTES = 2 << 20
_FREE_BYTES_MAX = 4 << 20  # at the end of the heap, for what is allocated next
_ARENAS_MAX = 2
_M_KEPT_AT_END, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h

_passed_bytes = 0


def economise() -> None:
    """Have freed large arrays returned to the system at once, and bound the number of arenas."""
    libc = _glibc()
    if libc is not None:
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        libc.mallopt(_M_KEPT_AT_END, _FREE_BYTES_MAX)
        libc.mallopt(_M_ARENA_MAX, _ARENAS_MAX)


def release_after(byte_count: int) -> None:
    """Return freed memory to the system if many bytes were passed through since the last time.

    Looking through the heap takes milliseconds, and as long for three rows as for a million.
    """
    global _passed_bytes
    _passed_bytes += byte_count  # of two threads at once one may be lost
    if _passed_bytes >= RELEASED_BYTES_MIN:
        _passed_bytes = 0
        release()


def release() -> None:
    """Return freed memory to the system; takes milliseconds."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL(None)
        libc.malloc_trim, libc.mallopt  # noqa: B018 - raises where they are missing
    except (OSError, AttributeError):
        return None
    return libc

"""Settings of glibc's allocator; other allocators are left alone.

glibc is limited to two arenas: under the interpreter's lock one thread at a time allocates, so that
arenas of threads only fragment memory, 3 MB after 50,000 vectors.

Sealing and merging pass hundreds of megabytes through arrays of a few megabytes each. By default
glibc keeps their freed memory in the arena of the thread: 180 MB at 50,000 vectors of 768
dimensions, of which 30 MB are in use.
"""

import ctypes
from functools import cache

_LARGE_BYTES = 1 << 20
_ARENAS_MAX = 2
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # malloc.h


def economise() -> None:
    """Have freed large arrays returned to the system at once, and bound the number of arenas."""
    libc = _glibc()
    if libc is not None:
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        libc.mallopt(_M_ARENA_MAX, _ARENAS_MAX)


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

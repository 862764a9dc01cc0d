"""A float32 arena for the memtable, into which rows of blob files can be mapped.

The values of a long mutation are in a file before they are applied, and its pages are in memory.
Mapped into the arena in place of its own pages, these rows need no second memory and no copy. A
mapping begins at a page of the arena and of the file: a few rows before it may stay unused.

Rules: this knows rows and pages, not what they mean. Mapped files must not change; they may be
removed. On a system without such mappings the caller copies the rows.
"""

import ctypes
import mmap
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from math import gcd
from pathlib import Path

import numpy as np

from vicinal.model import Floats

FILE_OFFSET = 1 << 14
"""The byte of a file at which rows begin: 16 KiB, the longest page of usual systems."""

_UNUSED_SHARE_MAX = 1 / 16  # unused rows per mapped row; ours
_MAP_FIXED = 0x10  # sys/mman.h of Linux and macOS


class MappedArena:
    """Address space for rows; rows that were never written take no memory.

    Attributes:
        values: ``(row_count, d)`` float32, zeros at first.
    """

    def __init__(self, row_count: int, dimensions: int) -> None:
        size = row_count * dimensions * np.dtype(np.float32).itemsize
        self._memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with suppress(AttributeError, OSError):  # a system without huge pages
            self._memory.madvise(mmap.MADV_HUGEPAGE)
        self.values: Floats = np.frombuffer(self._memory, np.float32).reshape(-1, dimensions)

    def map_file(self, row: int, count: int, path: Path) -> int | None:
        """Map `count` rows of a file at `row`, or at the next row that begins at a page.

        Args:
            row: Rows from this one on are not in use.
            count: The number of rows.
            path: The file, with the rows at `FILE_OFFSET`.

        Returns:
            The first mapped row; None where they cannot be mapped, and nothing has changed.

        Raises:
            MemoryError: the rows of the arena from `row` on must not be used any more.
        """
        map_at = _map_at()
        row_bytes = self.values[0].nbytes
        step = mmap.PAGESIZE // gcd(row_bytes, mmap.PAGESIZE)  # rows that fill pages
        first = -(-row // step) * step
        if (
            map_at is None
            or FILE_OFFSET % mmap.PAGESIZE
            or first - row > _UNUSED_SHARE_MAX * count
            or first + count > len(self.values)
        ):
            return None
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError:  # too many are open
            return None
        try:
            if os.fstat(descriptor).st_size < FILE_OFFSET + count * row_bytes:
                return None  # touching a page behind the end of a file would end the process
            address = self.values.ctypes.data + first * row_bytes
            access = mmap.PROT_READ | mmap.PROT_WRITE  # what is written here the file does not get
            flags = mmap.MAP_PRIVATE | _MAP_FIXED
            size = count * row_bytes
            if map_at(address, size, access, flags, descriptor, FILE_OFFSET) != address:
                raise MemoryError(f"{size} bytes of {path} could not be mapped")
        finally:
            os.close(descriptor)
        return first


def _map_at() -> Callable[[int, int, int, int, int, int], int] | None:
    """Return the system's ``mmap``, None where its signature may differ."""
    if sys.platform not in ("linux", "darwin") or sys.maxsize < 2**32:
        return None
    function = ctypes.CDLL(None).mmap
    function.argtypes = (
        ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64,
    )  # fmt: skip
    function.restype = ctypes.c_void_p
    return function

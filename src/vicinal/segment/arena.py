"""Rows side by side in memory, some of which are where a file has them.

The values of a long mutation are in a file before they are applied, and its pages are in memory.
A room shows such pages in place of its own, so that these rows need no memory of their own and
are not copied. That takes rows that begin at a page here as they do there: a few rows before them
may stay unused.

Rules: this knows rows and pages, not what they mean. Mapped files must not change; they may be
removed. Where the system has no such thing, rows are copied, which is for the caller to do.
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
"""The byte of a file at which rows begin; most systems have pages of this length or less."""

_UNUSED_SHARE_MAX = 1 / 16  # of the rows that are mapped behind them; ours
_MAP_FIXED = 0x10  # sys/mman.h of Linux and macOS


class MappedArena:
    """Address space for rows; those never written to take no memory.

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
        """Have `count` rows from `row` on, or from a little later, be those of a file.

        Args:
            row: Rows from here on are written to or read by nobody yet.
            count: How many rows there are.
            path: The file.

        Returns:
            The first of them; None where they cannot be shown, and nothing has changed.

        Raises:
            MemoryError: the rows of the room from `row` on must not be used any more.
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
    """Return the system's ``mmap``, None where it may be another than the one meant here."""
    if sys.platform not in ("linux", "darwin") or sys.maxsize < 2**32:
        return None
    function = ctypes.CDLL(None).mmap
    function.argtypes = (
        ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64,
    )  # fmt: skip
    function.restype = ctypes.c_void_p
    return function

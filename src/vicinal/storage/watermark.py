"""A watermark: the number that something durable has certainly come to.

    file := number u64 | CRC-32 of it u32          12 bytes, little-endian

Written over in place after each commit, and never synced: that takes microseconds, where
a second sync would double the cost of a commit. So it outlives its process but not
always its machine, and since a commit is on disk before its watermark is written, no
watermark is ever ahead of what it stands for. Less than it says is therefore damage; one that is
missing, older or unreadable says nothing.
"""

import os
import struct
from pathlib import Path

from zlib_ng.zlib_ng import crc32

_NUMBER = struct.Struct("<Q")
_CHECKSUM = struct.Struct("<I")
_BINARY = getattr(os, "O_BINARY", 0)  # of Windows, which else changes line ends


class Watermark:
    """An open watermark. One thread at a time."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _BINARY, 0o600)

    def read(self) -> int:
        """Return the number, 0 when there is none."""
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        raw = os.read(self._descriptor, _NUMBER.size + _CHECKSUM.size)
        number = raw[: _NUMBER.size]
        if raw[_NUMBER.size :] != _CHECKSUM.pack(crc32(number)):
            return 0
        return int(_NUMBER.unpack(number)[0])

    @staticmethod
    def problem(path: Path) -> str:
        """Return what is wrong with the bytes of a watermark at rest, an empty text for nothing.

        Raises:
            FileNotFoundError: there is none.
        """
        raw = path.read_bytes()
        number = raw[: _NUMBER.size]
        if raw and raw[_NUMBER.size :] != _CHECKSUM.pack(crc32(number)):
            return f"is damaged in its {len(raw)} bytes; it is written again with the next commit"
        return ""

    def write(self, number: int) -> None:
        """Replace the number."""
        raw = _NUMBER.pack(number)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        os.write(self._descriptor, raw + _CHECKSUM.pack(crc32(raw)))

    def close(self) -> None:
        """Close the file; closing again does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

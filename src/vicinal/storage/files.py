"""Write-once component files: named arrays, checksummed block by block.

    file     := magic body trailer footer
    magic    := "VICINAL\\n"                                            8 bytes
    body     := arrays, each starting at a multiple of 64 bytes or more, zero padding between
    trailer  := JSON: kind, format version, arrays (name, dtype, shape, offset), the size of
                a block and the CRC-32 of every block of the file before the trailer
    footer   := trailer length u32 | trailer CRC-32 u32 | magic         16 bytes, little-endian

A file is written once, to its end, and fsynced; after that it never changes. The manifest, which
names the file, has its `Seal`: size and trailer checksum. The trailer has the checksums of the
blocks, so the seal covers every byte.

All damage is found: a file cut off or grown differs from its seal's size, a changed trailer or
footer from its checksum, a changed byte elsewhere from its block's. Opening checks everything but
the blocks; the blocks of small files are verified at once and those of large files before first
use, so that opening does not read gigabytes. Damaged bytes are never returned: `Corruption` names
the file instead.

The system decides how much a page fault reads, 8 MiB on some machines, which is right for arrays
that are read whole and ruinous for scattered rows. So `madvise` tells the system.

This module knows arrays of numbers: no vectors, ids or segments.
"""

import math
import mmap
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

import msgspec
import numpy as np
from numpy.typing import DTypeLike, NDArray
from zlib_ng.zlib_ng import crc32

from vicinal.errors import Corruption
from vicinal.storage import private

FORMAT_VERSION = 1
BLOCK_BYTES = 1 << 14  # as a row that a cold query reads costs a block or two
VERIFIED_AT_OPEN_BYTES_MAX = 8 << 20  # ours: about 4 ms of checking

_READ_AHEAD_BYTES = 8 << 20  # read by the system before they are verified

_MAGIC = b"VICINAL\n"
_FOOTER = struct.Struct("<II8s")
_ALIGNMENT = 64


class _ArrayEntry(msgspec.Struct, frozen=True):
    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int


class _Trailer(msgspec.Struct, frozen=True):
    kind: str
    version: int
    arrays: tuple[_ArrayEntry, ...]
    blocks: tuple[int, ...]
    block_bytes: int = 1 << 18  # of files without this member


@dataclass(frozen=True, slots=True)
class Seal:
    """Size in bytes and trailer checksum of a file; another file of its name is damage."""

    size: int
    checksum: int


class ComponentWriter:
    """A writer of one component file, of whole arrays or chunks of their rows.

    Use as a context manager; `seal` is set when the block ends without an error, and then the
    file's bytes (not its directory entry) are on disk. Or call `open`, and in the end `finish` or
    `cancel`.

    Args:
        path: Path of the new file.
        kind: Name of the kind of file; `ComponentFile` opens it by the same.
        block_bytes: Bytes with a checksum of their own; large for files that are read whole.
        alignment: Arrays start at multiples of this number of bytes.
    """

    seal: Seal

    def __init__(
        self,
        path: Path,
        kind: str,
        block_bytes: int = BLOCK_BYTES,
        alignment: int = _ALIGNMENT,
    ) -> None:
        self._path = path
        self._kind = kind
        self._block_bytes = block_bytes
        self._alignment = alignment
        self._arrays: list[_ArrayEntry] = []
        self._blocks: list[int] = []
        self._block = 0
        self._offset = 0

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.finish()
        else:
            self.cancel()

    def open(self) -> None:
        """Make the file."""
        # Closed by `finish` or `cancel`.
        self._file: BinaryIO = open(self._path, "x+b", opener=private.opener)  # noqa: SIM115
        try:
            self._write(_MAGIC)
        except OSError:
            self.cancel()
            raise

    def add(self, name: str, array: NDArray[Any]) -> None:
        """Append a whole array."""
        self.add_chunks(name, array.dtype, array.shape, [array])

    def add_chunks(
        self,
        name: str,
        dtype: DTypeLike,
        shape: tuple[int, ...],
        chunks: Iterable[NDArray[Any]],
    ) -> None:
        """Append an array whose rows come in chunks that together have `shape`."""
        self.begin(name, dtype)
        for chunk in chunks:
            self.extend(chunk)
        self.end(shape)

    def begin(self, name: str, dtype: DTypeLike) -> None:
        """Begin an array, whose rows `extend` appends, until `end`."""
        self._write(bytes(-self._offset % self._alignment))
        self._name, self._dtype = name, np.dtype(dtype).newbyteorder("<")
        self._start = self._offset

    def extend(self, rows: NDArray[Any]) -> None:
        """Append rows to the begun array."""
        self._write(np.ascontiguousarray(rows, self._dtype).reshape(-1).view(np.uint8).data)

    def end(self, shape: tuple[int, ...]) -> None:
        """End the begun array, which has this shape."""
        is_whole = self._offset - self._start == math.prod(shape) * self._dtype.itemsize
        assert is_whole, f"chunks of {self._name} do not make up {shape}"
        self._arrays.append(_ArrayEntry(self._name, self._dtype.str, shape, self._start))

    def flush(self) -> None:
        """Have readers of the file find what was written until now."""
        self._file.flush()

    def mapped(self) -> mmap.mmap:
        """Return the file as written until now, memory-mapped."""
        self.flush()
        return mmap.mmap(self._file.fileno(), self._offset, access=mmap.ACCESS_READ)

    def cancel(self) -> None:
        """Close the file without its end; the caller removes it."""
        with suppress(OSError):  # bytes that are still buffered are not needed
            self._file.close()

    def finish(self) -> None:
        """Write the end of the file, fsync it and set `seal`."""
        with self._file as file:
            if self._offset % self._block_bytes:
                self._blocks.append(self._block)
            trailer = msgspec.json.encode(
                _Trailer(
                    self._kind,
                    FORMAT_VERSION,
                    tuple(self._arrays),
                    tuple(self._blocks),
                    self._block_bytes,
                )
            )
            checksum = crc32(trailer)
            file.write(trailer)
            file.write(_FOOTER.pack(len(trailer), checksum, _MAGIC))
            file.flush()
            sync(file.fileno())
            self.seal = Seal(self._offset + len(trailer) + _FOOTER.size, checksum)

    def _write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        self._file.write(view)
        while view:
            rest = self._block_bytes - self._offset % self._block_bytes
            piece, view = view[:rest], view[rest:]
            self._block = crc32(piece, self._block)
            self._offset += len(piece)
            if len(piece) == rest:
                self._blocks.append(self._block)
                self._block = 0


def write(path: Path, kind: str, arrays: Mapping[str, NDArray[Any]]) -> Seal:
    """Write a component file of whole arrays and fsync it."""
    with ComponentWriter(path, kind) as writer:
        for name, array in arrays.items():
            writer.add(name, array)
    return writer.seal


class ComponentFile(Mapping[str, NDArray[Any]]):
    """A component file, memory-mapped: its arrays by name, in their order, verified when accessed.

    Arrays are read-only views that keep it mapped.

    Args:
        path: Path of the file.
        kind: Name of the kind of file.
        seal: Size and trailer checksum that it was written with.
        verifies: Whether the blocks of a small file are verified at once.

    Raises:
        Corruption: on opening, when the file is missing, differs from its seal or is not
            of this kind and version; from access and verifying, when a block is damaged.
    """

    def __init__(self, path: Path, kind: str, seal: Seal, *, verifies: bool = True) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size != seal.size:
                    raise Corruption(f"{path} has {size} bytes, but {seal.size} were written")
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError as error:
            raise Corruption(f"{path} is missing") from error
        trailer = self._read_trailer(seal)
        if trailer.kind != kind or trailer.version != FORMAT_VERSION:
            raise Corruption(
                f"{path} holds {trailer.kind!r} in format {trailer.version}, "
                f"not {kind!r} in format {FORMAT_VERSION}"
            )
        self._check_bounds(trailer)
        self._entries = {entry.name: entry for entry in trailer.arrays}
        self._checksums = np.array(trailer.blocks, np.uint32)
        self._block_bytes = trailer.block_bytes
        self._verified = np.zeros(len(trailer.blocks), dtype=np.bool_)
        self.is_verified = False
        if verifies and self._body_size <= VERIFIED_AT_OPEN_BYTES_MAX:
            self.verify_all()

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def expect(self, name: str, dtype: DTypeLike, *shape: int | None) -> tuple[int, ...]:
        """Return the shape of an array with this type and these lengths; None is any length.

        Checksums tell that an array is as it was written, not that it belongs here.

        Raises:
            Corruption: the file has no such array.
        """
        entry = self._entries.get(name)
        if entry is None:
            raise Corruption(f"{self.path} has no array {name!r}")
        is_alike = len(entry.shape) == len(shape) and all(
            expected in (None, length) for expected, length in zip(shape, entry.shape, strict=True)
        )
        if np.dtype(entry.dtype) != np.dtype(dtype) or not is_alike:
            raise Corruption(
                f"array {name!r} of {self.path} is {entry.shape} of {np.dtype(entry.dtype)}, "
                f"not {shape} of {np.dtype(dtype)}"
            )
        return entry.shape

    def __getitem__(self, name: str) -> NDArray[Any]:
        entry = self._entries[name]
        if self._nbytes(entry) and not self.is_verified:
            self._verify_range(entry.offset, self._nbytes(entry))
        return self._array(name)

    def unverified_array(self, name: str) -> NDArray[Any]:
        """Return an array; the caller verifies the rows that it reads (`verify_rows`).

        The system expects reads of a few rows at a time; `read_ahead` prepares for many.
        """
        entry = self._entries[name]
        self._advise("MADV_RANDOM", entry.offset, entry.offset + self._nbytes(entry))
        return self._array(name)

    def blocks(self, name: str) -> tuple[NDArray[np.bool_], int, int]:
        """Tell whether each block is verified, as of now; its bytes; where an array begins."""
        return self._verified, self._block_bytes, self._entries[name].offset

    def read_ahead(self, name: str, start: int, stop: int) -> None:
        """Have the system read rows `start` to `stop` (first axis) of an array in advance."""
        entry = self._entries[name]
        row_bytes = self._nbytes(entry) // max(entry.shape[0], 1)
        self._advise(
            "MADV_WILLNEED", entry.offset + start * row_bytes, entry.offset + stop * row_bytes
        )

    def _array(self, name: str) -> NDArray[Any]:
        entry = self._entries[name]
        flat = np.frombuffer(self._map, entry.dtype, math.prod(entry.shape), entry.offset)
        return flat.reshape(entry.shape)

    def verify_rows(self, name: str, rows: NDArray[np.int64]) -> None:
        """Verify the blocks that hold these rows (first axis) of an array."""
        if self.is_verified or not len(rows):
            return
        entry = self._entries[name]
        row_bytes = self._nbytes(entry) // max(entry.shape[0], 1)
        first = (entry.offset + rows * row_bytes) // self._block_bytes
        last = (entry.offset + (rows + 1) * row_bytes - 1) // self._block_bytes
        if row_bytes <= self._block_bytes and (self._verified[first] & self._verified[last]).all():
            return  # as is usual after a while, in a quarter of the time of what follows
        # A row spans few blocks, so all rows advance by a block at a time.
        distances = range(int((last - first).max()) + 1)
        blocks = np.concatenate([np.minimum(first + distance, last) for distance in distances])
        unverified = sorted(set(blocks[~self._verified[blocks]].tolist()))
        for block in unverified:
            self._advise("MADV_WILLNEED", *self._bounds(block))
        for block in unverified:
            self._verify(block)

    def verify_slice(self, name: str, start: int, stop: int) -> None:
        """Verify the blocks that hold rows `start` to `stop` (first axis) of an array."""
        if self.is_verified or start == stop:
            return
        entry = self._entries[name]
        row_bytes = self._nbytes(entry) // entry.shape[0]
        self._verify_range(entry.offset + start * row_bytes, (stop - start) * row_bytes)

    def _verify_range(self, offset: int, size: int) -> None:
        first, last = offset // self._block_bytes, (offset + size - 1) // self._block_bytes
        self._verify_in_order([*range(first, last + 1)], lambda: False)

    def verify_all(self, should_stop: Callable[[], bool] = lambda: False) -> None:
        """Verify all unverified blocks, until `should_stop`, which is called between blocks."""
        self.is_verified = self.is_verified or self._verify_in_order(
            np.flatnonzero(~self._verified).tolist(), should_stop
        )

    def damaged_blocks(self) -> Iterator[tuple[int, int]]:
        """Read all blocks in order; yield the bytes that damaged ones begin and end at."""
        self._advise("MADV_SEQUENTIAL", 0, len(self._map))
        for block in range(len(self._checksums)):
            if not self._is_whole(block):
                yield self._bounds(block)

    def _verify_in_order(self, blocks: Sequence[int], should_stop: Callable[[], bool]) -> bool:
        """Verify ascending blocks while the system reads the next ones; tell whether all are."""
        read_to = 0
        for block in blocks:
            if should_stop():
                return False
            end = (block + 1) * self._block_bytes
            if end + _READ_AHEAD_BYTES // 2 > read_to:
                start, read_to = max(end - self._block_bytes, read_to), end + _READ_AHEAD_BYTES
                self._advise("MADV_WILLNEED", start, read_to)
            if not self._verified[block]:
                self._verify(block)
        return True

    def _advise(self, advice: str, start: int, stop: int) -> None:
        """Tell the system how a range will be read, where it has this advice."""
        option = getattr(mmap, advice, None)
        start -= start % mmap.PAGESIZE
        size = min(stop, len(self._map)) - start
        if option is not None and size > 0:
            self._map.madvise(option, start, size)

    def check_size(self) -> None:
        """Check that the file still has its length.

        Raises:
            Corruption: the file has another length, or is gone.
        """
        check_size(self.path, len(self._map))

    @property
    def unverified_bytes(self) -> int:
        """Bytes that are not verified yet, to within a block."""
        return 0 if self.is_verified else self._block_bytes * int((~self._verified).sum())

    @property
    def _body_size(self) -> int:
        return len(self._map) - _FOOTER.size - self._trailer_size

    def _verify(self, block: int) -> None:
        if not self._is_whole(block):
            start, end = self._bounds(block)
            raise Corruption(f"{self.path} is damaged between bytes {start} and {end}")
        self._verified[block] = True

    def _is_whole(self, block: int) -> bool:
        start, end = self._bounds(block)
        with memoryview(self._map) as view, view[start:end] as piece:
            return bool(crc32(piece) == self._checksums[block])

    def _bounds(self, block: int) -> tuple[int, int]:
        start = block * self._block_bytes
        return start, min(start + self._block_bytes, self._body_size)

    def _read_trailer(self, seal: Seal) -> _Trailer:
        length = checksum = 0
        magic = b""
        if len(self._map) >= _FOOTER.size + len(_MAGIC):
            length, checksum, magic = _FOOTER.unpack(self._map[-_FOOTER.size :])
        end = len(self._map) - _FOOTER.size
        if magic != _MAGIC or checksum != seal.checksum or length > end:
            raise Corruption(f"the footer of {self.path} is damaged")
        raw = self._map[end - length : end]
        if crc32(raw) != checksum:
            raise Corruption(f"the trailer of {self.path} is damaged")
        self._trailer_size = length
        try:
            return msgspec.json.decode(raw, type=_Trailer)
        except msgspec.MsgspecError as error:
            raise Corruption(f"the trailer of {self.path} cannot be read: {error}") from error

    def _check_bounds(self, trailer: _Trailer) -> None:
        """Check that all arrays lie within the file: reading behind it would end the process."""
        size = self._body_size
        try:
            lie_within = all(
                entry.offset >= 0
                and min(entry.shape, default=0) >= 0
                and entry.offset + self._nbytes(entry) <= size
                for entry in trailer.arrays
            )
        except TypeError as error:  # NumPy's, of a type that it does not know
            raise Corruption(f"the trailer of {self.path} cannot be read: {error}") from error
        if trailer.block_bytes < 1 or len(trailer.blocks) != -(-size // trailer.block_bytes):
            raise Corruption(f"{self.path} has {len(trailer.blocks)} checksums for {size} bytes")
        if not lie_within:
            raise Corruption(f"an array of {self.path} lies outside of it")

    @staticmethod
    def _nbytes(entry: _ArrayEntry) -> int:
        return math.prod(entry.shape) * np.dtype(entry.dtype).itemsize


def check_size(path: Path, size: int) -> None:
    """Check that a file still has the length that it was written with.

    Raises:
        Corruption: the file has another length, or is gone.
    """
    try:
        length = path.stat().st_size
    except FileNotFoundError as error:
        raise Corruption(f"{path} is missing") from error
    if length != size:
        raise Corruption(f"{path} has {length} bytes, but {size} were written")


def sync(descriptor: int) -> None:
    """fsync a descriptor; all durable bytes outside SQLite are synced by this function."""
    os.fsync(descriptor)


def sync_directory(path: Path) -> None:
    """fsync a directory, so that the names in it survive a power cut; Windows cannot, and logs its
    names."""
    flag = getattr(os, "O_DIRECTORY", None)
    if flag is None:
        return
    descriptor = os.open(path, os.O_RDONLY | flag)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def publish(temporary: Path, final: Path) -> None:
    """Give a finished file or directory its final name, durably.

    Files inside are fsynced already. A crash before the rename leaves the temporary name,
    which nothing reads and the next start removes.
    """
    if temporary.is_dir():
        sync_directory(temporary)
    temporary.rename(final)
    sync_directory(final.parent)

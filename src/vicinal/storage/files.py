"""Write-once component files: named arrays, checksummed block by block.

    file     := magic body trailer footer
    magic    := "VICINAL\\n"                                            8 bytes
    body     := arrays, each starting at a multiple of 64 bytes or more, zero padding between
    trailer  := JSON: kind, format version, arrays (name, dtype, shape, offset), the size of
                a block and the CRC-32 of every block of the file before the trailer
    footer   := trailer length u32 | trailer CRC-32 u32 | magic         16 bytes, little-endian

A file is written once, to its end, and fsynced; after that it never changes. Whoever
names it (the manifest) keeps its `Seal`: size and trailer checksum. The trailer holds the
checksums of the blocks, so the seal vouches for every byte.

What damage can do: a file cut off or grown differs from its seal's size; a changed
trailer or footer from its checksum; a changed byte elsewhere from its block's. Opening
checks all but the blocks; small files' blocks are checked at once and large ones' before
first use (`ComponentFile.verify`), so that opening does not read gigabytes. Nothing
damaged is ever handed out: `Corruption` names the file instead.

What the system reads on a page fault is up to it, 8 MiB on some machines, which is right for
arrays that are read whole and ruinous for rows here and there. So it is told (`madvise`).

This module knows arrays of numbers, not what they mean: no vectors, ids or segments.
"""

import mmap
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import msgspec
import numpy as np
from numpy.typing import DTypeLike, NDArray
from zlib_ng.zlib_ng import crc32

from vicinal.errors import Corruption
from vicinal.storage import private

FORMAT_VERSION = 1
BLOCK_BYTES = 1 << 14  # as each row that a cold query reads costs it a block or two
VERIFIED_AT_OPEN_BYTES_MAX = 8 << 20  # ours: about 4 ms of checking

_READ_AHEAD_BYTES = 8 << 20  # asked for before they are checked, and while those before are

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
    block_bytes: int = 1 << 18  # of files that do not say


@dataclass(frozen=True, slots=True)
class Seal:
    """What the manifest remembers of a file: any other file under its name is damage."""

    size: int
    checksum: int


class ComponentWriter:
    """Writes one component file; arrays may be given whole or in chunks of rows.

    Use as a context manager; `seal` is set when the block ends without an error, and by
    then the file's bytes (not its directory entry) are on disk. Or call `open`, and in the
    end `finish` or `cancel`.

    Args:
        path: Where there is no file yet.
        kind: What `ComponentFile` must be told to open it.
        block_bytes: How much has a checksum of its own; large where all is read at once.
        alignment: The multiple of bytes that arrays start at.
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
        """Append an array whose rows `extend` gives, until `end`."""
        self._write(bytes(-self._offset % self._alignment))
        self._name, self._dtype = name, np.dtype(dtype).newbyteorder("<")
        self._start = self._offset

    def extend(self, rows: NDArray[Any]) -> None:
        """Append rows to the array that has begun."""
        self._write(np.ascontiguousarray(rows, self._dtype).reshape(-1).view(np.uint8).data)

    def end(self, shape: tuple[int, ...]) -> None:
        """Say what shape the array has that has begun."""
        expected = int(np.prod(shape, dtype=np.int64)) * self._dtype.itemsize
        is_whole = self._offset - self._start == expected
        assert is_whole, f"chunks of {self._name} do not make up {shape}"
        self._arrays.append(_ArrayEntry(self._name, self._dtype.str, shape, self._start))

    def mapped(self) -> mmap.mmap:
        """Return the file up to what was appended last, memory-mapped."""
        self._file.flush()
        return mmap.mmap(self._file.fileno(), self._offset, access=mmap.ACCESS_READ)

    def cancel(self) -> None:
        """Close the file, which is of no use."""
        with suppress(OSError):  # what is not written yet is not needed
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
            room = self._block_bytes - self._offset % self._block_bytes
            piece, view = view[:room], view[room:]
            self._block = crc32(piece, self._block)
            self._offset += len(piece)
            if len(piece) == room:
                self._blocks.append(self._block)
                self._block = 0


def write(path: Path, kind: str, arrays: Mapping[str, NDArray[Any]]) -> Seal:
    """Write a component file of whole arrays and fsync it."""
    with ComponentWriter(path, kind) as writer:
        for name, array in arrays.items():
            writer.add(name, array)
    return writer.seal


class ComponentFile:
    """A component file, memory-mapped. Arrays are read-only views that keep it mapped.

    Raises:
        Corruption: on opening, when the file is missing, differs from its seal or is not
            of this kind and version; from `verify` and `array`, when a block is damaged.
    """

    def __init__(self, path: Path, kind: str, seal: Seal) -> None:
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
        self._check_places(trailer)
        self._entries = {entry.name: entry for entry in trailer.arrays}
        self._checksums = np.array(trailer.blocks, np.uint32)
        self._block_bytes = trailer.block_bytes
        self._verified = np.zeros(len(trailer.blocks), dtype=np.bool_)
        self.is_verified = False
        if self._body_size <= VERIFIED_AT_OPEN_BYTES_MAX:
            self.verify_all()

    @property
    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """The arrays by name, in the order of the file, each verified when it is taken."""
        return _Arrays(self)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the arrays, in the order of the file."""
        return tuple(self._entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def expect(self, name: str, dtype: DTypeLike, *shape: int | None) -> tuple[int, ...]:
        """Return the shape of an array that is there in this form; a length of None may be any.

        Its checksums say that it is what was written, not that it is what belongs here.

        Raises:
            Corruption: it is not.
        """
        entry = self._entries.get(name)
        if entry is None:
            raise Corruption(f"{self.path} has no array {name!r}")
        is_alike = len(entry.shape) == len(shape) and all(
            wanted in (None, found) for wanted, found in zip(shape, entry.shape, strict=True)
        )
        if np.dtype(entry.dtype) != np.dtype(dtype) or not is_alike:
            raise Corruption(
                f"array {name!r} of {self.path} is {entry.shape} of {np.dtype(entry.dtype)}, "
                f"not {shape} of {np.dtype(dtype)}"
            )
        return entry.shape

    def array(self, name: str) -> NDArray[Any]:
        """Return an array whose every block has been verified."""
        entry = self._entries[name]
        if self._nbytes(entry) and not self.is_verified:
            self._verify_range(entry.offset, self._nbytes(entry))
        return self._array(name)

    def unverified_array(self, name: str) -> NDArray[Any]:
        """Return an array of which the caller verifies what it reads (`verify_rows`).

        Few rows at a time are expected to be read; `read_ahead` prepares for many.
        """
        entry = self._entries[name]
        self._advise("MADV_RANDOM", entry.offset, entry.offset + self._nbytes(entry))
        return self._array(name)

    def read_ahead(self, name: str, start: int, stop: int) -> None:
        """Have the system read rows `start` to `stop` (first axis) of an array by and by."""
        entry = self._entries[name]
        row_bytes = self._nbytes(entry) // max(entry.shape[0], 1)
        self._advise(
            "MADV_WILLNEED", entry.offset + start * row_bytes, entry.offset + stop * row_bytes
        )

    def _array(self, name: str) -> NDArray[Any]:
        entry = self._entries[name]
        count = int(np.prod(entry.shape, dtype=np.int64))
        flat = np.frombuffer(self._map, entry.dtype, count, entry.offset)
        return flat.reshape(entry.shape)

    def verify_rows(self, name: str, rows: NDArray[np.int64]) -> None:
        """Verify the blocks that hold these rows (first axis) of an array."""
        if self.is_verified or not len(rows):
            return
        entry = self._entries[name]
        row_bytes = self._nbytes(entry) // max(entry.shape[0], 1)
        starts = entry.offset + rows * row_bytes
        first = starts // self._block_bytes
        last = (starts + row_bytes - 1) // self._block_bytes
        # A row spans few blocks, so walking along it visits all of them.
        steps = range(int((last - first).max()) + 1)
        blocks = np.concatenate([np.minimum(first + step, last) for step in steps])
        unverified = sorted(set(blocks[~self._verified[blocks]].tolist()))
        for block in unverified:
            start = block * self._block_bytes
            self._advise("MADV_WILLNEED", start, start + self._block_bytes)
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
        """Verify every block not yet verified, asking between blocks whether to stop."""
        if self._verify_in_order(np.flatnonzero(~self._verified).tolist(), should_stop):
            self.is_verified = True

    def _verify_in_order(self, blocks: Sequence[int], should_stop: Callable[[], bool]) -> bool:
        """Verify ascending blocks, while those to come are read; return whether to the end."""
        asked_to = 0
        for block in blocks:
            if should_stop():
                return False
            end = (block + 1) * self._block_bytes
            if end + _READ_AHEAD_BYTES // 2 > asked_to:
                start, asked_to = max(end - self._block_bytes, asked_to), end + _READ_AHEAD_BYTES
                self._advise("MADV_WILLNEED", start, asked_to)
            if not self._verified[block]:
                self._verify(block)
        return True

    def _advise(self, advice: str, start: int, stop: int) -> None:
        """Tell the system how a range will be read; some systems are not interested."""
        option = getattr(mmap, advice, None)
        start -= start % mmap.PAGESIZE
        size = min(stop, len(self._map)) - start
        if option is not None and size > 0:
            self._map.madvise(option, start, size)

    def check_size(self) -> None:
        """Look whether the file still has its length.

        Raises:
            Corruption: it has another, or is gone.
        """
        check_size(self.path, len(self._map))

    @property
    def unverified_bytes(self) -> int:
        """About how many bytes have not been verified yet."""
        return 0 if self.is_verified else self._block_bytes * int((~self._verified).sum())

    @property
    def _body_size(self) -> int:
        return len(self._map) - _FOOTER.size - self._trailer_size

    def _verify(self, block: int) -> None:
        start = block * self._block_bytes
        end = min(start + self._block_bytes, self._body_size)
        with memoryview(self._map) as view, view[start:end] as piece:
            checksum = crc32(piece)
        if checksum != self._checksums[block]:
            raise Corruption(f"{self.path} is damaged between bytes {start} and {end}")
        self._verified[block] = True

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

    def _check_places(self, trailer: _Trailer) -> None:
        """Look whether every array lies within the file: what lies behind cannot be touched."""
        size = self._body_size
        try:
            lie_within = all(
                each.offset >= 0
                and min(each.shape, default=0) >= 0
                and each.offset + self._nbytes(each) <= size
                for each in trailer.arrays
            )
        except TypeError as error:  # NumPy's, of a type that it does not know
            raise Corruption(f"the trailer of {self.path} cannot be read: {error}") from error
        if trailer.block_bytes < 1 or len(trailer.blocks) != -(-size // trailer.block_bytes):
            raise Corruption(f"{self.path} has {len(trailer.blocks)} checksums for {size} bytes")
        if not lie_within:
            raise Corruption(f"an array of {self.path} lies outside of it")

    @staticmethod
    def _nbytes(entry: _ArrayEntry) -> int:
        return int(np.prod(entry.shape, dtype=np.int64)) * np.dtype(entry.dtype).itemsize


class _Arrays(Mapping[str, NDArray[Any]]):
    def __init__(self, file: ComponentFile) -> None:
        self._file = file

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._file.array(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._file.names)

    def __len__(self) -> int:
        return len(self._file.names)


def check_size(path: Path, size: int) -> None:
    """Look whether a file still has the length that it was written with.

    Raises:
        Corruption: it has another, or is gone.
    """
    try:
        found = path.stat().st_size
    except FileNotFoundError as error:
        raise Corruption(f"{path} is missing") from error
    if found != size:
        raise Corruption(f"{path} has {found} bytes, but {size} were written")


def sync(descriptor: int) -> None:
    """fsync a descriptor: every durable byte outside SQLite passes here."""
    os.fsync(descriptor)


def sync_directory(path: Path) -> None:
    """fsync a directory, so that the names in it survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
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

"""Files to import: opened, decompressed, and their form recognised by their first bytes.

Names of files say nothing here. A compressed file is read as if it were not, in parts. Forms
whose index is at the end (parquet, Arrow files, ``.npz``) are copied to a temporary file first if
the file cannot be moved in. A pipe is read like standard input, also where it has a name.
"""

import io
import os
import re
import stat
import tempfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import msgspec

from vicinal.errors import BadFile

START_BYTES = 64 * 1024
"""Ours: what is looked at to recognise a form."""

_COPY_BYTES = 1 << 20
_PULLED_BYTES = 1 << 20
_PACKED_BYTES = 1 << 9  # of zstd at a time: they may unpack to 16 MB, in two copies
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_SKIPPED = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")  # a frame of zstd that holds nothing of the file


class FileForm(StrEnum):
    """The forms that are read."""

    NDJSON = "ndjson"
    JSON = "json"
    CSV = "csv"
    NPY = "npy"
    NPZ = "npz"
    PARQUET = "parquet"
    ARROW = "arrow"
    ARROW_STREAM = "arrow-stream"
    TEXT = "text"


_MAGIC = (
    (b"PAR1", FileForm.PARQUET),
    (b"ARROW1", FileForm.ARROW),
    (b"\xff\xff\xff\xff", FileForm.ARROW_STREAM),
    (b"\x93NUMPY", FileForm.NPY),
    (b"PK\x03\x04", FileForm.NPZ),
)
_FOREIGN = (
    (b"FEA1", "Feather of version 1, which pyarrow writes as version 2"),
    (b"SQLite format 3\0", "a SQLite database"),
    (b"%PDF", "a PDF document"),
    (b"\x89HDF", "HDF5; save the array as .npy"),
    (b"BZh", "compressed by bzip2; gzip and zstd are read"),
    (b"\xfd7zXZ", "compressed by xz; gzip and zstd are read"),
    (b"\x80\x04\x95", "a pickle, which could run anything; save arrays as .npy"),
    (b"\x80\x05\x95", "a pickle, which could run anything; save arrays as .npy"),
    (b"\xff\xfe", "text in UTF-16; save it as UTF-8"),
    (b"\xfe\xff", "text in UTF-16; save it as UTF-8"),
)


class FileSource:
    """A file, read from its start, decompressed. Closed by `close`.

    Args:
        path: None for standard input.
        raw: The open file.

    Attributes:
        label: The name in messages.
        start: The first bytes, decompressed; they are read again by the reader.
        size: Bytes of the file, compressed; None where that is not known.
        compression: ``gzip``, ``zstd``, or ``""``.
    """

    def __init__(self, path: Path | None, raw: BinaryIO) -> None:
        self.path = path
        self.label = "stdin" if path is None else str(path)
        self.compression = ""
        self._raw = raw
        self._state = _state(raw) if path is not None else None
        self.size = self._state[0] if self._state is not None else None
        self._buffered = buffered = _buffered(raw)
        first = buffered.peek(4)[:4]
        if 0 < len(first) < 4:  # the writer of a pipe has begun with less
            first = buffered.read(4)
            buffered = io.BufferedReader(PulledFile(_Resumed(first, buffered).pull), _PULLED_BYTES)
        self._stream: IO[bytes] = buffered
        if first.startswith(_GZIP):
            self._stream, self.compression = _gunzipped(buffered), "gzip"
        elif first.startswith(_ZSTD) or _SKIPPED.match(first):
            self._stream, self.compression = _unzstd(buffered), "zstd"
        self._unread = b""
        self.start = self.pull(START_BYTES)
        self._unread = self.start
        self._copy: IO[bytes] | None = None

    @classmethod
    def open(cls, path: Path) -> "FileSource":
        """Open a file.

        Raises:
            BadFile: it cannot be read.
        """
        try:
            raw = path.open("rb")
        except OSError as error:
            raise BadFile(f"{path} cannot be read: {error.strerror}") from error
        try:
            return cls(path, raw)
        except BaseException:
            raw.close()
            raise

    @property
    def is_seekable(self) -> bool:
        """Whether bytes can be read from any place: of a plain file."""
        return self._state is not None and not self.compression and self._raw.seekable()

    @property
    def fraction(self) -> float:
        """How much has been read, from 0 to 1; 0 where that is not known."""
        if not self.size:
            return 0.0
        try:
            return min(self._raw.tell() / self.size, 1.0)
        except OSError:
            return 0.0

    def pull(self, size: int) -> bytes:
        """Read up to `size` bytes, fewer only at the end.

        Raises:
            BadFile: the compressed data is damaged or cut off.
        """
        parts: list[bytes] = []
        if self._unread:
            parts.append(self._unread[:size])
            self._unread = self._unread[size:]
            size -= len(parts[0])
        while size:
            part = self._read_stream(size)
            if not part:
                break
            parts.append(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def readline(self, bytes_max: int) -> bytes:
        """Read a line with its end, cut where it is longer; empty at the end of the file."""
        if self._unread:
            end = self._unread.find(b"\n") + 1
            if end or len(self._unread) >= bytes_max:
                line = self._unread[: min(end or bytes_max, bytes_max)]
                self._unread = self._unread[len(line) :]
                return line
            begun, self._unread = self._unread, b""
            return begun + self._read_stream(bytes_max - len(begun), is_line=True)
        return self._read_stream(bytes_max, is_line=True)

    def skip(self, size: int) -> None:
        """Leave out bytes at the start."""
        if size and self.is_seekable:
            self._stream.seek(size)
            self._unread = b""
            return
        while size > 0:
            part = self.pull(min(size, _COPY_BYTES))
            if not part:
                return
            size -= len(part)

    def seekable(self) -> IO[bytes]:
        """Return the whole file, decompressed, as one that can be moved in."""
        if self.is_seekable:
            self._raw.seek(0)
            return self._raw
        if self._copy is None:
            self._copy = tempfile.TemporaryFile(prefix="vicinal-import-")  # noqa: SIM115  # `close`
            while part := self.pull(_COPY_BYTES):
                self._copy.write(part)
        self._copy.seek(0)
        return self._copy

    def check_unchanged(self) -> None:
        """Notice that the file has been written to since it was opened.

        Raises:
            BadFile: it has another size or time of change.
        """
        if self._state is None:
            return
        size, changed_ns = _state(self._raw) or self._state
        if size != self._state[0]:
            verb = "grown" if size > self._state[0] else "shrunk"
            raise BadFile(
                f"it has {verb} from {self._state[0]:,} to {size:,} bytes while it was read"
            )
        if changed_ns != self._state[1]:
            raise BadFile("it was written to while it was read")

    def close(self) -> None:
        """Close the file, and remove a temporary one."""
        if self._copy is not None:
            self._copy.close()
        if self.path is not None:
            self._raw.close()
        elif self._buffered is not self._raw:
            self._buffered.detach()  # else it would close standard input

    def _read_stream(self, size: int, *, is_line: bool = False) -> bytes:
        try:
            return self._stream.readline(size) if is_line else self._stream.read(size)
        except EOFError:
            raise BadFile(f"its {self.compression} data is cut off") from None
        except (OSError, zlib.error, ValueError) as error:
            kind = f"its {self.compression} data is damaged" if self.compression else "not read"
            raise BadFile(f"{kind}: {error}") from error


def form_of(source: FileSource) -> FileForm:
    """Recognise a form by the first bytes.

    Raises:
        BadFile: it is one that is not read.
    """
    start = source.start
    for magic, form in _MAGIC:
        if start.startswith(magic):
            return form
    for magic, name in _FOREIGN:
        if start.startswith(magic):
            raise BadFile(f"this is {name}")
    if b"\0" in start[:8192]:
        raise BadFile("this is in no form that import reads: see `vicinal import --help`")
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text[:1] == b"[" and not text.startswith((b"[[", b"[![")):
        return FileForm.JSON if _begins_array_of_records(text) else FileForm.TEXT
    if text[:1] == b"{":
        return FileForm.NDJSON if _is_line(text) else FileForm.JSON
    if text[:1] == b'"' and _begins_json_string(text):
        raise BadFile("this is one string of JSON; import reads what is in it")
    return FileForm.NDJSON if not text else FileForm.TEXT


def _begins_array_of_records(text: bytes) -> bool:
    return text[1:].lstrip()[:1] in (b"{", b"]", b"")


def _begins_json_string(text: bytes) -> bool:
    return text[1:3] in (b"{\\", b"[]", b'"', b"[{") or text.strip() == b'""'


def _is_line(text: bytes) -> bool:
    """Tell whether a text that begins with ``{`` is a record on a line of its own."""
    line, _, following = text.partition(b"\n")
    whole = line.rstrip()
    if not whole.endswith(b"}") and following:
        return False
    if b'"vectors"' not in whole[:512]:
        return True
    with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        names = msgspec.json.decode(whole, type=dict[str, msgspec.Raw])
        return "vectors" not in names or "id" in names
    return b'"id"' in whole.partition(b'"vectors"')[0]


def is_plain(path: Path) -> bool:
    """Tell whether a path is that of a file that can be read again, so no pipe.

    Raises:
        OSError: there is none, or it cannot be looked at.
    """
    return stat.S_ISREG(path.stat().st_mode)


def _state(raw: BinaryIO) -> tuple[int, int] | None:
    """Return the size and time of a plain file; None for any other."""
    state = os.fstat(raw.fileno())
    return (state.st_size, state.st_mtime_ns) if stat.S_ISREG(state.st_mode) else None


class _Resumed:
    """A file whose first bytes have been read."""

    def __init__(self, first: bytes, rest: "io.BufferedReader[Any]") -> None:
        self._first = first
        self._rest = rest

    def pull(self, size: int) -> bytes:
        """Return up to `size` bytes, none at the end."""
        part, self._first = self._first[:size], self._first[size:]
        return part or self._rest.read1(size)


def _buffered(raw: BinaryIO) -> "io.BufferedReader[Any]":
    if isinstance(raw, io.BufferedReader):
        return raw
    return io.BufferedReader(cast(io.RawIOBase, raw))


def _gunzipped(raw: "io.BufferedReader[Any]") -> IO[bytes]:
    from zlib_ng import gzip_ng

    stream: IO[bytes] = gzip_ng.open(raw, "rb")  # type: ignore[no-untyped-call]
    return stream


def _unzstd(raw: "io.BufferedReader[Any]") -> IO[bytes]:
    return io.BufferedReader(PulledFile(_ZstdFrames(raw).pull), _PULLED_BYTES)


class _ZstdFrames:
    """Unpacks frames of zstd, one after the other.

    The package's own reader takes an end inside of a frame for the end of the file.
    """

    def __init__(self, raw: "io.BufferedReader[Any]") -> None:
        import zstandard  # not needed for other files

        self._raw = raw
        self._error = zstandard.ZstdError
        self._decompressor = zstandard.ZstdDecompressor()
        self._frame: Any = None
        self._packed = b""
        self._unpacked = b""
        self._at = 0  # of what is unpacked

    def pull(self, size: int) -> bytes:
        """Return up to `size` bytes, none at the end.

        Raises:
            EOFError: the file ends inside of a frame.
            OSError: it is damaged.
        """
        while self._at == len(self._unpacked):
            packed, self._packed = self._packed or self._raw.read(_PACKED_BYTES), b""
            if not packed:
                if self._frame is not None:
                    raise EOFError
                return b""
            if self._frame is None:
                self._frame = self._decompressor.decompressobj()
            try:
                self._unpacked, self._at = self._frame.decompress(packed), 0
            except self._error as error:
                raise OSError(str(error)) from error
            if self._frame.eof:
                self._packed = self._frame.unused_data
                self._frame = None
        part = self._unpacked[self._at : self._at + size]
        self._at += len(part)
        return part


class PulledFile(io.RawIOBase):
    """A function that reads as a raw file of Python's."""

    def __init__(self, pull: Callable[[int], bytes]) -> None:
        self._pull = pull

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        part = self._pull(len(buffer))
        buffer[: len(part)] = part
        return len(part)


def needs_pyarrow(subject: str) -> str:
    """Return the sentence for a missing optional package."""
    return f"{subject} needs pyarrow: pip install 'vicinal[files]'"

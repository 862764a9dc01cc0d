"""The columns body: many vectors with their values as they are in memory (an extension).

    {"dimensions": 384, "ids": ["a", "b"], "namespaces": ["", "n"], "metadata": true}\\n
    {"k": 1}\\n
    \\n
    <values: 2 rows of 384 float32, little-endian>

The first line is the head; `namespaces` may be missing. If `metadata` is true there is one line for
every vector, an object or nothing; the values follow at once. All or nothing, with the rules and
errors of `vectors`; messages have the position of a vector, from 0, and its id.
"""

from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta, Raw, Struct

from vicinal import errors, metadata
from vicinal.limits import Limits
from vicinal.model import BatchWriter, Floats, VectorBatch
from vicinal.wire import counting, members
from vicinal.wire.documents import RecordError, blob
from vicinal.wire.rows import MemoryBatchWriter
from vicinal.wire.vectors import check_id, check_namespace, located, too_many

CONTENT_TYPE = "application/vnd.vicinal.columns"

_FLOAT = np.dtype("<f4")


class _Head(Struct, forbid_unknown_fields=True):
    dimensions: Annotated[int, Meta(ge=0)]
    ids: Raw
    namespaces: Raw = Raw()
    metadata: bool = False


class _WrittenHead(Struct, omit_defaults=True):
    dimensions: int
    ids: list[str]
    namespaces: list[str] | None = None
    metadata: bool = False


def head(batch: VectorBatch) -> bytes:
    """Write all of a batch but its values, which follow as they are in memory."""
    has_namespaces, has_metadata = any(batch.namespaces), any(batch.metadata)
    first = _WrittenHead(
        batch.values.shape[1],
        list(batch.ids),
        list(batch.namespaces) if has_namespaces else None,
        has_metadata,
    )
    lines = [msgspec.json.encode(first), *(batch.metadata if has_metadata else ()), b""]
    return b"\n".join(lines)


def batch_of(body: bytes | bytearray, dimensions: int, limits: Limits) -> VectorBatch:
    """Return the batch in a whole body; raise as `ColumnsReader`."""
    count_max = min(len(body) // (_FLOAT.itemsize * dimensions) + 1, limits.batch_vectors_max)
    reader = ColumnsReader(dimensions, limits, MemoryBatchWriter(dimensions, 0, count_max))
    reader.feed(body)
    return reader.finish()


class ColumnsReader:
    """A reader of a columns body that arrives in parts.

    Values go to the writer as they come. Not thread-safe; not to be used after an error.

    Args:
        dimensions: The length every vector must have.
        limits: Bounds on ids, namespaces, metadata and the number of vectors.
        writer: Writer of the batch.
    """

    def __init__(self, dimensions: int, limits: Limits, writer: BatchWriter) -> None:
        self._dimensions = dimensions
        self._limits = limits
        self._writer = writer
        self._head: _Head | None = None
        self._ids: list[str] = []
        self._namespaces: list[str] = []
        self._metadata: list[bytes] | None = None  # None before the values
        self._kept = bytearray()  # text that is not read yet, or a part of a row
        self._line_ends = 0  # in the kept text, of metadata
        self._count = 0  # rows that have been read

    @property
    def kept_bytes(self) -> int:
        """Bytes of the body that are kept in memory."""
        return len(self._kept)

    def feed(self, part: bytes | bytearray | memoryview) -> None:
        """Read the next part of the body; the part may be reused afterwards.

        Raises:
            BadRecord: the head, or a record, is not of this form.
            WrongDimensions, IdTooLong, NamespaceTooLong, MetadataTooLarge, BadMetadataKey,
            TooManyVectors: as `vectors.read`.
        """
        if self._metadata is not None:
            self._read_values(part)
            return
        self._kept += part
        if self._head is None:
            end = self._kept.find(b"\n")
            if end < 0:
                return
            self._head = self._read_head(self._kept[:end])
            del self._kept[: end + 1]
            part = bytes(self._kept)
        if self._head.metadata:
            self._line_ends += bytes(part).count(b"\n")
            if self._line_ends < len(self._ids):
                return
            *lines, rest = self._kept.split(b"\n", len(self._ids))
            self._metadata = [self._document(row, line) for row, line in enumerate(lines)]
        else:
            rest, self._metadata = self._kept, [b""] * len(self._ids)
        self._kept = bytearray()
        self._read_values(rest)

    def finish(self) -> VectorBatch:
        """Return the batch, after the last part.

        Raises:
            BadRecord: the body is shorter than its head says.
        """
        if self._metadata is None:
            raise errors.BadRecord(
                "the body is cut off before its values: it ends in "
                + ("the head" if self._head is None else "its lines of metadata")
            )
        if self._count < len(self._ids):
            raise self._refused(
                self._count,
                RecordError(
                    f"the body is cut off: expected {4 * self._dimensions} bytes of values, "
                    f"got {len(self._kept)}"
                ),
            )
        return self._writer.batch(self._ids, self._namespaces, self._metadata)

    def _read_head(self, text: bytearray) -> _Head:
        limits = self._limits
        try:
            head = msgspec.json.decode(text, type=_Head)
            if counting.has_more(head.ids, limits.batch_vectors_max):
                raise too_many(limits.batch_vectors_max)
            self._ids = msgspec.json.decode(head.ids, type=list[str])
            if counting.has_more(head.namespaces, len(self._ids)):
                raise errors.BadRecord(f"head: more namespaces than {len(self._ids)} ids")
            if bytes(head.namespaces):
                self._namespaces = msgspec.json.decode(head.namespaces, type=list[str])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise errors.BadRecord(f"the head cannot be read: {error}") from None
        if not bytes(head.namespaces):
            self._namespaces = [""] * len(self._ids)
        if len(self._namespaces) != len(self._ids):
            raise errors.BadRecord(
                f"head: expected {len(self._ids)} namespaces, one for every id, "
                f"got {len(self._namespaces)}"
            )
        if head.dimensions != self._dimensions:
            got = metadata.shown_number(head.dimensions)
            raise errors.WrongDimensions(
                f"invalid vectors, expected {self._dimensions} dimensions, and got {got} dimensions"
            )
        for row, (vector_id, namespace) in enumerate(zip(self._ids, self._namespaces, strict=True)):
            try:
                check_id(vector_id, limits)
                if namespace:
                    check_namespace(namespace, vector_id, limits)
            except RecordError as refused:
                raise located(refused, f"vectors[{row}]") from None
        return head

    def _document(self, row: int, line: bytes | bytearray) -> bytes:
        if not line:
            return b""
        limits = self._limits
        try:
            # As a member of an object, in which the reader of records finds every fault.
            if len(line) > limits.record_bytes_max:
                raise RecordError(
                    f"metadata of {len(line)} bytes, max is {limits.record_bytes_max}"
                )
            text = b'{"metadata":%b}' % bytes(line)
            record = members.quick(text, "values")
            if record is None:
                record = members.careful(text, "values", unique=True)
            if len(record) != 1:
                raise RecordError("metadata: expected one object on its line")
            return blob(record["metadata"], self._ids[row], limits)
        except members.Malformed as error:
            raise self._refused(row, RecordError(f"metadata: {error}")) from None
        except RecordError as refused:
            raise self._refused(row, refused) from None

    def _read_values(self, part: bytes | bytearray | memoryview) -> None:
        view = memoryview(part)
        row_bytes = _FLOAT.itemsize * self._dimensions
        left = row_bytes * (len(self._ids) - self._count) - len(self._kept)
        if len(view) > left:
            raise errors.BadRecord(
                f"the body goes on after the values of {len(self._ids)} vectors: "
                f"{len(view) - left} bytes or more"
            )
        if self._kept:
            missing = row_bytes - len(self._kept)
            self._kept += view[:missing]
            view = view[missing:]
            if len(self._kept) < row_bytes:
                return
            self._add(np.frombuffer(bytes(self._kept), _FLOAT).reshape(1, -1))
            self._kept = bytearray()
        count = len(view) // row_bytes
        if count:
            whole = np.frombuffer(view[: count * row_bytes], _FLOAT)
            self._add(whole.reshape(count, -1))
        self._kept += view[count * row_bytes :]

    def _add(self, rows: Floats) -> None:
        while len(rows):
            free = self._writer.free()
            count = min(len(free), len(rows))
            free[:count] = rows[:count]
            finite = np.isfinite(free[:count])
            if not finite.all():
                row, position = map(int, np.argwhere(~finite)[0])
                rule = f"values[{position}]: {free[row][position]} is no finite float32"
                raise self._refused(self._count + row, RecordError(rule))
            self._writer.advance(count)
            self._count += count
            rows = rows[count:]

    def _refused(self, row: int, refused: RecordError) -> errors.InvalidInput:
        named = RecordError(refused.rule, self._ids[row], refused.error)
        return located(named, f"vectors[{row}]")

"""The bodies of insert and upsert: bytes in any of their forms to one batch of vectors.

All or nothing: the first record that breaks a rule refuses the whole batch. Messages start like the
live service's and then have the line of NDJSON, counted from 1, or the position in the array; the
id, once it is known; and the rule.

This is the ingest path. `lines` reads the records that most clients send, many at a time;
`members.quick` reads any other record, and its numbers are cast into a row of the batch.

Metadata is parsed, checked and written again as compact JSON. Its values, the order of its members
and its characters stay; white space, needless escapes, the spelling of fractions (1e2 is 100.0) and
all but the last of a repeated key go.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from vicinal import errors, metadata
from vicinal.limits import Limits
from vicinal.model import BatchWriter, VectorBatch
from vicinal.wire import framing, lines, members
from vicinal.wire.documents import NESTED_TOO_DEEPLY, RecordError, blob
from vicinal.wire.rows import MemoryBatchWriter

_LINES_AT_ONCE = 500  # ours: 5 ms of reading without the interpreter's lock


def read(
    body: bytes | bytearray | memoryview,
    content_type: str | None,
    dimensions: int,
    limits: Limits,
    *,
    discard: bool = False,
) -> VectorBatch:
    """Read a whole batch or raise; nothing of a refused batch is returned.

    Args:
        body: NDJSON, JSON, a JSON string of NDJSON, or multipart holding one of these.
        content_type: The header, consulted only when the bytes are in no known form.
        dimensions: The length every vector must have.
        limits: Bounds on ids, namespaces, metadata and the number of vectors.
        discard: Skip a record that does not parse as a vector (any `BadRecord`) instead of refusing
            the batch. Skipped records count for the number of vectors.

    Raises:
        BadRecord: a record does not parse as a vector; the message names line, id and rule.
        WrongDimensions, IdTooLong, NamespaceTooLong, MetadataTooLarge: a record breaks a bound.
        BadMetadataKey: a key that no filter could name.
        TooManyVectors: there are more records than the limit.
        BadContentType: the body is in no known form.
    """
    text = bytes(body) if isinstance(body, memoryview) else body
    writer = MemoryBatchWriter(dimensions, len(text), limits.batch_vectors_max)
    reader = BodyReader(content_type, dimensions, limits, writer, discard=discard)
    reader.feed(text)
    return reader.finish()


class BodyReader:
    """A reader of a body whose text arrives in parts, with the rules and errors of `read`.

    Lines are read as soon as they are complete, if `lines` reads the first. Any other body is kept
    until it has ended. Not thread-safe; not to be used after an error.

    Args:
        content_type, dimensions, limits, discard: As for `read`.
        writer: Writer of the batch.
    """

    def __init__(
        self, content_type: str | None, dimensions: int, limits: Limits, writer: BatchWriter, *,
        discard: bool = False,
    ) -> None:  # fmt: skip
        self._content_type = content_type
        self._limits = limits
        self._collector = _Collector(dimensions, limits, writer, discard=discard)
        self._are_lines: bool | None = None  # None before the first part
        self._kept: members.Text = b""  # text that is not read yet; of lines, one at most
        self._lines_before = 0  # the kept text, or the next part

    @property
    def kept_bytes(self) -> int | None:
        """Bytes of the body that are kept in memory; None when the whole body is."""
        return len(self._kept) if self._are_lines else None

    def feed(self, part: members.Text) -> None:
        """Read the next part of the body; the part may be reused afterwards.

        Raises:
            InvalidInput: a record is refused, as by `read`.
        """
        if self._are_lines is None:
            self._are_lines = self._begins_with_line(part)
        if not self._are_lines:
            self._keep(part)
            return
        start = 0
        if self._kept:
            start = part.find(b"\n") + 1
            self._keep(part[:start] if start else part)
            if not start:
                return
            self._read_lines(self._kept, 0, len(self._kept))
            self._kept = b""
        end = part.rfind(b"\n") + 1
        self._read_lines(part, start, end)
        self._kept = part[end:]

    def finish(self) -> VectorBatch:
        """Return the batch, after the last part.

        Raises:
            InvalidInput: the body is refused, as by `read`.
        """
        if self._are_lines:
            self._read_lines(self._kept, 0, len(self._kept))
        else:
            try:
                records = framing.split(self._kept, self._content_type, self._limits)
            except members.Malformed as error:
                raise errors.BadRecord(f"failed to parse upsert vectors request: {error}") from None
            self._collector.add_all(records)
        return self._collector.batch()

    def _begins_with_line(self, part: members.Text) -> bool:
        """Tell whether a body is lines, by its first; a body without a line end is not."""
        end = part.find(b"\n") + 1
        row = np.empty((1, self._collector.dimensions), np.float32)
        return bool(end and lines.read_records(part, 0, row, end)[0])

    def _read_lines(self, text: members.Text, start: int, end: int) -> None:
        if start < end:
            frames = framing.Lines(text, start, end)
            self._collector.add_all(
                framing.Records(framing.Form.NDJSON, text, frames, start, self._lines_before)
            )
            self._lines_before += frames.ends

    def _keep(self, text: members.Text) -> None:
        if isinstance(self._kept, bytes):
            self._kept = bytearray(self._kept)
        self._kept += text


def batch(records: Iterable[members.Members], dimensions: int, limits: Limits) -> VectorBatch:
    """Return a batch of records that are parsed already, by the same rules.

    Args:
        records: The members of records, as `members.careful` returns them; ``values`` may be an
            array of one dimension and any numeric type.
        dimensions: The length every vector must have.
        limits: Bounds on ids, namespaces, metadata and the number of vectors.

    Raises:
        BadRecord, WrongDimensions, IdTooLong, NamespaceTooLong, MetadataTooLarge,
        BadMetadataKey, TooManyVectors: as `read`; the message has the position, from 0.
    """
    checked: list[_Record] = []
    for ordinal, record in enumerate(records):
        if ordinal == limits.batch_vectors_max:
            raise too_many(ordinal)
        try:
            checked.append(_checked(record, dimensions, limits))
        except RecordError as refused:
            raise located(refused, f"vectors[{ordinal}]") from None
    values = np.empty((len(checked), dimensions), dtype=np.float32)
    with np.errstate(over="ignore"):
        for row, vector in enumerate(checked):
            values[row] = vector.values
    finite = np.isfinite(values)
    if not finite.all():
        row, position = map(int, np.argwhere(~finite)[0])
        rule = f"values[{position}]: {checked[row].values[position]} is no finite float32"
        raise located(RecordError(rule, checked[row].id), f"vectors[{row}]")
    return VectorBatch(
        [vector.id for vector in checked],
        values,
        [vector.namespace for vector in checked],
        [vector.metadata for vector in checked],
    )


@dataclass(frozen=True, slots=True)
class _Record:
    id: str
    values: members.Numbers
    namespace: str
    metadata: bytes


class _Collector:
    """A batch in the making, from the records of a body in their order."""

    def __init__(
        self, dimensions: int, limits: Limits, writer: BatchWriter, *, discard: bool
    ) -> None:
        self.dimensions = dimensions
        self._count = 0
        self._writer = writer
        self._ids: list[str] = []
        self._namespaces: list[str] = []
        self._metadata: list[bytes] = []
        self._holes: list[int] = []  # rows of records that are skipped
        self._limits = limits
        self._discard = discard

    def add_all(self, records: framing.Records) -> None:
        """Add records, those on lines many at a time.

        Raises:
            InvalidInput: as `read`.
        """
        frames = records.frames
        try:
            while True:
                if isinstance(frames, framing.Lines):
                    self._add_lines(records, frames)
                frame = next(frames, None)
                if frame is None:
                    return
                self._add_record(records, *frame)
        except members.Malformed as error:
            raise errors.BadRecord(
                "failed to parse upsert vectors request in json format: line None was not "
                f"expected format (after {self._count} records: {error})"
            ) from None

    def batch(self) -> VectorBatch:
        """Return the batch of all records but the skipped ones."""
        batch = self._writer.batch(self._ids, self._namespaces, self._metadata)
        if not self._holes:
            return batch
        return _only(batch, sorted({*range(len(self._ids))} - {*self._holes}))

    def _add_record(self, records: framing.Records, start: int, text: members.Text) -> None:
        if self._count == self._limits.batch_vectors_max:
            raise too_many(self._count)
        self._count += 1
        row = self._writer.free()[0]
        try:
            record = _record(text, self.dimensions, self._limits)
            with np.errstate(over="ignore"):  # a number beyond float32 becomes infinite
                row[:] = record.values
            finite = np.isfinite(row)
            if not finite.all():
                raise _beyond_float32(text, int(np.argmin(finite)))
        except RecordError as refused:
            self._refuse(records, start, refused)
            return
        self._writer.advance(1)
        self._add(record.id, record.namespace, record.metadata)

    def _add_lines(self, records: framing.Records, frames: framing.Lines) -> None:
        while True:
            count_max = min(self._limits.batch_vectors_max - self._count, _LINES_AT_ONCE)
            free = self._writer.free()[:count_max]
            spans, frames.position, ends = lines.read_records(
                frames.text, frames.position, free, frames.end
            )
            frames.ends += ends
            self._writer.advance(len(spans))
            for span in spans:
                self._count += 1
                try:
                    self._add(*self._named(frames.text, span))
                except RecordError as refused:
                    self._refuse(records, span[0], refused)
                    self._holes.append(len(self._ids))
                    self._add("", "", b"")
            if not spans:
                return

    def _named(self, text: members.Text, span: lines.Span) -> tuple[str, str, bytes]:
        """Return the id, namespace and metadata of a record whose values `lines` has read."""
        start, end, id_start, id_end, name_start, name_end, metadata_start, metadata_end = span
        limits = self._limits
        if (
            end - start <= limits.record_bytes_max
            and id_end - id_start <= limits.id_bytes_max
            and name_end - name_start <= limits.namespace_bytes_max
        ):
            try:
                vector_id = text[id_start:id_end].decode()
                namespace = text[name_start:name_end].decode()
            except UnicodeDecodeError:
                pass
            else:
                if not metadata_end:
                    return vector_id, namespace, b""
                member = b'{"metadata":%b}' % bytes(text[metadata_start:metadata_end])
                document = members.quick(member, "values")
                if document is not None:
                    return vector_id, namespace, blob(document["metadata"], vector_id, limits)
        record = _record(text[start:end], self.dimensions, limits)
        return record.id, record.namespace, record.metadata

    def _add(self, vector_id: str, namespace: str, document: bytes) -> None:
        self._ids.append(vector_id)
        self._namespaces.append(namespace)
        self._metadata.append(document)

    def _refuse(self, records: framing.Records, start: int, refused: RecordError) -> None:
        if not (self._discard and refused.error is errors.BadRecord):
            raise _complaint(records, self._count - 1, start, refused) from None


def _record(text: members.Text, dimensions: int, limits: Limits) -> _Record:
    """Read one record, by every rule but that its values are finite."""
    if len(text) > limits.record_bytes_max:
        raise RecordError(f"a record of {len(text)} bytes, max is {limits.record_bytes_max}")
    if len(text) > limits.record_nodes_max:  # else there cannot be more
        count = text.count(b"[") + text.count(b"{") + text.count(b":")
        if count > limits.record_nodes_max:
            if members.is_deep(text):
                raise RecordError(NESTED_TOO_DEEPLY)
            raise RecordError(
                f"a record of {count} members, arrays and objects, by their colons and brackets, "
                f"max is {limits.record_nodes_max}"
            )
    record = members.quick(text, "values")
    if record is None:
        try:
            record = members.careful(text, "values", unique=True)
        except members.TooDeep:
            raise RecordError(NESTED_TOO_DEEPLY) from None
        except members.Malformed as error:
            raise RecordError(str(error)) from None
    return _checked(record, dimensions, limits)


def _checked(record: members.Members, dimensions: int, limits: Limits) -> _Record:
    vector_id = _vector_id(record, limits)
    try:
        values = members.numbers(_member(record, "values", vector_id))
    except members.NotANumber as error:
        raise RecordError(f"values{error}", vector_id) from None
    if len(values) != dimensions:
        rule = (
            f'invalid vector for id="{vector_id}", expected {dimensions} dimensions, '
            f"and got {len(values)} dimensions"
        )
        raise RecordError(rule, vector_id, errors.WrongDimensions)
    namespace = _namespace(record.get("namespace"), vector_id, limits)
    return _Record(vector_id, values, namespace, blob(record.get("metadata"), vector_id, limits))


def _member(record: members.Members, name: str, vector_id: str | None) -> object:
    if name not in record:
        raise RecordError(f"has no member {name!r}", vector_id)
    return record[name]


def _vector_id(record: members.Members, limits: Limits) -> str:
    vector_id = _member(record, "id", None)
    if not isinstance(vector_id, str):
        raise RecordError(f"id: expected a string, got {metadata.kind(vector_id)}")
    check_id(vector_id, limits)
    return vector_id


def check_id(vector_id: str, limits: Limits) -> None:
    """Refuse an id that is empty or too long.

    Raises:
        RecordError: a `BadRecord` or `IdTooLong`.
    """
    if not vector_id:
        raise RecordError("id: must not be empty")
    size = len(vector_id.encode())
    if size > limits.id_bytes_max:
        rule = f"id too long; max is {limits.id_bytes_max} bytes, got {size} bytes"
        raise RecordError(rule, vector_id, errors.IdTooLong)


def _namespace(namespace: object, vector_id: str, limits: Limits) -> str:
    if namespace is None:
        return ""
    if not isinstance(namespace, str):
        got = metadata.kind(namespace)
        raise RecordError(f"namespace: expected a string or null, got {got}", vector_id)
    check_namespace(namespace, vector_id, limits)
    return namespace


def check_namespace(namespace: str, vector_id: str, limits: Limits) -> None:
    """Refuse a namespace that is too long.

    Raises:
        RecordError: a `NamespaceTooLong`.
    """
    size = len(namespace.encode())
    if size > limits.namespace_bytes_max:
        rule = (
            f'namespace too long for vector id="{vector_id}"; '
            f"max is {limits.namespace_bytes_max} bytes, got {size} bytes"
        )
        raise RecordError(rule, vector_id, errors.NamespaceTooLong)


def _only(batch: VectorBatch, rows: list[int]) -> VectorBatch:
    return VectorBatch(
        [batch.ids[row] for row in rows],
        batch.values[rows],
        [batch.namespaces[row] for row in rows],
        [batch.metadata[row] for row in rows],
    )


def _complaint(
    records: framing.Records, ordinal: int, start: int, refused: RecordError
) -> errors.InvalidInput:
    """Return the error for a record, with its line or position."""
    if records.form is framing.Form.NDJSON:
        number = records.line(start)
        live, location = f"Some({number - 1})", f"line {number}"
    else:
        live, location = "None", f"vectors[{ordinal}]"
    if refused.error is not errors.BadRecord:
        return located(refused, location)
    if refused.vector_id is not None:
        location += f', id "{refused.vector_id}"'
    return errors.BadRecord(
        f"failed to parse upsert vectors request in {records.form} format: "
        f"line {live} was not expected format ({location}: {refused.rule})"
    )


def located(refused: RecordError, location: str) -> errors.InvalidInput:
    """Return the error for a record that breaks a rule, with its location in the body."""
    if refused.error is errors.BadRecord and refused.vector_id is not None:
        location += f', id "{refused.vector_id}"'
    return refused.error(f"{refused.rule} ({location})")


def too_many(count_max: int) -> errors.TooManyVectors:
    """Return the error for a batch of more vectors than `count_max`."""
    return errors.TooManyVectors(
        f"too many vectors in payload; max vector count is {count_max}, "
        f"got at least {count_max + 1}"
    )


def _beyond_float32(text: members.Text, position: int) -> RecordError:
    record = members.careful(text, "values", unique=True)
    shown = metadata.shown_number(record["values"][position])
    return RecordError(f"values[{position}]: {shown} is beyond float32", record["id"])

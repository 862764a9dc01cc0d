"""The bodies of insert and upsert: bytes in any of their forms to one batch of vectors.

All or nothing: the first record that breaks a rule refuses the batch, before anything of it
goes further. Messages start as the live service's do and then name the place: the line of
NDJSON, counted from 1, or the position in the array; the id, once it is known; the rule.

This is the ingest path. `lines` reads the records that most clients send, many at a time;
`members.quick` reads any other, its numbers are cast into the row of one array, and what can
wait (are all values finite?) is asked once for the whole batch.

Metadata is parsed, checked and written again as compact JSON: what is kept is its values,
the order of its members and its characters; what is lost is white space, escapes that were
not needed, how a fraction was spelled (1e2 is 100.0) and all but the last of a repeated key.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from vicinal import errors, metadata
from vicinal.limits import Limits
from vicinal.model import Mask, VectorBatch
from vicinal.wire import framing, lines, members

_LINES_AT_ONCE = 500  # ours: 5 ms of reading without the interpreter's lock
_EMPTY_RECORD_BYTES = len(b'{"id":"a","values":[]}')


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
        discard: Drop what does not parse as a vector record (all that `BadRecord` would say)
            instead of refusing the batch. Dropped ones count for the number of vectors.

    Raises:
        BadRecord: a record does not parse as a vector; the message names line, id and rule.
        WrongDimensions, IdTooLong, NamespaceTooLong, MetadataTooLarge: a record breaks a bound.
        TooManyVectors: there are more records than the limit.
        BadContentType: the body is in no known form.
    """
    text = bytes(body) if isinstance(body, memoryview) else body
    try:
        records = framing.split(text, content_type, record_bytes_max=limits.record_bytes_max)
    except members.Malformed as error:
        raise errors.BadRecord(f"failed to parse upsert vectors request: {error}") from None
    collector = _Collector(records, dimensions, limits, discard=discard)
    try:
        with np.errstate(over="ignore"):  # what is beyond float32 becomes infinite, found later
            collector.collect()
    except members.Malformed as error:
        raise errors.BadRecord(
            "failed to parse upsert vectors request in json format: line None was not expected "
            f"format (after {collector.count} records: {error})"
        ) from None
    found = collector.batch()
    if collector.is_finite and not collector.holes:
        return found
    finite = np.isfinite(found.values)
    is_whole: Mask = np.logical_and.reduce(finite, axis=1)
    is_whole[collector.holes] = False
    if is_whole.all():
        return found
    if discard:
        return _only(found, np.flatnonzero(is_whole).tolist())
    row = int(np.argmin(is_whole))
    again = framing.split(text, content_type, record_bytes_max=limits.record_bytes_max)
    start, record = next(islice(again.frames, collector.ordinals[row], None))
    position = int(np.argmin(finite[row]))
    raise _complaint(records, collector.ordinals[row], start, _beyond_float32(record, position))


def batch(records: Iterable[members.Members], dimensions: int, limits: Limits) -> VectorBatch:
    """Hold records that are no text any more to the same rules.

    Args:
        records: The members of each, as `members.careful` returns them; ``values`` may be an
            array of one dimension and any numeric type.
        dimensions: The length every vector must have.
        limits: Bounds on ids, namespaces, metadata and the number of vectors.

    Raises:
        BadRecord, WrongDimensions, IdTooLong, NamespaceTooLong, MetadataTooLarge,
        TooManyVectors: as `read`; the place is the position, from 0.
    """
    checked: list[_Record] = []
    for ordinal, record in enumerate(records):
        if ordinal == limits.batch_vectors_max:
            raise _too_many(ordinal)
        try:
            checked.append(_checked(record, dimensions, limits))
        except _Refused as refused:
            raise _placed(refused, f"vectors[{ordinal}]") from None
    values = np.empty((len(checked), dimensions), dtype=np.float32)
    with np.errstate(over="ignore"):
        for row, each in enumerate(checked):
            values[row] = each.values
    finite = np.isfinite(values)
    if not finite.all():
        row, position = (int(place) for place in np.argwhere(~finite)[0])
        rule = f"values[{position}]: {checked[row].values[position]} is no finite float32"
        broken = _Refused(errors.BadRecord, rule, checked[row].id)
        raise _placed(broken, f"vectors[{row}]")
    return VectorBatch(
        [each.id for each in checked],
        values,
        [each.namespace for each in checked],
        [each.metadata for each in checked],
    )


@dataclass(frozen=True, slots=True)
class _Record:
    id: str
    values: members.Numbers
    namespace: str
    metadata: bytes


class _Refused(Exception):
    """A record breaks a rule. For `BadRecord`, `rule` is what the message says of it."""

    def __init__(self, error: type[errors.InvalidInput], rule: str, vector_id: str | None) -> None:
        super().__init__(rule)
        self.error = error
        self.rule = rule
        self.vector_id = vector_id


class _Collector:
    """Takes the records of a body in turn.

    Attributes:
        count: How many were taken.
        ordinals: Which of them each row is.
        holes: Rows of records that turned out to be none, when those are dropped.
        is_finite: Whether all values are known to be finite.
    """

    def __init__(
        self, records: framing.Records, dimensions: int, limits: Limits, *, discard: bool
    ) -> None:
        self.count = 0
        self.ordinals: list[int] = []
        self.holes: list[int] = []
        self.is_finite = True
        # No record is shorter than one with an empty id and digits alone: this bounds memory.
        shortest = _EMPTY_RECORD_BYTES - 1 + 2 * dimensions - 1
        rows_max = min(limits.batch_vectors_max, len(records.text) // shortest)
        self._values = np.empty((rows_max, dimensions), dtype=np.float32)
        self._ids: list[str] = []
        self._namespaces: list[str] = []
        self._metadata: list[bytes] = []
        self._records = records
        self._dimensions = dimensions
        self._limits = limits
        self._discard = discard

    def collect(self) -> None:
        """Take all records, those on lines many at a time."""
        frames = self._records.frames
        while True:
            if isinstance(frames, framing.Lines):
                self._take_lines(frames)
            frame = next(frames, None)
            if frame is None:
                return
            self._take(*frame)

    def batch(self) -> VectorBatch:
        """Return what was collected."""
        values = self._values[: len(self._ids)]
        return VectorBatch(self._ids, values, self._namespaces, self._metadata)

    def _take(self, start: int, text: members.Text) -> None:
        if self.count == self._limits.batch_vectors_max:
            raise _too_many(self.count)
        self.count += 1
        try:
            record = _record(text, self._dimensions, self._limits)
        except _Refused as refused:
            self._refuse(start, refused)
            return
        self._values[len(self._ids)] = record.values
        self.is_finite = False
        self._add(record.id, record.namespace, record.metadata)

    def _take_lines(self, frames: framing.Lines) -> None:
        while True:
            first = len(self._ids)
            room = min(len(self._values) - first, self._limits.batch_vectors_max - self.count)
            free = self._values[first : first + min(room, _LINES_AT_ONCE)]
            spans, frames.position = lines.read(frames.text, frames.position, free)
            for span in spans:
                self.count += 1
                try:
                    self._add(*self._named(frames.text, span))
                except _Refused as refused:
                    self._refuse(span[0], refused)
                    self.holes.append(len(self._ids))
                    self._add("", "", b"")
            if not spans:
                return

    def _named(self, text: members.Text, span: lines.Span) -> tuple[str, str, bytes]:
        """Return the id, namespace and metadata of a record whose values have been read."""
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
                found = members.quick(member, "values")
                if found is not None:
                    return vector_id, namespace, _blob(found["metadata"], vector_id, limits)
        record = _record(text[start:end], self._dimensions, limits)
        return record.id, record.namespace, record.metadata

    def _add(self, vector_id: str, namespace: str, blob: bytes) -> None:
        self._ids.append(vector_id)
        self._namespaces.append(namespace)
        self._metadata.append(blob)
        self.ordinals.append(self.count - 1)

    def _refuse(self, start: int, refused: _Refused) -> None:
        if not (self._discard and refused.error is errors.BadRecord):
            raise _complaint(self._records, self.count - 1, start, refused) from None


def _record(text: members.Text, dimensions: int, limits: Limits) -> _Record:
    """Read one record and hold it to every rule but that its values are finite."""
    if len(text) > limits.record_bytes_max:
        rule = f"a record of {len(text)} bytes, max is {limits.record_bytes_max}"
        raise _Refused(errors.BadRecord, rule, None)
    record = members.quick(text, "values")
    if record is None:
        try:
            record = members.careful(text, "values", unique=True)
        except members.Malformed as error:
            raise _Refused(errors.BadRecord, str(error), None) from None
    return _checked(record, dimensions, limits)


def _checked(record: members.Members, dimensions: int, limits: Limits) -> _Record:
    vector_id = _vector_id(record, limits)
    try:
        values = members.numbers(_member(record, "values", vector_id))
    except members.NotANumber as error:
        raise _Refused(errors.BadRecord, f"values{error}", vector_id) from None
    if len(values) != dimensions:
        rule = (
            f'invalid vector for id="{vector_id}", expected {dimensions} dimensions, '
            f"and got {len(values)} dimensions"
        )
        raise _Refused(errors.WrongDimensions, rule, vector_id)
    namespace = _namespace(record.get("namespace"), vector_id, limits)
    return _Record(vector_id, values, namespace, _blob(record.get("metadata"), vector_id, limits))


def _member(record: members.Members, name: str, vector_id: str | None) -> object:
    if name not in record:
        raise _Refused(errors.BadRecord, f"has no member {name!r}", vector_id)
    return record[name]


def _vector_id(record: members.Members, limits: Limits) -> str:
    vector_id = _member(record, "id", None)
    if not isinstance(vector_id, str):
        rule = f"id: expected a string, got {metadata.kind(vector_id)}"
        raise _Refused(errors.BadRecord, rule, None)
    if not vector_id:
        raise _Refused(errors.BadRecord, "id: must not be empty", None)
    size = len(vector_id.encode())
    if size > limits.id_bytes_max:
        rule = f"id too long; max is {limits.id_bytes_max} bytes, got {size} bytes"
        raise _Refused(errors.IdTooLong, rule, vector_id)
    return vector_id


def _namespace(namespace: object, vector_id: str, limits: Limits) -> str:
    if namespace is None:
        return ""
    if not isinstance(namespace, str):
        rule = f"namespace: expected a string or null, got {metadata.kind(namespace)}"
        raise _Refused(errors.BadRecord, rule, vector_id)
    size = len(namespace.encode())
    if size > limits.namespace_bytes_max:
        rule = (
            f'namespace too long for vector id="{vector_id}"; '
            f"max is {limits.namespace_bytes_max} bytes, got {size} bytes"
        )
        raise _Refused(errors.NamespaceTooLong, rule, vector_id)
    return namespace


def _blob(document: object, vector_id: str, limits: Limits) -> bytes:
    if document is None:
        return b""
    if not isinstance(document, dict):
        rule = f"metadata: expected an object or null, got {metadata.kind(document)}"
        raise _Refused(errors.BadRecord, rule, vector_id)
    broken = _broken_rule(document, limits.metadata_depth_max)
    if broken is not None:
        raise _Refused(errors.BadRecord, f"metadata: {broken}", vector_id)
    blob = metadata.encode(document)
    if len(blob) > limits.metadata_bytes_max:
        rule = (
            f'oversized metadata for vector id="{vector_id}"; the compact JSON representation '
            f"of the metadata must not exceed {limits.metadata_bytes_max} bytes, "
            f"got {len(blob)} bytes"
        )
        raise _Refused(errors.MetadataTooLarge, rule, vector_id)
    return blob


def _broken_rule(value: Any, depth_max: int) -> str | None:
    """Return which rule of metadata is broken somewhere in an object or array, if any."""
    if depth_max == 0:
        return "nested too deeply"
    if isinstance(value, dict):
        for key in value:
            if not key:
                return "a key must not be empty"
            if key[0] == "$":
                return f"key {metadata.shown(key)} must not start with '$'"
            if "." in key:
                return f"key {metadata.shown(key)} must not contain '.'"
            if '"' in key:
                return f"key {metadata.shown(key)} must not contain '\"'"
        items = value.values()
    else:
        items = value
    for item in items:
        kind = type(item)
        if kind is float:
            if item - item != 0.0:
                return "a number is beyond float64"
        elif kind is not str and isinstance(item, dict | list):
            rule = _broken_rule(item, depth_max - 1)
            if rule is not None:
                return rule
    return None


def _only(batch: VectorBatch, rows: list[int]) -> VectorBatch:
    return VectorBatch(
        [batch.ids[row] for row in rows],
        batch.values[rows],
        [batch.namespaces[row] for row in rows],
        [batch.metadata[row] for row in rows],
    )


def _complaint(
    records: framing.Records, ordinal: int, start: int, refused: _Refused
) -> errors.InvalidInput:
    """Return the error for a record, with its place."""
    if records.form is framing.Form.NDJSON:
        number = records.line(start)
        live, place = f"Some({number - 1})", f"line {number}"
    else:
        live, place = "None", f"vectors[{ordinal}]"
    if refused.error is not errors.BadRecord:
        return _placed(refused, place)
    if refused.vector_id is not None:
        place += f', id "{refused.vector_id}"'
    return errors.BadRecord(
        f"failed to parse upsert vectors request in {records.form} format: "
        f"line {live} was not expected format ({place}: {refused.rule})"
    )


def _placed(refused: _Refused, place: str) -> errors.InvalidInput:
    if refused.error is errors.BadRecord and refused.vector_id is not None:
        place += f', id "{refused.vector_id}"'
    return refused.error(f"{refused.rule} ({place})")


def _too_many(count_max: int) -> errors.TooManyVectors:
    return errors.TooManyVectors(
        f"too many vectors in payload; max vector count is {count_max}, "
        f"got at least {count_max + 1}"
    )


def _beyond_float32(text: members.Text, position: int) -> _Refused:
    record = members.careful(text, "values", unique=True)
    shown = str(record["values"][position])[:40]
    return _Refused(
        errors.BadRecord, f"values[{position}]: {shown} is beyond float32", record["id"]
    )

"""NDJSON: one vector a line. Blank lines count, and hold nothing.

Lines in the form of usual clients are read by what is compiled (`wire.lines`), many at a time;
any other line is read with reasons. A file is recognised as NDJSON by its first line.
"""

from collections.abc import Iterator
from itertools import accumulate

from vicinal.errors import BadFile
from vicinal.readers.base import LIMITS, ColumnNames, Position, RowBatch, as_record
from vicinal.readers.collecting import RowCollector, record_in
from vicinal.readers.opening import FileSource
from vicinal.wire import lines, members
from vicinal.wire.documents import RecordError, blob
from vicinal.wire.vectors import check_id, check_namespace

LINE_BYTES_MAX = LIMITS.record_bytes_max


class NdjsonReader:
    """Reads NDJSON.

    Args:
        source: The file.
        names: The meaning of members.
        dimensions: The length of every vector; 0 for texts.
        bytes_max: Bound on the text of a batch, and on a line.
    """

    unit = "line"

    def __init__(
        self, source: FileSource, names: ColumnNames, dimensions: int, bytes_max: int
    ) -> None:
        self._source = source
        self._names = names
        self._dimensions = dimensions
        self._bytes_max = bytes_max
        is_renamed = names != ColumnNames(ignored=names.ignored)
        self._is_usual = not is_renamed and lines.is_built()

    def batches(self, start: Position, rows_max: int) -> Iterator[RowBatch]:
        """See `base.FileReader`."""
        self._source.skip(start.offset)
        kept: list[tuple[int, bytes]] = []
        size, offset, number = 0, start.offset, start.number
        while line := self._source.readline(self._bytes_max + 1):
            if len(line) > self._bytes_max:
                raise BadFile(
                    f"line {number + 1} is longer than {self._bytes_max:,} bytes; is this NDJSON?"
                )
            if kept and (len(kept) == rows_max or size + len(line) > self._bytes_max):
                yield self._batch(kept, Position(offset, number))
                kept, size = [], 0
            number += 1
            offset += len(line)
            content = line if number > 1 else bytes(members.unmarked(line))
            if content.strip():
                kept.append((number, content))
                size += len(line)
        if kept:
            yield self._batch(kept, Position(offset, number))

    def _batch(self, kept: list[tuple[int, bytes]], end: Position) -> RowBatch:
        rows = RowCollector(self._names, self._dimensions, self.unit, len(kept), is_strict=True)
        if self._is_usual:
            self._read_usual(kept, rows)
        else:
            for number, line in kept:
                _add_line(rows, number, line)
        return rows.batch(end, self._source.fraction)

    def _read_usual(self, kept: list[tuple[int, bytes]], rows: RowCollector) -> None:
        text = b"".join(line if line.endswith(b"\n") else line + b"\n" for _, line in kept)
        starts = [0, *accumulate(len(line) + (not line.endswith(b"\n")) for _, line in kept)]
        row = 0  # of `kept`; there are never more good rows than lines read
        while row < len(kept):
            free = rows.values[rows.count :]
            spans, _, _ = lines.read_records(text, starts[row], free)
            for position, span in enumerate(spans):
                number, line = kept[row + position]
                usual = _usual_row(text, span, line)
                if usual is None:
                    _add_line(rows, number, line)
                    continue
                rows.values[rows.count] = free[position]
                rows.add_row(number, *usual)
            row += len(spans)
            if row < len(kept):
                _add_line(rows, *kept[row])
                row += 1


def _usual_row(text: bytes, span: lines.Span, line: bytes) -> tuple[str, str, bytes] | None:
    """Return id, namespace and metadata of a record; None where they break a rule."""
    _, _, id_start, id_end, name_start, name_end, metadata_start, metadata_end = span
    if len(line) > LINE_BYTES_MAX:
        return None
    try:
        vector_id = text[id_start:id_end].decode()
        namespace = text[name_start:name_end].decode()
        check_id(vector_id, LIMITS)
        check_namespace(namespace, vector_id, LIMITS)
        if not metadata_end:
            return vector_id, namespace, b""
        document = members.quick(b'{"metadata":%b}' % text[metadata_start:metadata_end], "values")
        if document is None:
            return None
        return vector_id, namespace, blob(document["metadata"], vector_id, LIMITS)
    except (RecordError, UnicodeDecodeError):
        return None


def _add_line(rows: RowCollector, number: int, line: bytes) -> None:
    try:
        rows.add(number, record_in(line), line)
    except RecordError as refused:
        rows.reject(number, refused.rule, as_record(line.decode(errors="backslashreplace").strip()))

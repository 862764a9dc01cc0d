"""JSON that is no NDJSON: an array of records, ``{"vectors": [...]}``, or records over many lines.

The text is read in parts, and the records in it are cut out by brackets and strings alone
(`wire.framing`), so that memory holds one part and the records of a batch.
"""

from collections.abc import Iterator

from vicinal.errors import BadFile
from vicinal.readers.base import LIMITS, ColumnNames, Position, RowBatch, as_record, shown
from vicinal.readers.collecting import RowCollector, record_in
from vicinal.readers.opening import FileSource
from vicinal.wire import framing, members
from vicinal.wire.documents import RecordError

_PART_BYTES = 1 << 20
_SPACE = b" \t\r\n"


class JsonReader:
    """Reads a document of JSON; rows are its records, counted from 1.

    Args:
        source: The file.
        names: The meaning of members.
        dimensions: The length of every vector; 0 for texts.
        bytes_max: Bound on the text of a batch.
    """

    unit = "record"

    def __init__(
        self, source: FileSource, names: ColumnNames, dimensions: int, bytes_max: int
    ) -> None:
        self._source = source
        self._names = names
        self._dimensions = dimensions
        self._bytes_max = bytes_max
        self._text = bytearray()
        self._at = 0
        self._is_whole = False
        self._number = 0
        self._beside: list[bytes] = []  # names of members before the vectors

    def batches(self, start: Position, rows_max: int) -> Iterator[RowBatch]:
        """See `base.FileReader`."""
        kept: list[tuple[int, bytes]] = []
        size = 0
        for number, text in enumerate(self._records(), start=1):
            self._number = number
            if number <= start.number:
                continue
            if kept and (len(kept) == rows_max or size + len(text) > self._bytes_max):
                yield self._batch(kept)
                kept, size = [], 0
            kept.append((number, text))
            size += len(text)
        if kept:
            yield self._batch(kept)

    def _batch(self, kept: list[tuple[int, bytes]]) -> RowBatch:
        rows = RowCollector(self._names, self._dimensions, self.unit, len(kept), is_strict=True)
        for number, text in kept:
            try:
                rows.add(number, record_in(text), text)
            except RecordError as refused:
                rows.reject(number, refused.rule, as_record(text.decode(errors="backslashreplace")))
        return rows.batch(Position(0, kept[-1][0]), self._source.fraction)

    def _records(self) -> Iterator[bytes]:
        self._text += members.unmarked(self._source.pull(_PART_BYTES))
        if self._next() == b"[":
            self._at += 1
            yield from self._elements()
            self._end("array")
        elif self._find_vectors():
            for name in self._beside:
                self._refuse_beside(name)
            yield from self._elements()
            self._pass_members()
            self._end("object")
        else:
            while self._next():
                yield self._value()

    def _elements(self) -> Iterator[bytes]:
        """Yield the elements of an array whose bracket has been read."""
        if self._next() == b"]":
            self._at += 1
            return
        while True:
            self._next()
            yield self._value()
            separator = self._next()
            if separator not in (b",", b"]"):
                raise self._broken(f"expected a comma or the end of the array, got {separator!r}")
            self._at += 1
            if separator == b"]":
                return

    def _find_vectors(self) -> bool:
        """Move into the array of a member `vectors`; stay where there is none."""
        begin = self._at
        while len(self._text) < LIMITS.record_bytes_max and self._more():
            pass
        self._at = begin + 1
        names: list[bytes] = []
        try:
            while self._next() == b'"':
                name = self._value()
                if self._next() != b":":
                    break
                self._at += 1
                if name == b'"vectors"' and self._next() == b"[":
                    self._at += 1
                    self._beside = names
                    return True
                names.append(name)
                self._next()
                self._value()
                if self._next() != b",":
                    break
                self._at += 1
        except BadFile:
            pass
        self._at = begin
        return False

    def _pass_members(self) -> None:
        """Pass over the members of the object after its vectors."""
        while self._next() == b",":
            self._at += 1
            self._next()
            name = self._value()
            if self._next() != b":":
                raise self._broken("expected a colon")
            self._at += 1
            self._refuse_beside(name)
            self._next()
            self._value()
        if self._next() != b"}":
            raise self._broken("the object is not closed after its vectors")
        self._at += 1

    def _refuse_beside(self, name: bytes) -> None:
        text = name.decode(errors="replace").strip('"')
        if text not in self._names.ignored:
            raise self._broken(
                f"unknown member {shown(text)} beside the vectors; `--ignore {text}` leaves it out"
            )

    def _end(self, name: str) -> None:
        if self._next():
            raise self._broken(f"there is text after the end of the {name}")

    def _next(self) -> bytes:
        """Move to the next character that is no space, and return it; ``b""`` at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _SPACE:
                self._at += 1
            if self._at < len(self._text) or not self._more():
                return bytes(self._text[self._at : self._at + 1])

    def _value(self) -> bytes:
        """Return the text of the value that begins here, and move behind it."""
        if not self._next():
            raise self._broken("the file is cut off")
        while True:
            stop = self._at + LIMITS.record_bytes_max
            try:
                end = framing.value_end(self._text, self._at, stop)
                if end < len(self._text) or self._is_whole or not self._more():
                    text = bytes(self._text[self._at : end])
                    self._at = end
                    return text
            except members.Malformed as error:
                if len(self._text) > stop or not self._more():
                    raise self._broken(str(error)) from None

    def _more(self) -> bool:
        """Read the next part; return whether there was one."""
        part = self._source.pull(_PART_BYTES)
        if not part:
            self._is_whole = True
            return False
        del self._text[: self._at]
        self._at = 0
        self._text += part
        return True

    def _broken(self, rule: str) -> BadFile:
        if rule == "the body is cut off":
            rule = "the file is cut off"
        return BadFile(f"record {self._number + 1}: {rule}")

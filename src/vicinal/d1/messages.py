"""What a server and its SQL processes say to each other.

    frame := length u32, big-endian | MessagePack
    server  Call ──►                                         one at a time
    worker       ──► Refused                                 nothing took effect
                 ──► Results, then Done or Refused           sent before and after the commit

So a server that has `Results` and then hears no more knows that it does not know whether
the call took effect; before that it knows that it did not. Both sides bound what they read,
and the server trusts nothing that a worker sends beyond its shape.

This module knows neither SQL nor processes, and imports nothing of the package but bounds.
"""

import struct
from collections.abc import Sequence
from typing import Any, Literal, Protocol

import msgspec

from vicinal.d1.bounds import CALL_BYTES_MAX, MIB, RESULT_BYTES_MAX

ANSWER_BYTES_MAX = RESULT_BYTES_MAX + MIB  # the counts and times of a thousand results
_LENGTH = struct.Struct(">I")

Value = int | float | str | bytes | None
_TYPES = {int, float, str, bytes, type(None)}


class Statement(msgspec.Struct, array_like=True, frozen=True):
    """SQL and its parameters; SQL of several statements takes none."""

    sql: str
    # Of `Value` or bool: msgspec knows no union of texts and bytes.
    parameters: Sequence[Any] = ()


class Call(msgspec.Struct, array_like=True, frozen=True):
    """Statements to run as one transaction.

    Attributes:
        account: Well-formed.
        database: Well-formed; made when it is not there.
        statements: Each may hold several, separated by semicolons.
        seconds_max: How long they may take.
        names_each_row: Whether each row of the answer will repeat the names of its columns,
            which then count as part of the result.
    """

    account: str
    database: str
    statements: Sequence[Statement]
    seconds_max: float
    names_each_row: bool


class Result(msgspec.Struct, array_like=True, frozen=True):
    """What one statement did; its rows have been encoded one by one, as they came."""

    columns: list[str]
    rows: msgspec.Raw
    changes: int
    last_row_id: int
    seconds: float
    file_bytes: int


class StatementResult(msgspec.Struct, array_like=True, frozen=True):
    """A `Result` as the server reads it.

    Attributes:
        columns: Their names, in order; none for a statement that returns no rows.
        rows: Tuples of one `Value` a column.
        changes: Rows written.
        last_row_id: Id of the newest row of the call, 0 when there is none.
        seconds: Duration of the statement.
        file_bytes: Size of the database.
    """

    columns: list[str]
    rows: list[tuple[Any, ...]]
    changes: int
    last_row_id: int
    seconds: float
    file_bytes: int


class Results(msgspec.Struct, array_like=True, frozen=True, tag="results"):
    """Every statement has run; what follows is the commit."""

    results: list[Result]


class ReadResults(msgspec.Struct, array_like=True, frozen=True, tag="results"):
    """`Results` as the server reads them."""

    results: list[StatementResult]


class Done(msgspec.Struct, array_like=True, frozen=True, tag="done"):
    """The call has been committed. `is_last`: the process wants no other."""

    is_last: bool


class Refused(msgspec.Struct, array_like=True, frozen=True, tag="refused"):
    """The call took no effect."""

    reason: Literal["statement", "unavailable", "corruption", "defect"]
    text: str
    is_last: bool


Answer = ReadResults | Done | Refused

_encoder = msgspec.msgpack.Encoder()
_answers: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)
_calls = msgspec.msgpack.Decoder(Call)


class Readable(Protocol):
    """The reading end of a pipe, buffered."""

    def read(self, size: int, /) -> bytes:
        """Return `size` bytes, fewer only at the end."""
        ...


class BadFrame(Exception):
    """What came over the pipe is no message, or too long for one."""


def frame(message: Call | Results | Done | Refused) -> bytes:
    """Encode a message with its length before it.

    Raises:
        UnicodeEncodeError: a text is not valid Unicode.
        OverflowError: an integer has more than 64 bits.
    """
    body = _encoder.encode(message)
    return _LENGTH.pack(len(body)) + body


def read_call(pipe: Readable) -> Call | None:
    """Return the next call, None at the end.

    Raises:
        BadFrame: it is none.
    """
    body = _read(pipe, CALL_BYTES_MAX)
    try:
        return None if body is None else _calls.decode(body)
    except msgspec.DecodeError as error:
        raise BadFrame(str(error)) from None


def read_answer(pipe: Readable) -> Answer | None:
    """Return the next message of a worker, None at the end.

    Raises:
        BadFrame: it is none, or one whose rows do not have the length of its columns.
    """
    body = _read(pipe, ANSWER_BYTES_MAX)
    if body is None:
        return None
    try:
        answer = _answers.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadFrame(str(error)) from None
    if isinstance(answer, ReadResults):
        for each in answer.results:
            _check_rows(each)
    return answer


def _check_rows(result: StatementResult) -> None:
    width = len(result.columns)
    for row in result.rows:
        if len(row) != width or not _TYPES.issuperset(map(type, row)):
            raise BadFrame(f"a row is not of {width} values, one for each column")


def _read(pipe: Readable, most: int) -> bytes | None:
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (size,) = _LENGTH.unpack(head)
    if size > most:
        raise BadFrame(f"{size} bytes are announced, the limit is {most}")
    body = pipe.read(size)
    return body if len(body) == size else None

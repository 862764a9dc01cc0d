"""Messages between a server and its SQL processes.

    frame := length u32, big-endian | MessagePack
    server  Call ──►                                         one at a time
    worker       ──► RolledBack                              nothing took effect
                 ──► Results, then Committed or RolledBack   sent before and after the commit

If the worker dies before `Results`, the call took no effect; after them, that is not known. Both
sides bound what they read, and the server trusts nothing that a worker sends beyond its shape.

This module knows neither SQL nor processes, and imports nothing of the package but bounds.
"""

import struct
from collections.abc import Sequence
from typing import IO, Any, Generic, Literal, TypeVar

import msgspec

from vicinal.d1.bounds import CALL_BYTES_MAX, MIB, RESULT_BYTES_MAX

ANSWER_BYTES_MAX = RESULT_BYTES_MAX + MIB  # the counts and times of a thousand results
_LENGTH = struct.Struct(">I")

Value = int | float | str | bytes | None
_TYPES = {int, float, str, bytes, type(None)}
_Rows = TypeVar("_Rows")


class Statement(msgspec.Struct, array_like=True, frozen=True):
    """SQL and its parameters; SQL of several statements takes none."""

    sql: str
    # Of `Value` or bool: msgspec knows no union of texts and bytes.
    parameters: Sequence[Any] = ()


class Call(msgspec.Struct, array_like=True, frozen=True):
    """Statements to run as one transaction.

    Attributes:
        account: Well-formed.
        database: Well-formed; made if it does not exist.
        statements: Their SQL may hold several statements, separated by semicolons.
        seconds_max: Seconds that all of them may take.
        names_each_row: Whether each row of the answer will repeat the names of its columns,
            which then count as part of the result.
    """

    account: str
    database: str
    statements: Sequence[Statement]
    seconds_max: float
    names_each_row: bool


class Result(msgspec.Struct, Generic[_Rows], array_like=True, frozen=True):
    """Result of a statement.

    Attributes:
        columns: Names of the columns, in order; none for a statement that returns no rows.
        rows: Tuples of one `Value` a column. The worker encodes them one by one.
        changes: Rows written.
        last_row_id: Id of the newest row of the call, 0 when there is none.
        seconds: Duration of the statement.
        file_bytes: Size of the database.
    """

    columns: list[str]
    rows: _Rows
    changes: int
    last_row_id: int
    seconds: float
    file_bytes: int


class Results(msgspec.Struct, Generic[_Rows], array_like=True, frozen=True, tag="results"):
    """All statements have run; the commit comes next."""

    results: list[Result[_Rows]]


class Committed(msgspec.Struct, array_like=True, frozen=True, tag="committed"):
    """The call has been committed. `is_last`: the process takes no further call."""

    is_last: bool


class RolledBack(msgspec.Struct, array_like=True, frozen=True, tag="rolled back"):
    """The call took no effect. `is_last`: the process takes no further call."""

    reason: Literal["statement", "unavailable", "corruption", "defect"]
    text: str
    is_last: bool


StatementResult = Result[list[tuple[Any, ...]]]
SentResults = Results[msgspec.Raw]
Answer = Results[list[tuple[Any, ...]]] | Committed | RolledBack

_encoder = msgspec.msgpack.Encoder()
_answers: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)
_calls = msgspec.msgpack.Decoder(Call)


class BadFrame(Exception):
    """The bytes of the pipe are no message, or too many for one."""


def frame(message: Call | SentResults | Committed | RolledBack) -> bytes:
    """Encode a message with its length before it.

    Raises:
        UnicodeEncodeError: a text is not valid Unicode.
        OverflowError: an integer has more than 64 bits.
    """
    body = _encoder.encode(message)
    return _LENGTH.pack(len(body)) + body


def read_call(pipe: IO[bytes]) -> Call | None:
    """Return the next call, None at the end.

    Raises:
        BadFrame: the bytes are no call.
    """
    body = _receive_body(pipe, CALL_BYTES_MAX)
    try:
        return None if body is None else _calls.decode(body)
    except msgspec.DecodeError as error:
        raise BadFrame(str(error)) from None


def read_answer(pipe: IO[bytes]) -> Answer | None:
    """Return the next message of a worker, None at the end.

    Raises:
        BadFrame: the bytes are no answer, or a row has not one value for each column.
    """
    body = _receive_body(pipe, ANSWER_BYTES_MAX)
    if body is None:
        return None
    try:
        answer = _answers.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadFrame(str(error)) from None
    if isinstance(answer, Results):
        for result in answer.results:
            _check_rows(result)
    return answer


def _check_rows(result: StatementResult) -> None:
    width = len(result.columns)
    for row in result.rows:
        if len(row) != width or not _TYPES.issuperset(map(type, row)):
            raise BadFrame(f"a row is not of {width} values, one for each column")


def _receive_body(pipe: IO[bytes], most: int) -> bytes | None:
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (size,) = _LENGTH.unpack(head)
    if size > most:
        raise BadFrame(f"{size} bytes are announced, the limit is {most}")
    body = pipe.read(size)
    return body if len(body) == size else None

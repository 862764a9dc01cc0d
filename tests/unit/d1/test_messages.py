"""A frame is whole and of its shape, or it is refused; whoever sent it is not trusted."""

import io
import struct

import msgspec
import pytest

from vicinal.d1.bounds import CALL_BYTES_MAX
from vicinal.d1.messages import (
    ANSWER_BYTES_MAX,
    BadFrame,
    Call,
    Committed,
    Result,
    Results,
    RolledBack,
    SentResults,
    Statement,
    frame,
    read_answer,
    read_call,
)

CALL = Call("acme", "texts", [Statement("select ?", [1, 2.5, "ä", b"\x00\xff", None])], 1.0, True)
ROWS = [(1, 2.5), ("ä", b"\x00"), (None, -(2**63))]
ANSWERS: list[SentResults | Committed | RolledBack] = [
    Committed(is_last=True),
    RolledBack("statement", "no", is_last=False),
    Results([Result(["a", "b"], msgspec.Raw(msgspec.msgpack.encode(ROWS)), 1, 2, 0.5, 4096)]),
]


def framed(content: object) -> io.BytesIO:
    """Frame anything."""
    body = content if isinstance(content, bytes) else msgspec.msgpack.encode(content)
    return io.BytesIO(struct.pack(">I", len(body)) + body)


def test_a_call_comes_out_as_it_went_in() -> None:
    pipe = io.BytesIO(frame(CALL) * 2)

    assert [read_call(pipe), read_call(pipe), read_call(pipe)] == [CALL, CALL, None]


def test_answers_come_out_as_they_went_in() -> None:
    pipe = io.BytesIO(b"".join(frame(each) for each in ANSWERS))

    assert read_answer(pipe) == ANSWERS[0]
    assert read_answer(pipe) == ANSWERS[1]
    results = read_answer(pipe)
    assert isinstance(results, Results)
    assert results.results[0].rows == ROWS
    assert results.results[0].columns == ["a", "b"]
    assert read_answer(pipe) is None


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_frame_cut_anywhere_is_the_end(answer: SentResults | Committed | RolledBack) -> None:
    whole = frame(answer)

    for cut in range(len(whole)):
        assert read_answer(io.BytesIO(whole[:cut])) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xc1",
        b"\x00" * 100,
        [],
        ["committed"],
        ["committed", 1],
        ["other", True],
        ["rolled back", "because", "text", False],
        ["rolled back", "statement", 5, False],
        ["rolled back", "statement", b"\xff", False],
        ["results", [[["a"], [[1, 2]], 0, 0, 0.0, 0]]],
        ["results", [[["a"], [[]], 0, 0, 0.0, 0]]],
        ["results", [[["a"], [[[1]]], 0, 0, 0.0, 0]]],
        ["results", [[["a"], [[{"a": 1}]], 0, 0, 0.0, 0]]],
        ["results", [[["a"], [[True]], 0, 0, 0.0, 0]]],
        ["results", [[["a"], [[msgspec.msgpack.Ext(1, b"x")]], 0, 0, 0.0, 0]]],
        ["results", [[["a"], 5, 0, 0, 0.0, 0]]],
        ["results", [[["a"], [[1]], "0", 0, 0.0, 0]]],
        ["results", [[[5], [[1]], 0, 0, 0.0, 0]]],
        [["results"]] * 100,
        {"type": "committed"},
        b"\x91" * 100_000,
    ],
)
def test_what_is_no_answer_is_refused(content: object) -> None:
    with pytest.raises(BadFrame):
        read_answer(framed(content))


def test_a_frame_longer_than_it_may_be_is_not_read() -> None:
    class Pipe(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            assert size == 4, "more than the length was read"
            return super().read(size)

    with pytest.raises(BadFrame, match=f"the limit is {ANSWER_BYTES_MAX}"):
        read_answer(Pipe(struct.pack(">I", ANSWER_BYTES_MAX + 1)))
    with pytest.raises(BadFrame, match="4294967295 bytes"):
        read_call(Pipe(b"\xff" * 4))


def test_what_cannot_be_sent_says_so() -> None:
    with pytest.raises(OverflowError):
        frame(Call("a", "b", [Statement("", [2**64])], 1.0, False))
    with pytest.raises(UnicodeEncodeError):
        frame(Call("a", "b", [Statement("\ud800", [])], 1.0, False))
    assert CALL_BYTES_MAX < 2**32

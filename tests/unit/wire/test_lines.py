"""Lines are read by what is compiled as they are in Python, or not at all."""

import json
import math
import random
import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest

from tests.support.watched import run_watched
from vicinal.native.library import SOURCES
from vicinal.wire import lines
from vicinal.wire.lines import Span

pytestmark = pytest.mark.skipif(
    not lines.is_built(), reason="THE READING OF LINES WAS NOT BUILT: there is no C compiler"
)

SEED = 7


def spans_of(
    text: bytes | memoryview, dimensions: int = 3, rows: int = 10
) -> tuple[list[Span], int]:
    return lines.read_records(text, 0, np.empty((rows, dimensions), np.float32))[:2]


def line_of(*numbers: str) -> bytes:
    return b'{"id":"a","values":[%b]}' % ",".join(numbers).encode("latin-1")


def number(text: str) -> np.float32 | None:
    """Return the one value of a vector, None when its line is not read."""
    values = np.empty((1, 1), np.float32)
    spans, _, _ = lines.read_records(line_of(text), 0, values)
    return values[0, 0] if spans else None


def expected(text: str) -> np.float32:
    """Return what Python makes of a number; an integer has no negative zero."""
    with np.errstate(over="ignore"):
        return np.float32(json.loads(text))


def spelled(random: random.Random) -> str:
    """Return a number as some client may spell it."""
    near = random.uniform(-1, 1)
    match random.randrange(7):
        case 0:
            return repr(near)
        case 1:
            return repr(near * 10.0 ** random.randrange(-30, 30))
        case 2:
            return str(random.randrange(-(10**15), 10**15))
        case 3:
            return f"{near * 10.0 ** random.randrange(-40, 37):.{random.randrange(18)}e}"
        case 4:
            return f"{near:.{random.randrange(1, 19)}f}"
        case 5:
            return repr(float(np.float32(near)))
        case _:
            return random.choice(["0", "-0", "0.0", "-0.0", "1E+5", "1e-5", "0e40", "0.0e-99"])


def test_numbers_are_those_that_python_reads_whatever_their_spelling() -> None:
    source = random.Random(SEED)
    unread = 0
    for _ in range(20_000):
        text = spelled(source)
        found = number(text)
        if found is None:
            unread += 1
        else:
            assert found.tobytes() == expected(text).tobytes(), text
    assert unread < 20


def test_numbers_side_by_side_are_those_that_python_reads() -> None:
    source = random.Random(SEED)
    read = 0
    for _ in range(500):
        dimensions, space = source.randrange(1, 400), source.choice(["", "", " "])
        usual = source.random()  # how many are spelled alike, so that long runs of these are met
        texts = [
            f"{source.uniform(-9.9, 9.9):.{source.choice((8, 16))}f}"
            if source.random() < usual
            else spelled(source)
            for _ in range(dimensions)
        ]
        line = line_of(*(space + text for text in texts))
        values = np.empty((1, dimensions), np.float32)

        spans, _, _ = lines.read_records(line, 0, values)

        if spans:
            read += dimensions
            wanted = np.array([expected(text) for text in texts], np.float32)
            assert values.tobytes() == wanted.tobytes(), line
    assert read > 50_000


@pytest.mark.parametrize("digits", range(1, 20))
def test_what_is_no_digit_is_noticed_wherever_it_stands(digits: int) -> None:
    text = f"-0.{'7' * digits}"
    good = [text] * 20
    for place in range(len(text)):
        for stray in "-+.,eE /:x\x00\xb0":
            broken = text[:place] + stray + text[place + 1 :]
            line = line_of(*good, broken, *good)
            values = np.empty((1, 41), np.float32)

            spans, _, _ = lines.read_records(line, 0, values)

            if spans:  # it still was a number, of another spelling
                wanted = np.array([json.loads(line)["values"]], np.float32)
                assert values.tobytes() == wanted.tobytes(), line


def test_numbers_half_way_between_two_are_never_rounded_the_wrong_way() -> None:
    source = random.Random(SEED)
    read = 0
    for _ in range(2_000):
        # Half way between two float32; next to it is half way between two float64.
        middle = (source.getrandbits(24) | 1 << 24 | 1) << 29
        for beside in (middle - 1, middle, middle + 1):
            fives, twos = source.randrange(5), source.randrange(90)
            places = 17 - math.floor(math.log10(beside / 2**twos))
            for digits, exponent in (
                (beside * 5**fives, -fives),
                (round(Fraction(beside, 2**twos) * 10**places), -places),
            ):
                for text in (f"{digits + offset}e{exponent}" for offset in (-1, 0, 1)):
                    found = number(text)
                    if found is not None:
                        read += 1
                        assert found.tobytes() == expected(text).tobytes(), text
    assert read > 20_000


@pytest.mark.parametrize(
    "text",
    ["", "+1", "-", ".5", "1.", "-.5", "01", "00", "1e", "1e+", "1.e5", "1e1.5", "0x1", "1_0",
     "NaN", "Infinity", "-Infinity", "null", "true", '"1"', "[1]", "{}", "1 2", "1,", ",1", "1,2",
     "1e39", "-3.5e38", "1e999", "1e99999999", "0.12345678901234567891", "\xa01"],
)  # fmt: skip
def test_a_number_that_is_none_or_unusual_is_left_to_python(text: str) -> None:
    assert number(text) is None


GOOD = b'{"id":"g","values":[1,2,3]}'

GUARDED = """
import ctypes
import mmap
import numpy as np
from vicinal.wire import lines

def read_up_to_a_wall(text):
    \"\"\"Read a text that goes on, as it says, where nothing may be read.\"\"\"
    pages = mmap.mmap(-1, 2 * mmap.PAGESIZE)
    first = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    start = mmap.PAGESIZE - len(text)
    pages[start:mmap.PAGESIZE] = text
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(first + mmap.PAGESIZE), mmap.PAGESIZE, 0) == 0
    values = np.empty((9, 3), np.float32)
    spans, position, _ = lines.read_records(memoryview(pages), start, values)
    print(len(spans), position - start)
"""


@pytest.mark.parametrize(
    "line",
    [
        b'{"id":"","values":[1,2,3]}',
        b'{"id":"a\\u0062","values":[1,2,3]}',
        b'{"i\\u0064":"a","values":[1,2,3]}',
        b'{"id":"a\tb","values":[1,2,3]}',
        b'{"id":1,"values":[1,2,3]}',
        b'{"id":"a","id":"a","values":[1,2,3]}',
        b'{"id":"a","values":[1,2,3],"values":[1,2,3]}',
        b'{"id":"a","values":[1,2,3],"other":1}',
        b'{"id":"a","values":[1,2]}',
        b'{"id":"a","values":[1,2,3,4]}',
        b'{"id":"a","values":[]}',
        b'{"id":"a","values":[[1,2,3]]}',
        b'{"id":"a","values":{"0":1}}',
        b'{"id":"a","values":[1,2,3],"namespace":1}',
        b'{"id":"a","values":[1,2,3],"namespace":nul}',
        b'{"id":"a","values":[1,2,3],"metadata":[]}',
        b'{"id":"a","values":[1,2,3],"metadata":{"a":1}',
        b'{"id":"a","values":[1,2,3],"metadata":{"a":"1}}',
        b'{"id":"a","values":[1,2,3]',
        b'{"id":"a","values":[1,2,3]} x',
        b'{"id":"a","values":[1,2,3]}{"id":"b","values":[1,2,3]}',
        b'{"id":"a","values":[1,2,3],}',
        b'{"id":"a" "values":[1,2,3]}',
        b'{"id":"a","values"[1,2,3]}',
        b'{"id":"a"}',
        b'{"values":[1,2,3]}',
        b"{}",
        b"[]",
        b"x",
        b'{"id":"a",\n"values":[1,2,3]}',
    ],
)
def test_reading_stops_before_a_line_that_is_left_to_python(line: bytes) -> None:
    spans, position = spans_of(b"\n".join((GOOD, b"  " + line, GOOD)))

    assert len(spans) == 1
    assert position == len(GOOD) + 3


@pytest.mark.parametrize(
    "line",
    [b'{"values":[', b'{"id":"a","values":[1', b'{"id":"a","values":[1,2', b'{"id":"a', b"{",
     b'{"id":"a","metadata":{"k":"', b'{"id":"a","metadata":{"k\\', b'{"id":"a","metadata":{"k":[',
     b'{"id":"a","values":[1,2,3]', b'{"id":"a","values":[1,2,-', b'{"id":"a","namespace":nul',
     b'{"id"  ', b'{"id":', b'{"id":"a",  ', b"x", b'{"id":"a","values":[1,2,3.4028235e38'],
)  # fmt: skip
def test_nothing_looks_beyond_the_line_that_is_read(line: bytes) -> None:
    """So what is read costs as much as it is long, whatever its lines are: anything that looked
    further would meet a page that may not be read."""
    text = GOOD + b"\n" + line + b"\n"
    script = f"{GUARDED}\nread_up_to_a_wall({text!r})"

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )

    assert done.stdout == f"1 {len(GOOD) + 1}\n", done.stderr


@pytest.mark.parametrize("last", ['"metadata":{"t":1}', '"metadata":{}', '"metadata":null'])
def test_a_record_that_is_not_closed_at_the_end_of_the_text_is_left_to_python(last: str) -> None:
    line = b'{"id":"a","values":[1,2,3],%b' % last.encode()

    assert spans_of(line) == ([], 0)
    assert len(spans_of(line + b"}")[0]) == 1


def test_white_space_and_the_order_of_members_do_not_matter() -> None:
    line = (
        b' \t{ "metadata" : {"a\\"}" : [{}, "]"]} ,"values":[ 1 ,\t-2.5, 3e0 ] , '
        b'"id":"\xc3\xa9" }\r'
    )
    values = np.zeros((3, 3), np.float32)

    spans, position, ends = lines.read_records(b"\n\n" + line + b"\n \r\n", 0, values)

    ((start, end, id_start, id_end, *namespace, metadata_start, metadata_end),) = spans
    text = b"\n\n" + line
    assert text[start:end] == line.lstrip()
    assert text[id_start:id_end].decode() == "é"
    assert text[metadata_start:metadata_end] == b'{"a\\"}" : [{}, "]"]}'
    assert namespace == [0, 0]
    assert values.tolist() == [[1, -2.5, 3], [0, 0, 0], [0, 0, 0]]
    assert (position, ends) == (len(text) + 4, 4)


def test_members_that_are_null_are_not_there() -> None:
    spans, _ = spans_of(b'{"id":"a","namespace":null,"metadata":null,"values":[1,2,3]}')

    assert spans[0][4:] == (0, 0, 0, 0)


def test_no_more_lines_are_read_than_there_is_room_for() -> None:
    text = b"\n".join([GOOD] * 5)
    values = np.zeros((5, 3), np.float32)

    spans, position, _ = lines.read_records(text, 0, values[:2])
    more, end, _ = lines.read_records(text, position, values[2:])

    assert (len(spans), len(more), end) == (2, 3, len(text))
    assert values.tolist() == [[1, 2, 3]] * 5
    assert spans_of(text, rows=0) == ([], 0)


def test_a_text_cut_off_anywhere_gives_the_lines_before_the_cut() -> None:
    line = b'{"id":"a","namespace":"n","metadata":{"k":["v\\"",{}]},"values":[1.25,-2e1,3]}'
    text = b"\n".join((line, line))
    for size in range(len(text)):
        cut = np.frombuffer(text[:size], np.uint8).copy()  # bytes have a zero behind them

        spans, position = spans_of(cut.data)

        assert len(spans) == (size >= len(line))
        assert position == (min(len(line) + 1, size) if spans else 0)


def test_damaged_lines_are_never_read_beyond_their_text() -> None:
    source = random.Random(SEED)
    line = b'{"id":"a","namespace":"n","metadata":{"k":["v\\"",{}]},"values":[1.25,-2e1,3]}\n'
    for _ in range(5_000):
        text = bytearray(line * 2)
        for _ in range(source.randrange(1, 4)):
            text[source.randrange(len(text))] = source.choice(b'"{}[],:\\\n\x00\xff 0e-.')

        spans, position = spans_of(bytes(text))

        assert 0 <= position <= len(text)
        assert all(0 <= start < end <= len(text) for start, end, *_ in spans)


@pytest.mark.parametrize("flags", [(), ("-U__SSE2__",)], ids=["this processor", "any processor"])
def test_it_stays_within_the_memory_it_is_given(flags: Sequence[str]) -> None:
    """The tests of this file again, on a library that watches every access."""
    assert int(run_watched(SOURCES, WATCHED, flags)) > 20_000


WATCHED = """
import os
from pathlib import Path
from tests.unit.wire import test_lines as these
from vicinal.native.library import Library
from vicinal.wire import lines

calls = 0
library = Library(Path(os.environ["VICINAL_WATCHED"]))
lines.library = lambda: library
read = lines.read_records

def counted(*given):
    global calls
    calls += 1
    return read(*given)

lines.read_records = counted
these.test_numbers_are_those_that_python_reads_whatever_their_spelling()
these.test_numbers_side_by_side_are_those_that_python_reads()
these.test_numbers_half_way_between_two_are_never_rounded_the_wrong_way()
these.test_white_space_and_the_order_of_members_do_not_matter()
these.test_no_more_lines_are_read_than_there_is_room_for()
these.test_a_text_cut_off_anywhere_gives_the_lines_before_the_cut()
these.test_damaged_lines_are_never_read_beyond_their_text()
print(calls)
"""

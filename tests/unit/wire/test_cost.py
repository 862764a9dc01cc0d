"""A body costs time in proportion to its length, and not much of it, whatever is in it."""

import contextlib
import time
from collections.abc import Callable

import pytest

from vicinal.errors import Error
from vicinal.limits import Limits
from vicinal.wire import vectors

LIMITS = Limits()
SECONDS_MAX = 6.0  # of CPU for 100 MB; what is quadratic takes minutes
RECORD_BYTES = 1_000_000


def records(start: bytes, each: bytes, end: bytes) -> Callable[[], bytes]:
    """Return records as long as may be that hold one thing as often as fits."""

    def made() -> bytes:
        count = (RECORD_BYTES - len(start) - len(end)) // len(each)
        return (start + each * count + each.rstrip(b",") + end + b"\n") * 100

    return made


def many_members() -> bytes:
    members = b",".join(b'"%d":1' % number for number in range(80_000))
    return (b'{"id":"a","values":[1,2,3],' + members + b"}\n") * 90


@pytest.mark.parametrize(
    "made",
    [
        lambda: b'{"values":[\n' * 4_999 + b" " * 104_700_000 + b"\n",
        lambda: b"x\n" * 4_999 + b"\n" * 104_000_000,
        lambda: b"," * 104_000_000,
        lambda: b'"' + b"x\\n" * 30_000_000 + b'"',
        lambda: b"--b\r\n" + b"content-a:b\r\n\r\n\r\n--b\r\n" * 4_000_000,
        records(b'{"id":"a","values":[', b"{},", b"]}"),
        records(b'{"id":"a","values":[', b"[],", b"]"),
        records(b'{"id":"a","values":[', b"NaN,", b"]}"),
        records(b'{"id":"a","values":[1,2,3],', b'"a":1,', b"}"),
        records(b'{"id":"a","values":[1,2,3],"metadata":{"k":[', b"[],", b']},"q":NaN}'),
        many_members,
    ],
    ids=["open arrays, then spaces", "blank lines", "commas", "a string of lines", "parts",
         "objects", "arrays", "constants", "a member repeated", "metadata", "many members"],
)  # fmt: skip
def test_the_longest_body_takes_seconds_at_most(made: Callable[[], bytes]) -> None:
    body = made()
    assert len(body) <= LIMITS.body_bytes_max
    start = time.thread_time()
    with contextlib.suppress(Error):
        vectors.read(body, None, 3, LIMITS, discard=True)
    assert time.thread_time() - start < SECONDS_MAX


def test_a_record_of_more_members_than_may_be_is_refused() -> None:
    def record(count: int) -> bytes:
        return b'{"id":"a","values":[1,2,3],"x":[%b]}' % b",".join([b"[]"] * (count - 6))

    assert len(vectors.read(record(LIMITS.record_nodes_max), None, 3, LIMITS)) == 1
    with pytest.raises(Error, match="a record of 50001 members, arrays and objects"):
        vectors.read(record(LIMITS.record_nodes_max + 1), None, 3, LIMITS)

"""Hypothesis strategies for vectors, their metadata and the bodies that carry them."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from hypothesis import strategies as st

from vicinal.model import Floats
from vicinal.wire import lines, members

READERS = (members.quick, lambda text, array: None)
"""Every way of reading an object; the last leaves all to the careful reader."""


def no_lines(
    text: members.Text, position: int, values: Floats, end: int | None = None
) -> tuple[list[lines.Span], int, int]:
    """Read no lines, as where `lines.read_records` was not compiled."""
    return [], position, 0


@contextmanager
def reading(quick: Callable[..., Any], *, compiled: bool) -> Iterator[None]:
    """Read bodies in this way."""
    with (
        mock.patch.object(members, "quick", quick),
        mock.patch.object(lines, "read_records", lines.read_records if compiled else no_lines),
    ):
        yield


characters = st.characters(exclude_categories=["Cs"])  # a lone surrogate is no character


def short_text(bytes_max: int, *, min_size: int = 0) -> st.SearchStrategy[str]:
    """Text of at most so many bytes of UTF-8."""
    return st.text(characters, min_size=min_size, max_size=bytes_max).filter(
        lambda text: len(text.encode()) <= bytes_max
    )


keys = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters='."'), min_size=1, max_size=8
).filter(lambda key: not key.startswith("$"))

numbers = st.integers(-(10**25), 10**25) | st.floats(allow_nan=False, allow_infinity=False)

scalars = st.none() | st.booleans() | numbers | st.text(characters, max_size=20)

metadata = st.dictionaries(
    keys,
    st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)


_KNOWN = ("id", "values", "namespace", "metadata")


@st.composite
def records(draw: st.DrawFn, dimensions: int) -> dict[str, Any]:
    """A vector record as a client has it, members in any order."""
    values = st.floats(width=32, allow_nan=False, allow_infinity=False)
    record: dict[str, Any] = {
        "id": draw(short_text(64, min_size=1)),
        "values": draw(st.lists(values, min_size=dimensions, max_size=dimensions)),
    }
    if draw(st.booleans()):
        record["namespace"] = draw(st.none() | short_text(64))
    if draw(st.booleans()):
        record["metadata"] = draw(st.none() | metadata)
    if draw(st.booleans()):
        record[draw(keys.filter(lambda key: key not in _KNOWN))] = draw(scalars)
    order = draw(st.permutations(list(record)))
    return {name: record[name] for name in order}


def forms(batch: list[dict[str, Any]], *, escaped: bool, indent: int | None) -> dict[str, bytes]:
    """Every body form of a batch."""

    def dumped(value: object, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=escaped, indent=indent)

    ndjson = "\n".join(dumped(record) for record in batch)
    head = '--b\r\nContent-Disposition: form-data; name="vectors"\r\n\r\n'
    texts = {
        "ndjson": ndjson,
        "ndjson, crlf": ndjson.replace("\n", "\r\n") + "\r\n",
        "vectors": dumped({"vectors": batch}, indent),
        "array": dumped(batch, indent),
        "string": dumped(ndjson),
        "multipart": f"{head}{ndjson}\r\n--b--",
    }
    if len(batch) == 1:
        texts["object"] = dumped(batch[0], indent)
    return {name: text.encode() for name, text in texts.items()}


@st.composite
def damaged(draw: st.DrawFn, bodies: st.SearchStrategy[bytes]) -> bytes:
    """A body of which a few places were cut, doubled or overwritten."""
    body = draw(bodies)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(body)))
        end = draw(st.integers(start, min(len(body), start + 20)))
        patch = draw(
            st.binary(max_size=3)
            | st.sampled_from(
                [b"", b'"', b"{", b"}", b"[", b"]", b",", b":", b"\n", b"\\", b"null", b"NaN",
                 b"1e999", b"--b", b'"id":', b'"vectors":[', b"\\ud800", b"\xef\xbb\xbf", b"-0"]
            )
            | st.just(body[start:end] * 2)
        )  # fmt: skip
        body = body[:start] + patch + body[end:]
    return body

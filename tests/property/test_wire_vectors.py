"""A batch survives every body form; any other bytes are refused with an error of ours.

Holds for each way of reading an object, and all of them say the same of the same bytes.
"""

import json
from collections.abc import Callable
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.bodies import READERS, damaged, forms, reading, records
from vicinal.errors import Error
from vicinal.limits import Limits
from vicinal.model import VectorBatch
from vicinal.wire import vectors
from vicinal.wire.rows import MemoryBatchWriter

LIMITS = Limits(batch_vectors_max=8)
DIMENSIONS = 3
TYPES = st.sampled_from([None, "application/x-ndjson", "multipart/form-data", "text/csv"])

batches = st.lists(records(DIMENSIONS), min_size=1, max_size=4)
bodies = st.builds(
    lambda batch, escaped, indent: forms(batch, escaped=escaped, indent=indent),
    batches,
    st.booleans(),
    st.sampled_from([None, 0, 2]),
).flatmap(lambda found: st.sampled_from(list(found.values())))
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(["id", "values", "namespace", "metadata", "vectors"]) | st.text(), inner
        )
    ),
    max_leaves=12,
).map(lambda document: json.dumps(document).encode())


def outcomes(body: bytes, content_type: str | None, *, discard: bool) -> list[object]:
    """Return what each way of reading gives."""
    ways = product(READERS, (False, True), (bytes, bytearray))
    return [
        outcome(kind(body), content_type, reader, compiled=compiled, discard=discard)
        for reader, compiled, kind in ways
    ]


def outcome(
    body: bytes | bytearray,
    content_type: str | None,
    reader: Any,
    *,
    compiled: bool,
    discard: bool,
) -> object:
    """Return what comes of a body that is read in this way."""
    with reading(reader, compiled=compiled):
        return outcome_of(
            lambda: vectors.read(body, content_type, DIMENSIONS, LIMITS, discard=discard)
        )


def outcome_of(read: Callable[[], VectorBatch]) -> object:
    """Return all that a reading gives: the batch, or the error's class and text."""
    try:
        batch = read()
    except Error as error:
        return type(error), str(error)
    check(batch)
    return batch.ids, batch.values.tobytes(), batch.namespaces, batch.metadata


def check(batch: VectorBatch) -> None:
    """Check what every batch promises, whatever it came from."""
    count = len(batch.ids)
    assert len(batch.namespaces) == len(batch.metadata) == count <= LIMITS.batch_vectors_max
    assert batch.values.shape == (count, DIMENSIONS)
    assert batch.values.dtype == np.float32
    assert batch.values.flags.c_contiguous
    assert np.isfinite(batch.values).all()
    assert all(1 <= len(each.encode()) <= 64 for each in batch.ids)
    assert all(len(each.encode()) <= 64 for each in batch.namespaces)
    assert all(not blob or isinstance(json.loads(blob), dict) for blob in batch.metadata)


@pytest.mark.parametrize("compiled", [False, True], ids=["in Python", "compiled"])
@pytest.mark.parametrize("reader", READERS, ids=["simdjson", "careful"])
@given(batch=batches, escaped=st.booleans(), indent=st.sampled_from([None, 0, 2]))
def test_every_form_of_a_batch_reads_as_that_batch(
    reader: Any, compiled: bool, batch: list[dict[str, Any]], escaped: bool, indent: int | None
) -> None:
    values = np.array([record["values"] for record in batch], dtype=np.float32)

    for form, body in forms(batch, escaped=escaped, indent=indent).items():
        with reading(reader, compiled=compiled):
            read = vectors.read(body, None, DIMENSIONS, LIMITS)

        assert list(read.ids) == [record["id"] for record in batch], form
        assert read.values.tobytes() == values.tobytes(), form
        assert list(read.namespaces) == [record.get("namespace") or "" for record in batch], form
        given_metadata = [record.get("metadata") for record in batch]
        stored = [json.loads(blob) if blob else None for blob in read.metadata]
        # As text, so that 1 differs from 1.0 and the order of members counts.
        assert repr(stored) == repr(given_metadata), form


@given(body=damaged(bodies), content_type=TYPES, discard=st.booleans())
@example(body=b'{"id":"a","values":[[1],2,3]}', content_type=None, discard=False)
@example(body=b'{"id":"a","values":[1,2,3],"x":"\\ud800"}', content_type=None, discard=False)
def test_damaged_bodies_are_refused_or_read_alike_by_all_readers(
    body: bytes, content_type: str | None, discard: bool
) -> None:
    first, *others = outcomes(body, content_type, discard=discard)

    assert others == [first] * len(others)


@given(body=documents | st.binary(), content_type=TYPES, discard=st.booleans())
def test_arbitrary_bytes_are_refused_or_read_alike_by_all_readers(
    body: bytes, content_type: str | None, discard: bool
) -> None:
    first, *others = outcomes(body, content_type, discard=discard)

    assert others == [first] * len(others)


@given(
    body=bodies | damaged(bodies),
    cuts=st.lists(st.integers(0, 300), max_size=4),
    content_type=TYPES,
    discard=st.booleans(),
)
def test_a_body_that_arrives_in_parts_is_read_or_refused_as_a_whole_one(
    body: bytes, cuts: list[int], content_type: str | None, discard: bool
) -> None:
    parts = [body[start:end] for start, end in pairwise([0, *sorted(cuts), len(body)])]

    def in_parts() -> VectorBatch:
        rows = MemoryBatchWriter(DIMENSIONS, 0, LIMITS.batch_vectors_max)
        reader = vectors.BodyReader(content_type, DIMENSIONS, LIMITS, rows, discard=discard)
        for part in parts:
            lent = bytearray(part)
            reader.feed(lent)
            lent[:] = b"\0" * len(lent)  # it is used again
        return reader.finish()

    whole = outcome(body, content_type, READERS[0], compiled=True, discard=discard)
    assert outcome_of(in_parts) == whole


@given(batch=batches, junk=st.lists(st.sampled_from(["x", "{", "[1]", '{"id":1}', "null"])))
def test_discarding_leaves_the_records_that_are_whole(
    batch: list[dict[str, Any]], junk: list[str]
) -> None:
    lines = [json.dumps(record) for record in batch]
    for position, text in enumerate(junk[: 8 - len(lines)]):
        # An array at the start would be the form of the whole body.
        earliest = 1 if text.startswith("[") else 0
        lines.insert(max(earliest, position * 2 % (len(lines) + 1)), text)

    read = vectors.read("\n".join(lines).encode(), None, DIMENSIONS, LIMITS, discard=True)

    assert list(read.ids) == [record["id"] for record in batch]
    assert read.values.tolist() == [record["values"] for record in batch]

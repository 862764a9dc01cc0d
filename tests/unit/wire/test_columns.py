"""A columns body is read as `vectors` reads the same records, however it is cut into parts."""

import json
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from vicinal import errors
from vicinal.limits import Limits
from vicinal.model import VectorBatch
from vicinal.wire import columns, vectors
from vicinal.wire.rows import MemoryBatchWriter

LIMITS = Limits()
VALUES = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
BATCH = VectorBatch(["a", "ü"], VALUES, ["", "n"], [b'{"k":1}', b""])


def body(batch: VectorBatch = BATCH) -> bytes:
    return columns.head(batch) + batch.values.tobytes()


def head(**members: object) -> bytes:
    return json.dumps({"dimensions": 3, "ids": ["a", "b"]} | members).encode() + b"\n"


def in_parts(text: bytes, size: int) -> VectorBatch:
    reader = columns.ColumnsReader(3, LIMITS, MemoryBatchWriter(3, 0, 10))
    for start in range(0, len(text), size):
        reader.feed(bytearray(text[start : start + size]))
        assert reader.kept_bytes <= len(text)
    return reader.finish()


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 11, 12, 13, 40, 1_000])
def test_a_body_is_read_the_same_however_it_is_cut(size: int) -> None:
    read = in_parts(body(), size)

    assert read.ids == BATCH.ids
    assert read.namespaces == BATCH.namespaces
    assert read.metadata == BATCH.metadata
    assert np.array_equal(read.values, VALUES)


def test_what_is_read_is_what_lines_of_the_same_records_give() -> None:
    lines = b"\n".join(
        msgspec.json.encode({"id": id_, "values": row.tolist(), "namespace": namespace})
        for id_, row, namespace in zip(BATCH.ids, VALUES, BATCH.namespaces, strict=True)
    )
    by_lines = vectors.read(lines, None, 3, LIMITS)

    read = columns.batch_of(body(replace(BATCH, metadata=[b"", b""])), 3, LIMITS)

    assert (read.ids, read.namespaces, read.metadata) == (
        by_lines.ids,
        by_lines.namespaces,
        by_lines.metadata,
    )
    assert np.array_equal(read.values, by_lines.values)


def test_no_vectors_are_no_fault() -> None:
    assert len(columns.batch_of(head(ids=[]), 3, LIMITS)) == 0


BAD = [
    (b"", errors.BadRecord, "cut off before its values: it ends in the head"),
    (b"{", errors.BadRecord, "ends in the head"),
    (b"[]\n", errors.BadRecord, "the head cannot be read"),
    (b"\xff\n", errors.BadRecord, "the head cannot be read"),
    (b'{"dimensions":3}\n', errors.BadRecord, "ids"),
    (head(more=1), errors.BadRecord, "more"),
    (head(ids=["a", 1]), errors.BadRecord, "Expected `str`, got `int`"),
    (head(ids=["a", ""]), errors.BadRecord, "id: must not be empty (vectors[1]"),
    (head(ids=["a", "b" * 65]), errors.IdTooLong, "max is 64 bytes, got 65 bytes (vectors[1])"),
    (head(namespaces=["n"]), errors.BadRecord, "expected 2 namespaces, one for every id, got 1"),
    (head(namespaces=["n"] * 3), errors.BadRecord, "more namespaces than 2 ids"),
    (head(namespaces=["", "n" * 65]), errors.NamespaceTooLong, "got 65 bytes (vectors[1])"),
    (head(dimensions=4), errors.WrongDimensions, "expected 3 dimensions, and got 4"),
    (head(dimensions=-1), errors.BadRecord, "the head cannot be read"),
    (head(dimensions=10**30), errors.WrongDimensions, "expected 3 dimensions, and got 1"),
    (head(ids=["a"] * 5_001), errors.TooManyVectors, "max vector count is 5000, got at least 5001"),
    (head(metadata=True) + b"{}\n", errors.BadRecord, "ends in its lines of metadata"),
    (head(metadata=True) + b"{}\n[]\n", errors.BadRecord, "expected an object or null, got an"),
    (head(metadata=True) + b'{"a":1}}\n\n', errors.BadRecord, 'vectors[0], id "a"'),
    (head(metadata=True) + b'{},"b":{}\n\n', errors.BadRecord, "expected one object on its line"),
    (head(metadata=True) + b'\n{"k":1e999}\n', errors.BadRecord, 'vectors[1], id "b"'),
    (head(metadata=True) + b'\n{"$k":1}\n', errors.BadMetadataKey, "must not start with '$'"),
    (
        head(metadata=True) + b'\n{"k":"' + b"x" * 10_240 + b'"}\n',
        errors.MetadataTooLarge,
        "must not exceed 10240 bytes, got 10248 bytes (vectors[1])",
    ),
    (head() + bytes(23), errors.BadRecord, 'expected 12 bytes of values, got 11 (vectors[1]'),
    (head() + bytes(25), errors.BadRecord, "goes on after the values of 2 vectors: 1 bytes"),
    (
        head() + np.array([1, 1, 1, 1, np.nan, 1], "<f4").tobytes(),
        errors.BadRecord,
        'values[1]: nan is no finite float32 (vectors[1], id "b")',
    ),
    (
        head() + np.array([1, 1, np.inf, 1, 1, 1], "<f4").tobytes(),
        errors.BadRecord,
        'values[2]: inf is no finite float32 (vectors[0], id "a")',
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "error", "message"), BAD)
@pytest.mark.parametrize("size", [10, 1_000_000])
def test_a_bad_body_is_refused_with_the_rule_and_the_place(
    text: bytes, error: type[errors.InvalidInput], message: str, size: int
) -> None:
    with pytest.raises(error) as refused:
        in_parts(text, size)

    assert type(refused.value) is error
    assert message in str(refused.value)


def test_a_million_ids_are_refused_without_making_them() -> None:
    text = b'{"dimensions":3,"ids":[' + b",".join([b'"a"'] * 1_000_000) + b"]}\n"

    with pytest.raises(errors.TooManyVectors):
        in_parts(text, len(text))

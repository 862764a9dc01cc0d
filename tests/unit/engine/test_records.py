"""A mutation comes back from its record as it was, byte for byte."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vicinal.engine import records
from vicinal.engine.records import LogRecord
from vicinal.model import (
    CreateMetadataIndex,
    Delete,
    DeleteMetadataIndex,
    IndexType,
    Insert,
    MetadataIndex,
    Mutation,
    Upsert,
    VectorBatch,
)

TEXT = st.text(max_size=8)
INDEXES = st.builds(MetadataIndex, TEXT, st.sampled_from(IndexType))


@st.composite
def batches(draw: st.DrawFn) -> VectorBatch:
    count, dimensions = draw(st.integers(0, 4)), draw(st.integers(1, 3))

    def column(each: st.SearchStrategy[object]) -> list[object]:
        return draw(st.lists(each, min_size=count, max_size=count))

    floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
    values = column(st.lists(floats, min_size=dimensions, max_size=dimensions))
    return VectorBatch(
        ids=column(TEXT),  # type: ignore[arg-type]  # lists of what the strategy draws
        values=np.array(values, np.float32).reshape(count, dimensions),
        namespaces=column(TEXT),  # type: ignore[arg-type]
        metadata=column(st.binary(max_size=8)),  # type: ignore[arg-type]
    )


SMALL = st.one_of(
    st.builds(Delete, st.lists(TEXT)),
    st.builds(CreateMetadataIndex, INDEXES, st.booleans()),
    st.builds(DeleteMetadataIndex, TEXT),
)


@given(SMALL)
def test_a_mutation_comes_back_as_it_was(mutation: Mutation) -> None:
    assert records.decode(records.encode(mutation)) == mutation


@given(batches(), st.sampled_from([Insert, Upsert]))
def test_vectors_come_back_as_they_were(batch: VectorBatch, kind: type[Insert | Upsert]) -> None:
    found = records.decode(records.encode(kind(batch)))

    assert isinstance(found, Insert | Upsert)
    assert type(found) is kind
    assert (found.batch.ids, found.batch.namespaces) == (batch.ids, batch.namespaces)
    assert found.batch.metadata == batch.metadata
    assert found.batch.values.shape == batch.values.shape
    assert found.batch.values.dtype == np.float32
    assert found.batch.values.tobytes() == batch.values.tobytes()


def test_a_record_is_laid_out_as_documented() -> None:
    values = np.array([[1.0, -2.0]], np.float32)
    encoded = records.encode(Upsert(VectorBatch(["a"], values, ["n"], [b'{"k":1}'])))
    record = bytes(encoded)

    assert encoded.size == len(record)
    assert LogRecord.of(record) == encoded
    length = int.from_bytes(record[:4], "little")
    assert record[4 + length :] == values.astype("<f4").tobytes()
    assert (
        record[4 : 4 + length]
        == bytes.fromhex(
            "96"  # six elements
            "a7" + b"vectors".hex() + "c3"  # an upsert
            "02"  # of two dimensions
            "91a161" + "91a16e" + "91c407" + b'{"k":1}'.hex()
        )
    )


@pytest.mark.parametrize(
    ("record", "mutation"),
    [
        ("0b00000092a664656c65746591a161", Delete(["a"])),
        ("1300000094a5696e646578a3612e62a66e756d626572c3", CreateMetadataIndex(
            MetadataIndex("a.b", IndexType.NUMBER), backfill=True)),
        ("1000000092aa64726f702d696e646578a3612e62", DeleteMetadataIndex("a.b")),
    ],
)  # fmt: skip
def test_what_version_1_wrote_is_read(record: str, mutation: Mutation) -> None:
    assert records.decode(LogRecord.of(bytes.fromhex(record))) == mutation
    assert bytes(records.encode(mutation)) == bytes.fromhex(record)

"""Mutations as bytes: the records of the log.

    record  := header length u32 | header | values, or the latter two as arrays (`blob_files`)
    header  := MessagePack array, its first element the kind of mutation
    values  := (n, d) float32, little-endian, row by row; only for vectors

A record is read back by the version that wrote it or a newer one: kinds are only added.
"""

import struct
from dataclasses import dataclass, field
from typing import Self

import msgspec
import numpy as np

from vicinal.errors import Corruption
from vicinal.model import (
    CreateMetadataIndex,
    Delete,
    DeleteMetadataIndex,
    Floats,
    IndexType,
    Insert,
    MetadataIndex,
    Mutation,
    Upsert,
    VectorBatch,
)

VALUES_DTYPE = np.dtype("<f4")

_LENGTH = struct.Struct("<I")
LENGTH_BYTES = _LENGTH.size  # of the header's length, at the beginning of a record
_NO_VALUES = np.empty(0, VALUES_DTYPE)


@dataclass(frozen=True, slots=True, eq=False)
class LogRecord:
    """A mutation as it is stored. `values` are those of all vectors, row by row, ``(n * d,)``."""

    header: bytes
    values: Floats = field(default_factory=lambda: _NO_VALUES)

    @classmethod
    def of(cls, raw: bytes) -> Self:
        """Take apart what `__bytes__` returned; values lie where `raw` does.

        Raises:
            Corruption: it was not returned by that; the message does not say where.
        """
        if len(raw) < _LENGTH.size:
            raise Corruption(f"is of {len(raw)} bytes")
        (length,) = _LENGTH.unpack_from(raw)
        end = _LENGTH.size + length
        if len(raw) < end or (len(raw) - end) % VALUES_DTYPE.itemsize:
            raise Corruption(f"is of {len(raw)} bytes, {end} of which should be its header")
        return cls(raw[_LENGTH.size : end], np.frombuffer(raw, VALUES_DTYPE, offset=end))

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return _LENGTH.size + len(self.header) + self.values.nbytes

    def __bytes__(self) -> bytes:
        return b"".join((_LENGTH.pack(len(self.header)), self.header, self.values.data))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LogRecord) and bytes(self) == bytes(other)

    __hash__ = None  # type: ignore[assignment]  # as for any class with an `__eq__`


class _Vectors(msgspec.Struct, frozen=True, array_like=True, tag="vectors"):
    is_upsert: bool
    dimensions: int
    ids: list[str]
    namespaces: list[str]
    metadata: list[bytes]


class _Delete(msgspec.Struct, frozen=True, array_like=True, tag="delete"):
    ids: list[str]


class _CreateMetadataIndex(msgspec.Struct, frozen=True, array_like=True, tag="index"):
    property_name: str
    index_type: IndexType
    backfill: bool


class _CreateTextIndex(msgspec.Struct, frozen=True, array_like=True, tag="text-index"):
    property_name: str
    language: str | None
    backfill: bool


class _DeleteMetadataIndex(msgspec.Struct, frozen=True, array_like=True, tag="drop-index"):
    property_name: str


_Header = _Vectors | _Delete | _CreateMetadataIndex | _CreateTextIndex | _DeleteMetadataIndex
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[_Header] = msgspec.msgpack.Decoder(_Header)


def header_bytes(raw: bytes | bytearray) -> int:
    """Return the length of a record's header, which the record's first bytes say."""
    length: int = _LENGTH.unpack_from(raw)[0]
    return length


def encode(mutation: Mutation) -> LogRecord:
    """Return the record of a mutation; values of vectors are not copied."""
    values = _NO_VALUES
    header: _Header
    match mutation:
        case Insert(batch) | Upsert(batch):
            values = np.ascontiguousarray(batch.values, VALUES_DTYPE).reshape(-1)
            header = _Vectors(
                is_upsert=isinstance(mutation, Upsert),
                dimensions=batch.values.shape[1],
                ids=list(batch.ids),
                namespaces=list(batch.namespaces),
                metadata=list(batch.metadata),
            )
        case Delete(ids):
            header = _Delete(list(ids))
        case CreateMetadataIndex(index, backfill) if index.index_type is IndexType.TEXT:
            header = _CreateTextIndex(index.property_name, index.language, backfill)
        case CreateMetadataIndex(index, backfill):
            header = _CreateMetadataIndex(index.property_name, index.index_type, backfill)
        case DeleteMetadataIndex(property_name):
            header = _DeleteMetadataIndex(property_name)
    return LogRecord(_encoder.encode(header), values)


def decode(record: LogRecord) -> Mutation:
    """Return the mutation of a record whose checksum has been verified; values are not copied.

    Raises:
        Corruption: the record is of no mutation; the message does not name the file.
    """
    try:
        header = _decoder.decode(record.header)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Corruption(f"is no mutation: {error}") from error
    match header:
        case _Vectors():
            count, dimensions = len(header.ids), header.dimensions
            lengths = {count, len(header.namespaces), len(header.metadata)}
            if dimensions < 1 or len(lengths) > 1 or record.values.size != count * dimensions:
                raise Corruption(
                    f"has {count} vectors of {dimensions} dimensions "
                    f"and {record.values.size} values for them"
                )
            values = record.values.reshape(count, dimensions)
            batch = VectorBatch(header.ids, values, header.namespaces, header.metadata)
            return Upsert(batch) if header.is_upsert else Insert(batch)
        case _Delete(ids):
            return Delete(ids)
        case _CreateMetadataIndex(property_name, index_type, backfill):
            return CreateMetadataIndex(MetadataIndex(property_name, index_type), backfill)
        case _CreateTextIndex(property_name, language, backfill):
            index = MetadataIndex(property_name, IndexType.TEXT, language)
            return CreateMetadataIndex(index, backfill)
        case _DeleteMetadataIndex(property_name):
            return DeleteMetadataIndex(property_name)

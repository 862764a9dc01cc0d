"""Mutations as bytes: the payload of a row in the log.

    payload := header length u32 | header | values
    header  := MessagePack array, its first element the kind of mutation
    values  := (n, d) float32, little-endian, row by row; only for vectors

A payload is read back by the version that wrote it or a newer one: kinds are only added.
"""

import struct
from dataclasses import dataclass

import msgspec
import numpy as np

from vicinal.model import (
    CreateMetadataIndex,
    Delete,
    DropMetadataIndex,
    IndexType,
    Insert,
    MetadataIndex,
    Mutation,
    Upsert,
    VectorBatch,
)

_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Payload:
    """The bytes of a mutation, in parts that follow one another."""

    parts: tuple[bytes | memoryview, ...]

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return sum(len(each) for each in self.parts)

    def __bytes__(self) -> bytes:
        return b"".join(self.parts)


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


class _DropMetadataIndex(msgspec.Struct, frozen=True, array_like=True, tag="drop-index"):
    property_name: str


_Header = _Vectors | _Delete | _CreateMetadataIndex | _DropMetadataIndex
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[_Header] = msgspec.msgpack.Decoder(_Header)


def encode(mutation: Mutation) -> Payload:
    """Return the payload of a mutation; values of vectors are not copied."""
    values: tuple[memoryview, ...] = ()
    header: _Header
    match mutation:
        case Insert(batch) | Upsert(batch):
            flat = np.ascontiguousarray(batch.values, "<f4").reshape(-1)
            values = (flat.view(np.uint8).data,)
            header = _Vectors(
                is_upsert=isinstance(mutation, Upsert),
                dimensions=batch.values.shape[1],
                ids=list(batch.ids),
                namespaces=list(batch.namespaces),
                metadata=list(batch.metadata),
            )
        case Delete(ids):
            header = _Delete(list(ids))
        case CreateMetadataIndex(index, backfill):
            header = _CreateMetadataIndex(index.property_name, index.index_type, backfill)
        case DropMetadataIndex(property_name):
            header = _DropMetadataIndex(property_name)
    encoded = _encoder.encode(header)
    return Payload((_LENGTH.pack(len(encoded)) + encoded, *values))


def decode(payload: Payload) -> Mutation:
    """Return the mutation of a payload whose checksum has been verified.

    Values of vectors lie where the payload does, if it is in one part.
    """
    raw = payload.parts[0] if len(payload.parts) == 1 else bytes(payload)
    (length,) = _LENGTH.unpack_from(raw)
    start = _LENGTH.size + length
    match _decoder.decode(raw[_LENGTH.size : start]):
        case _Vectors() as header:
            values = np.frombuffer(raw, "<f4", offset=start).reshape(-1, header.dimensions)
            batch = VectorBatch(header.ids, values, header.namespaces, header.metadata)
            return Upsert(batch) if header.is_upsert else Insert(batch)
        case _Delete(ids):
            return Delete(ids)
        case _CreateMetadataIndex(property_name, index_type, backfill):
            return CreateMetadataIndex(MetadataIndex(property_name, index_type), backfill)
        case _DropMetadataIndex(property_name):
            return DropMetadataIndex(property_name)

"""JSON bodies and URL parameters of requests, read into the model."""

from dataclasses import dataclass
from typing import Literal

from vicinal.limits import Limits
from vicinal.model import CreateMetadataIndex, DropMetadataIndex, IndexConfig, Query


@dataclass(frozen=True, slots=True)
class CreateIndex:
    """What an index is to be created with."""

    name: str
    description: str | None
    config: IndexConfig


@dataclass(frozen=True, slots=True)
class ListParameters:
    """Which page of ids is asked for."""

    count: int
    cursor: str | None


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """Texts to embed. `pooling` is None when the model's own is to be used."""

    texts: tuple[str, ...]
    pooling: Literal["mean", "cls"] | None = None


@dataclass(frozen=True, slots=True)
class OpenAIEmbeddingRequest:
    """Texts to embed, asked for in OpenAI's form.

    `dimensions` is what the caller expects, None when it does not say.
    """

    model: str
    texts: tuple[str, ...]
    encoding: Literal["float", "base64"] = "float"
    dimensions: int | None = None


def create_index(body: bytes | bytearray, limits: Limits) -> CreateIndex:
    """Read the body of an index creation.

    Raises:
        BadBody: the body is not JSON of this shape.
        BadIndexConfig: name, dimensions, metric or preset that cannot be.
    """
    raise NotImplementedError


def query(body: bytes | bytearray, dimensions: int, limits: Limits) -> Query:
    """Read the body of a query against an index of these dimensions.

    Raises:
        BadBody: the body is not JSON of this shape, or does not say what to search for.
        BadQueryVector: the vector is not a flat array of `dimensions` numbers.
        BadTopK: topK is over what the options allow.
        BadFilter: the filter is outside the grammar.
    """
    raise NotImplementedError


def ids(body: bytes | bytearray, ids_max: int) -> list[str]:
    """Read the body of a get or delete by ids; `ids_max` is inclusive.

    Raises:
        BadBody: the body is not ``{"ids": [strings]}``.
        TooManyIds: there are more than `ids_max`.
    """
    raise NotImplementedError


def create_metadata_index(body: bytes | bytearray, limits: Limits) -> CreateMetadataIndex:
    """Read the body of a metadata index creation; our member ``backfill`` may be true.

    Raises:
        BadBody: the body is not JSON of this shape, or the property cannot be indexed.
    """
    raise NotImplementedError


def drop_metadata_index(body: bytes | bytearray) -> DropMetadataIndex:
    """Read the body of a metadata index deletion; ``property`` may stand for ``propertyName``.

    Raises:
        BadBody: the body is not JSON of this shape.
    """
    raise NotImplementedError


def list_parameters(count: str | None, cursor: str | None, limits: Limits) -> ListParameters:
    """Read the URL parameters of a listing; None and ``""`` stand for absent ones.

    Raises:
        BadParameter: count is not an integer in its range.
    """
    raise NotImplementedError


def discards_unparsable(value: str | None) -> bool:
    """Read the URL parameter ``unparsable-behavior``; an absent one means ``error``.

    Raises:
        BadParameter: it is neither ``error`` nor ``discard``.
    """
    raise NotImplementedError


def embedding(body: bytes | bytearray, limits: Limits) -> EmbeddingRequest:
    """Read the body of an embedding run: ``{"text": string or strings, "pooling"?}``.

    Raises:
        BadEmbeddingBody: the body is not JSON.
        BadEmbeddingInput: it is not of this shape, or holds too many texts.
    """
    raise NotImplementedError


def binding_embedding(body: bytes | bytearray, limits: Limits) -> EmbeddingRequest:
    """Read an embedding run of the AI binding: ``{"inputs": as `embedding`, "options"?}``.

    Raises:
        BadEmbeddingBody: the body is not JSON.
        BadEmbeddingInput: it is not of this shape, or holds too many texts.
    """
    raise NotImplementedError


def openai_embedding(body: bytes | bytearray, limits: Limits) -> OpenAIEmbeddingRequest:
    """Read the body of OpenAI's embeddings operation.

    Raises:
        BadEmbeddingBody: the body is not JSON.
        BadEmbeddingInput: it is not of this shape, or holds too many texts.
    """
    raise NotImplementedError

"""Results as JSON: the model written as the wire spells it.

Members that have no value are left out rather than written as null, except where clients
need them to be there.
"""

from collections.abc import Sequence
from typing import Literal

from vicinal.model import Accepted, Floats, Index, MetadataIndex, Page, QueryResult, Status, Vector


def index(index: Index) -> bytes:
    """Write one index."""
    raise NotImplementedError


def indexes(indexes: Sequence[Index]) -> bytes:
    """Write a list of indexes."""
    raise NotImplementedError


def mutation(accepted: Accepted) -> bytes:
    """Write the proof of a write."""
    raise NotImplementedError


def query_result(result: QueryResult) -> bytes:
    """Write matches, in the order given."""
    raise NotImplementedError


def vectors(vectors: Sequence[Vector]) -> bytes:
    """Write whole vectors, in the order given."""
    raise NotImplementedError


def status(status: Status) -> bytes:
    """Write what an index contains."""
    raise NotImplementedError


def page(page: Page) -> bytes:
    """Write one page of ids."""
    raise NotImplementedError


def metadata_indexes(metadata_indexes: Sequence[MetadataIndex]) -> bytes:
    """Write the metadata indexes of an index."""
    raise NotImplementedError


def embedding(vectors: Floats, pooling: str | None) -> bytes:
    """Write embeddings as Workers AI does; `vectors` is ``(n, dimensions)`` float32."""
    raise NotImplementedError


def openai_embedding(
    vectors: Floats, *, model: str, encoding: Literal["float", "base64"], token_count: int
) -> bytes:
    """Write embeddings as OpenAI does; `vectors` is ``(n, dimensions)`` float32.

    With base64 each is its little-endian float32 bytes.
    """
    raise NotImplementedError

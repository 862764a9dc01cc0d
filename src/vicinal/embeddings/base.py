"""The interface of embedding backends, as the server uses it.

A backend turns texts into vectors with a model named as on the wire
(``@cf/baai/bge-base-en-v1.5``). It is synchronous and thread-safe; callers keep it off
the event loop. The callers do not know whether a model runs here or elsewhere.

Every vector has length 1. That is how the publishers of all four models end their
pipelines, and what the platform's printed samples agree with: the 13 numbers that its
pages show for ``bge-base`` have a root mean square of 0.037, a unit vector of 768
dimensions has 0.036, and a state that is not normalised several times as much.
So cosine and dot-product indexes rank
alike, whichever backend made the vectors.

A text's vector is the same in every call but for float32 rounding, less than 2e-6 a number: a
backend may add up in another order where other texts are in the batch, or on another processor.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np

from vicinal.errors import BadEmbeddingInput
from vicinal.model import Floats


class Pooling(StrEnum):
    """Ways to make one vector of the states of a text's tokens; the two do not mix in an index."""

    MEAN = "mean"
    CLS = "cls"


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Properties of a model that are known before its first use.

    Attributes:
        name: As on the wire.
        dimensions: Length of its vectors; None if only its first answer will tell.
        max_tokens: Longer texts are cut to this, special tokens included; None if the
            backend does not say.
        default_pooling: Used if a request names none; None if the backend does not say.
        is_available: Whether `Embedder.embed` can answer now, without fetching files.
    """

    name: str
    dimensions: int | None
    max_tokens: int | None
    default_pooling: Pooling | None
    is_available: bool


@dataclass(frozen=True, slots=True)
class Embedding:
    """The vectors of one call.

    Attributes:
        values: ``(n, dimensions)`` float32, rows of length 1 in the order of the texts.
        pooling: The pooling that was used; None if a remote backend does not say.
        token_count: Tokens read, special ones included and padding not; 0 if a remote backend
            does not say.
    """

    values: Floats
    pooling: Pooling | None
    token_count: int


class Embedder(Protocol):
    """Turns texts into vectors."""

    def models(self) -> Sequence[ModelInfo]:
        """Return the models that can be asked for, each name once."""
        ...

    def names(self) -> Sequence[str]:
        """Return the names of `models`, without looking at any file."""
        ...

    def embed(self, model: str, texts: Sequence[str], pooling: Pooling | None = None) -> Embedding:
        """Return one vector a text. Blocks for as long as the computation takes.

        Args:
            model: A name out of `models`.
            texts: At least one. Empty texts are allowed, long ones are cut.
            pooling: None for the model's default.

        Raises:
            ModelNotFound: the model is unknown, or its files are not here.
            BadEmbeddingInput: no texts, or one that is not valid Unicode; or a pooling
                that the backend cannot do.
            Overloaded: too many texts wait already; nothing was computed.
            Unavailable: the model cannot be had at the moment.
            Corruption: the model's files are damaged.
        """
        ...

    def preload(self, model: str) -> None:
        """Load the model now instead of in the first `embed`. Raises the same errors."""
        ...

    def close(self) -> None:
        """Close threads and connections, after calls that are under way."""
        ...


def check_texts(texts: Sequence[str]) -> None:
    """Refuse texts that no model can read.

    Raises:
        BadEmbeddingInput: there are no texts, or one holds half of a surrogate pair, which
            has no UTF-8 form. The message has the number of the text, counted from 0.
    """
    if not texts:
        raise BadEmbeddingInput("there are 0 texts to embed, at least 1 is needed")
    for number, text in enumerate(texts):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise BadEmbeddingInput(
                f"text {number} is not valid Unicode: character {error.start} is the lone "
                f"surrogate U+{ord(text[error.start]):04X}"
            ) from None


def unit_rows(values: Floats) -> Floats:
    """Return `values` with each row scaled to length 1; a row of zeros stays as it is."""
    norms = np.linalg.norm(values.astype(np.float64), axis=1, keepdims=True)
    return np.divide(values, np.where(norms > 0.0, norms, 1.0)).astype(np.float32)

"""Runs of models that rank texts, in the platform's form.

    {"query": text, "contexts": [{"text": text}], "top_k": number} → {"response": [{"id", "score"}]}

``id`` is the number of a context in the request. Answers are sorted, the best first.
"""

from dataclasses import dataclass

import msgspec
import numpy as np

from vicinal import errors
from vicinal.limits import Limits
from vicinal.model import Floats
from vicinal.wire import requests

Body = bytes | bytearray


class ContextRequest(msgspec.Struct):
    """A text to score."""

    text: str


class RerankingRequest(msgspec.Struct):
    """Texts to score against a query."""

    query: str
    contexts: list[ContextRequest]
    top_k: int | None = None


class BindingRerankingRequest(msgspec.Struct):
    """Texts to score, as the Workers binding sends them."""

    inputs: RerankingRequest


class RankedContextSchema(msgspec.Struct):
    """The score of a text, and its number in the request."""

    id: int
    score: float


class RerankingSchema(msgspec.Struct):
    """Texts by their scores, the best first."""

    response: list[RankedContextSchema]


@dataclass(frozen=True, slots=True)
class RerankingParameters:
    """Texts to score; `top_k` is the number of answers, None for all."""

    query: str
    texts: tuple[str, ...]
    top_k: int | None


def request(body: Body, limits: Limits) -> RerankingParameters:
    """Read the body of a run.

    Raises:
        BadEmbeddingBody: the body is not JSON.
        BadEmbeddingInput: the body is not of this shape, or has too many texts.
    """
    return _checked(requests.decode(body, RerankingRequest, is_embedding=True), limits)


def binding_request(body: Body, limits: Limits) -> RerankingParameters:
    """Read a run of the AI binding: ``{"inputs": as `request`}``.

    Raises:
        BadEmbeddingBody, BadEmbeddingInput: as `request`.
    """
    wrapped = requests.decode(body, BindingRerankingRequest, is_embedding=True)
    return _checked(wrapped.inputs, limits)


def ranked(scores: Floats, top_k: int | None) -> bytes:
    """Write scores ``(n,)``, the best first, those of equal texts in their order."""
    order = np.argsort(-scores, kind="stable")[:top_k].tolist()
    contexts = [RankedContextSchema(number, float(str(scores[number]))) for number in order]
    return msgspec.json.encode(RerankingSchema(contexts))


def _checked(request: RerankingRequest, limits: Limits) -> RerankingParameters:
    count, most = len(request.contexts), limits.texts_per_embedding_max
    if not request.query:
        raise errors.BadEmbeddingInput("Error: query: must not be empty")
    if not 1 <= count <= most:
        raise errors.BadEmbeddingInput(f"Error: contexts: expected 1 to {most} texts, got {count}")
    if request.top_k is not None and request.top_k < 1:
        raise errors.BadEmbeddingInput(f"Error: top_k: must be at least 1, got {request.top_k}")
    texts = tuple(context.text for context in request.contexts)
    return RerankingParameters(request.query, texts, request.top_k)

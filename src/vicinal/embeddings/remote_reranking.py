"""Reranking by a service.

    POST <url>/rerank  {"model": name there, "query": text, "documents": [texts], "texts": [texts]}
    → {"results": [{"index": 0, "relevance_score": number}]} or [{"index": 0, "score": number}]

Services of both families are understood: those that call the texts documents (Cohere's form, as
vLLM and llama.cpp have it) and text-embeddings-inference. Scores are the service's own. `service`
has the bounds on time, length and depth, and says what is repeated.
"""

import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus

import msgspec
import numpy as np

from vicinal.embeddings import models
from vicinal.embeddings.base import check_texts
from vicinal.embeddings.cutting import SQUEEZED_CHARS_PER_TOKEN
from vicinal.embeddings.service import BlockingService, ServiceConfig, ServiceRequest
from vicinal.errors import ModelNotFound, Unavailable
from vicinal.model import Floats

BATCH_TEXTS_MAX = 32  # source: the default bound of text-embeddings-inference, the lowest we know

_ENVELOPE_BYTES_MAX = 64 * 1024  # ours: what an answer has beside texts, and an error
_ESCAPED_MAX = 6  # bytes of one byte of text in JSON

CHARS_MAX = 512 * SQUEEZED_CHARS_PER_TOKEN
"""Ours, of a text that is sent on: more than rerankers of 512 tokens read."""


class _Ranked(msgspec.Struct):
    index: int
    score: float | None = None
    relevance_score: float | None = None


class _Results(msgspec.Struct):
    results: list[_Ranked]


def answer_bytes_max(texts: Sequence[str]) -> int:
    """Return the number of bytes that an answer about these texts may have: some repeat them."""
    return _ENVELOPE_BYTES_MAX + sum(1_024 + len(text.encode()) * _ESCAPED_MAX for text in texts)


class RemoteReranker:
    """Asks the service at `url`.

    Args:
        url: Base URL such as ``http://127.0.0.1:8080``, with or without ``/rerank``.
        key: Sent as a bearer token; None sends none.
        models: Name on our wire → name at the service. Empty: the known ones under the names of
            their repositories.
        timeout_s: Seconds of one call, with all its requests.
        pause_s: Seconds before the first repetition; doubled for the second.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        models_there: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
        pause_s: float = 0.25,
    ) -> None:
        self._url = f"{url.rstrip('/').removesuffix('/rerank')}/rerank"
        known = {model.name: model.repository for model in models.RERANKERS}
        self._names = dict(models_there or known)
        self._pause_s, self._timeout_s = pause_s, timeout_s
        config = ServiceConfig(self._url, key=key, whole_s=timeout_s, retry_after=1.0)
        self._asked = BlockingService(config, "reranking-service")
        self._service = self._asked.service

    def names(self) -> Sequence[str]:
        """See `Reranker`."""
        return list(self._names)

    def rerank(self, model: str, query: str, texts: Sequence[str]) -> Floats:
        """See `Reranker`."""
        if model not in self._names:
            raise ModelNotFound(
                f"no model that ranks is named {model[:100]!r}; known are {', '.join(self._names)}"
            )
        check_texts([query, *texts])
        end = time.monotonic() + self._timeout_s
        parts = [
            self._ask(model, query[:CHARS_MAX], texts[start : start + BATCH_TEXTS_MAX], end)
            for start in range(0, len(texts), BATCH_TEXTS_MAX)
        ]
        return np.concatenate(parts)

    def close(self) -> None:
        """See `Reranker`. Ends calls that are under way."""
        self._asked.close()

    def _ask(self, model: str, query: str, texts: Sequence[str], end: float) -> Floats:
        sent = [text[:CHARS_MAX] for text in texts]
        name = self._names[model]
        body = msgspec.json.encode(
            {"model": name, "query": query, "documents": sent, "texts": sent}
        )
        left_s = end - time.monotonic()
        answer = self._asked.post(
            ServiceRequest(self._url, body, answer_bytes_max(sent), self._pause_s, left_s)
        )
        if answer.status != HTTPStatus.OK:
            self._service.refuse(answer, name)
        if answer.content.lstrip().startswith(b"["):
            ranked = self._service.decoded(answer.content, list[_Ranked])
        else:
            ranked = self._service.decoded(answer.content, _Results).results
        return self._scores(ranked, len(texts))

    def _scores(self, ranked: Sequence[_Ranked], count: int) -> Floats:
        scores = np.full(count, np.nan, dtype=np.float32)
        for item in ranked:
            number = item.relevance_score if item.score is None else item.score
            if 0 <= item.index < count and number is not None:
                with np.errstate(over="ignore"):  # overflow is refused as not finite
                    scores[item.index] = number
        if len(ranked) != count or not np.isfinite(scores).all():
            raise Unavailable(
                f"{self._service.shown} answers with {len(ranked)} scores for {count} texts, "
                "numbers them wrongly, or has scores beyond float32"
            )
        return scores

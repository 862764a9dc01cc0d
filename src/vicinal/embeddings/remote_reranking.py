"""Reranking by a service.

    POST <url>/rerank  {"model": name there, "query": text, "documents": [texts], "texts": [texts]}
    → {"results": [{"index": 0, "relevance_score": number}]} or [{"index": 0, "score": number}]

Services of both families are understood: those that call the texts documents (Cohere's form, as
vLLM and llama.cpp have it) and text-embeddings-inference. Scores are the service's own.
"""

from collections.abc import Mapping, Sequence

import httpx
import msgspec
import numpy as np

from vicinal import trust
from vicinal.embeddings import models
from vicinal.embeddings.base import check_texts
from vicinal.embeddings.cutting import SQUEEZED_CHARS_PER_TOKEN
from vicinal.errors import ModelNotFound, Overloaded, Unavailable
from vicinal.model import Floats

ANSWER_BYTES_MAX = 4 * 1024 * 1024
"""Ours: ten thousand scores in a service's answer, with the texts left out."""

CHARS_MAX = 512 * SQUEEZED_CHARS_PER_TOKEN
"""Ours, of a text that is sent on: more than rerankers of 512 tokens read."""


class _Ranked(msgspec.Struct):
    index: int
    score: float | None = None
    relevance_score: float | None = None


class _Results(msgspec.Struct):
    results: list[_Ranked]


class RemoteReranker:
    """Asks the service at `url`.

    Args:
        url: Base URL such as ``http://127.0.0.1:8080``, with or without ``/rerank``.
        key: Sent as a bearer token; None sends none.
        models: Name on our wire → name at the service. Empty: the known ones under the names of
            their repositories.
        timeout_s: Seconds of one request.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        models_there: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
    ) -> None:
        self._url = f"{url.rstrip('/').removesuffix('/rerank')}/rerank"
        known = {model.name: model.repository for model in models.RERANKERS}
        self._names = dict(models_there or known)
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        self._client = httpx.Client(
            headers=headers, timeout=timeout_s, verify=trust.verification(None)
        )

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
        sent = [text[:CHARS_MAX] for text in texts]
        body = {"model": self._names[model], "query": query, "documents": sent, "texts": sent}
        content = self._post(msgspec.json.encode(body))
        try:
            if content.lstrip().startswith(b"["):
                ranked = msgspec.json.decode(content, type=list[_Ranked])
            else:
                ranked = msgspec.json.decode(content, type=_Results).results
        except msgspec.MsgspecError as error:
            raise Unavailable(f"{self._url} answers with something else: {error}") from error
        return self._scores(ranked, len(texts))

    def close(self) -> None:
        """See `Reranker`."""
        self._client.close()

    def _scores(self, ranked: Sequence[_Ranked], count: int) -> Floats:
        scores = np.full(count, np.nan)
        for item in ranked:
            number = item.relevance_score if item.score is None else item.score
            if 0 <= item.index < count and number is not None:
                scores[item.index] = number
        if len(ranked) != count or not np.isfinite(scores).all():
            raise Unavailable(
                f"{self._url} answers with {len(ranked)} scores for {count} texts, or numbers them "
                "wrongly"
            )
        return scores.astype(np.float32)

    def _post(self, body: bytes) -> bytes:
        content = bytearray()
        try:
            with self._client.stream("POST", self._url, content=body) as response:
                for part in response.iter_raw():
                    content += part
                    if len(content) > ANSWER_BYTES_MAX:
                        raise Unavailable(
                            f"{self._url} answers with more than {ANSWER_BYTES_MAX} bytes"
                        )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unavailable(
                f"{self._url} cannot be asked: {error or type(error).__name__}", retry_after=1.0
            ) from error
        if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
            raise Overloaded(f"{self._url} answers 429", retry_after=1.0)
        if response.status_code != httpx.codes.OK:
            raise Unavailable(f"{self._url} answers {response.status_code}")
        return bytes(content)

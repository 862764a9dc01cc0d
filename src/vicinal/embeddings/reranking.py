"""Reranking: texts scored against a query, by a cross-encoder of this machine or by a service.

    POST <url>/rerank  {"model": name there, "query": text, "documents": [texts], "texts": [texts]}
    → {"results": [{"index": 0, "relevance_score": number}]} or [{"index": 0, "score": number}]

Services of both families are understood: those that call the texts documents (Cohere's form, as
vLLM and llama.cpp have it) and text-embeddings-inference. Scores are the service's own.
"""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import httpx
import msgspec
import numpy as np

from vicinal import trust
from vicinal.budget import Budget
from vicinal.embeddings import cross_encoder, models
from vicinal.embeddings.base import check_texts
from vicinal.embeddings.cross_encoder import CrossEncoder
from vicinal.embeddings.cutting import SQUEEZED_CHARS_PER_TOKEN
from vicinal.errors import ModelNotFound, Overloaded, Unavailable
from vicinal.model import Floats

ANSWER_BYTES_MAX = 4 * 1024 * 1024
"""Ours: ten thousand scores in a service's answer, with the texts left out."""

CHARS_MAX = 512 * SQUEEZED_CHARS_PER_TOKEN
"""Ours, of a text that is sent on: more than rerankers of 512 tokens read."""


class Reranker(Protocol):
    """Scores texts against a query. Thread-safe."""

    def names(self) -> Sequence[str]:
        """Return the names of the models that can be asked now, the one to take first."""
        ...

    def rerank(self, model: str, query: str, texts: Sequence[str]) -> Floats:
        """Return the score of each text, ``(n,)``, the best the greatest. Blocks while computing.

        Raises:
            ModelNotFound: the model is unknown, or its files are not here.
            BadEmbeddingInput: a text is not valid Unicode, or there is none.
            Overloaded: too many texts wait already; nothing was computed.
            Unavailable: the model cannot be had at the moment.
            Corruption: the model's files are damaged.
        """
        ...

    def close(self) -> None:
        """Close connections."""
        ...


class LocalReranker:
    """Runs the known cross-encoders whose folders are found.

    Args:
        search_paths: Folders that are searched for models.
        threads: Number of threads that compute, at least 1.
        queue_max: Number of texts that wait or run; more are refused, but a call on an empty
            queue is always taken.
    """

    def __init__(self, search_paths: models.SearchPaths, *, threads: int, queue_max: int) -> None:
        self._search_paths = search_paths
        self._threads = threads
        self._texts = Budget(queue_max)
        self._lock = threading.Lock()
        self._loaded: dict[str, CrossEncoder] = {}

    def names(self) -> Sequence[str]:
        """See `Reranker`."""
        return [model.name for model in models.RERANKERS if self._folder(model) is not None]

    def rerank(self, model: str, query: str, texts: Sequence[str]) -> Floats:
        """See `Reranker`."""
        check_texts([query, *texts])
        if not self._texts.acquire(len(texts)):
            raise Overloaded(
                f"{self._texts.used} texts wait to be ranked and {len(texts)} more would be over "
                f"the bound of {self._texts.bound}",
                retry_after=1.0,
            )
        try:
            with self._lock:  # one call computes at a time, with all threads
                return self._model(model).scores(query, texts)
        finally:
            self._texts.release(len(texts))

    def close(self) -> None:
        """See `Reranker`."""

    def _model(self, name: str) -> CrossEncoder:
        if name not in self._loaded:
            known = next((model for model in models.RERANKERS if model.name == name), None)
            folder = None if known is None else self._folder(known)
            if known is None or folder is None:
                raise ModelNotFound(
                    f"no model that ranks is named {name[:100]!r}, or its files are not on this "
                    "machine; name their folder with the setting model_folders"
                )
            self._loaded[name] = cross_encoder.load(
                folder, max_tokens=known.max_tokens, threads=self._threads
            )
        return self._loaded[name]

    def _folder(self, model: models.KnownModel) -> Path | None:
        if model.name in self._search_paths.folders:
            return self._search_paths.folders[model.name]
        located = models.located(model, self._search_paths)
        return None if located is None else located.folder


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

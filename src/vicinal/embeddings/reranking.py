"""Reranking: texts scored against a query, by a cross-encoder of this machine; by a service, in
`remote_reranking`.
"""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from vicinal.budget import Budget
from vicinal.embeddings import cross_encoder, models
from vicinal.embeddings.base import check_texts
from vicinal.embeddings.cross_encoder import CrossEncoder
from vicinal.errors import ModelNotFound, Overloaded
from vicinal.model import Floats


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

"""Embedding on this machine: finds, loads and runs models, one batch at a time.

Texts are split into tokens in the caller's thread. Batches then go through one queue to one
thread, in order of arrival: a call has at most one batch in the queue, so calls take turns, and a
short query waits for one batch of a long import, not for all of it. A batch is computed with
`threads` threads.

A model is loaded when it is first needed and stays. If loading fails, the next call tries again:
the files may be there by then.
"""

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vicinal.budget import Budget
from vicinal.embeddings import encoder, models, pull
from vicinal.embeddings.base import Embedding, ModelInfo, Pooling, check_texts
from vicinal.embeddings.encoder import Encoder
from vicinal.errors import Corruption, ModelNotFound, Overloaded, Unavailable
from vicinal.model import Floats

DEFAULT_POOLING = Pooling.MEAN  # source: the platform's model pages, for all bge models

Fetch = Callable[[models.KnownModel], Path]
"""Fetches a model to this machine and returns its folder."""


@dataclass(slots=True)
class _ModelSlot:
    lock: threading.Lock = field(default_factory=threading.Lock)
    encoder: Encoder | None = None


class LocalEmbedder:
    """Runs the models whose folders are found in `search_paths`.

    Args:
        search_paths: Folders that are searched for models.
        threads: Number of threads that compute; 0 for one per core of this process.
        queue_max: Number of texts that wait or run; more are refused, but a call on an empty
            queue is always taken.
        fetch: Called for a known model that is not here; None refuses it instead.
    """

    def __init__(
        self, search_paths: models.SearchPaths, *, threads: int, queue_max: int, fetch: Fetch | None
    ) -> None:
        self._search_paths = search_paths
        self._threads = threads or cores()
        self._fetch = fetch
        self._texts = Budget(queue_max)  # that wait or run
        self._seconds_per_text = 0.01  # a moving average; set in the one thread that encodes
        self._runner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embed")
        self._slots = {name: _ModelSlot() for name in (*models.BY_NAME, *search_paths.folders)}

    def models(self) -> Sequence[ModelInfo]:
        """Return the known models and those the user names folders for."""
        return [self._info(name) for name in self._slots]

    def names(self) -> Sequence[str]:
        """See `base.Embedder.names`."""
        return tuple(self._slots)

    def embed(self, model: str, texts: Sequence[str], pooling: Pooling | None = None) -> Embedding:
        """See `base.Embedder.embed`."""
        slot = self._slot(model)
        check_texts(texts)
        if not self._texts.acquire(len(texts)):
            raise self._overloaded(len(texts))
        try:
            loaded = self._encoder(model, slot)
            tokens = loaded.tokenize(texts)
            values = np.empty((len(texts), loaded.dimensions), dtype=np.float32)
            used = pooling or DEFAULT_POOLING
            for batch in loaded.batches(tokens):
                values[batch] = self._encode(loaded, [tokens[number] for number in batch], used)
        finally:
            self._texts.release(len(texts))
        return Embedding(values, used, sum(map(len, tokens)))

    def preload(self, model: str) -> None:
        """Find, fetch if allowed, and load the model."""
        self._encoder(model, self._slot(model))

    def close(self) -> None:
        """Finish the batches that are queued; later calls raise `Unavailable`."""
        self._runner.shutdown()

    def _info(self, name: str) -> ModelInfo:
        try:
            located = models.locate(name, self._search_paths)
            shape = self._shape(name, located.folder) if located else None
        except (ModelNotFound, Corruption):  # `embed` tells the reason
            shape = None
        known = models.BY_NAME.get(name)
        published = (known.dimensions, known.max_tokens) if known else (None, None)
        dimensions, max_tokens = shape or published
        return ModelInfo(name, dimensions, max_tokens, DEFAULT_POOLING, is_available=bool(shape))

    def _slot(self, model: str) -> _ModelSlot:
        if model not in self._slots:
            raise ModelNotFound(f"no model is named {model!r}; known are {', '.join(self._slots)}")
        return self._slots[model]

    def _encoder(self, model: str, slot: _ModelSlot) -> Encoder:
        with slot.lock:
            if slot.encoder is None:
                folder = self._folder(model)
                pull.check_receipt(folder)
                _, max_tokens = self._shape(model, folder)
                slot.encoder = encoder.load(folder, max_tokens=max_tokens, threads=self._threads)
            return slot.encoder

    def _folder(self, model: str) -> Path:
        located = models.locate(model, self._search_paths)
        if located:
            return located.folder
        if self._fetch is None:
            raise ModelNotFound(
                f"the files of {model} are not on this machine; `vicinal model pull {model}` "
                "brings them"
            )
        return self._fetch(models.known(model))

    def _shape(self, name: str, folder: Path) -> tuple[int, int]:
        """Return ``(dimensions, max_tokens)`` by the folder; a known bound still holds."""
        dimensions, max_tokens = encoder.read_shape(folder)
        known = models.BY_NAME.get(name)
        return dimensions, min(max_tokens, known.max_tokens) if known else max_tokens

    def _encode(self, loaded: Encoder, batch: Sequence[encoder.Tokens], pooling: Pooling) -> Floats:
        """Run one batch when its turn comes."""

        def encode() -> Floats:
            started = time.perf_counter()
            vectors = loaded.encode(batch, pooling)
            seconds = (time.perf_counter() - started) / len(batch)
            self._seconds_per_text += 0.2 * (seconds - self._seconds_per_text)
            return vectors

        try:
            turn = self._runner.submit(encode)
        except RuntimeError as error:  # the executor's word for "is shut down"
            raise Unavailable("the embedder is closed") from error
        return turn.result()

    def _overloaded(self, count: int) -> Overloaded:
        waiting = self._texts.used
        return Overloaded(
            f"{waiting} texts wait to be embedded and {count} more would be over "
            f"the bound of {self._texts.bound}",
            retry_after=max(1.0, waiting * self._seconds_per_text),
            queue="embed",
        )


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on every system; tells what containers allow
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

"""Embedding elsewhere: any service that speaks OpenAI's ``/embeddings``.

    POST <url>/embeddings  {"model": name there, "input": [texts], "encoding_format": "float"}
    → {"data": [{"index": 0, "embedding": [numbers] or base64 of float32}], "usage"?}

The service's answer is checked before it is believed: one vector a text, all of one
length, which is the published one where the model is known, all numbers finite. Vectors
are scaled to length 1, as everywhere. Such services do not offer pooling, so a request
that names one is refused. Of a long text only the start is sent, which is more than the model
reads. `service` has the bounds on time, length and depth, and says what is repeated.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from http import HTTPStatus

import msgspec
import numpy as np

from vicinal.embeddings.base import Embedding, ModelInfo, Pooling, check_texts, unit_rows
from vicinal.embeddings.cutting import SQUEEZED_CHARS_PER_TOKEN
from vicinal.embeddings.models import KNOWN
from vicinal.embeddings.service import BlockingService, ServiceConfig, ServiceRequest
from vicinal.errors import BadEmbeddingInput, ModelNotFound, Unavailable
from vicinal.model import Floats

BATCH_TEXTS_MAX = 32  # source: the default bound of text-embeddings-inference, the lowest we know

CHARS_MAX = 8_192 * 16
"""Ours, of a text that is sent on: more than the models with the longest contexts read. For a known
model the bound is lower."""

DIMENSIONS_MAX = 16_384
"""Ours, of a model whose length of vectors is not known yet."""

_NUMBER_BYTES_MAX = 32  # ours, in JSON; with 17 digits it has 24
_ENVELOPE_BYTES_MAX = 64 * 1024  # ours: what an answer has beside numbers, and an error


class _EmbeddingItem(msgspec.Struct):
    embedding: list[float] | str
    index: int | None = None


class _EmbeddingUsage(msgspec.Struct):
    prompt_tokens: int = 0


class _Embeddings(msgspec.Struct):
    data: list[_EmbeddingItem]
    usage: _EmbeddingUsage | None = None


def answer_bytes_max(count: int, dimensions: int) -> int:
    """Return the number of bytes that an answer with this many vectors may have."""
    return _ENVELOPE_BYTES_MAX + count * (1_024 + dimensions * _NUMBER_BYTES_MAX)


class RemoteEmbedder:
    """Asks the service at `url`.

    Args:
        url: Base URL such as ``http://127.0.0.1:11434/v1``, with or without ``/embeddings``.
        key: Sent as a bearer token; None sends none.
        models: Name on our wire → name at the service. Empty: the known models under the
            names of their repositories (``BAAI/bge-base-en-v1.5``).
        timeout_s: Seconds of one request, with its repetitions.
        pause_s: Seconds before the first repetition; doubled for the second.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        models: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
        pause_s: float = 0.25,
    ) -> None:
        self._url = f"{url.rstrip('/').removesuffix('/embeddings')}/embeddings"
        published = {model.name: model.repository for model in KNOWN if model.repository}
        self._names = dict(models or published)
        self._dimensions: dict[str, int] = {
            model.name: model.dimensions for model in KNOWN if model.name in self._names
        }
        self._chars = {model.name: model.max_tokens * SQUEEZED_CHARS_PER_TOKEN for model in KNOWN}
        self._pause_s = pause_s
        config = ServiceConfig(self._url, key=key, whole_s=timeout_s, retry_after=1.0)
        self._asked = BlockingService(config, "embedding-service")
        self._service = self._asked.service

    def names(self) -> Sequence[str]:
        """See `base.Embedder.names`."""
        return tuple(self._names)

    def models(self) -> Sequence[ModelInfo]:
        """Return the models that are mapped; whether the service has them is not asked."""
        return [
            ModelInfo(name, self._dimensions.get(name), None, None, is_available=True)
            for name in self._names
        ]

    def embed(self, model: str, texts: Sequence[str], pooling: Pooling | None = None) -> Embedding:
        """See `base.Embedder.embed`."""
        if model not in self._names:
            raise ModelNotFound(f"no model is named {model!r}; known are {', '.join(self._names)}")
        check_texts(texts)
        if pooling is not None:
            raise BadEmbeddingInput(
                f"pooling {pooling.value!r} cannot be chosen: the service that embeds for this "
                "server pools in its own way; leave it out"
            )
        parts = []
        token_count = 0
        for start in range(0, len(texts), BATCH_TEXTS_MAX):
            batch = [
                text[: self._chars.get(model, CHARS_MAX)]
                for text in texts[start : start + BATCH_TEXTS_MAX]
            ]
            answer = self._ask(model, batch)
            parts.append(self._vectors(model, answer, len(batch)))
            token_count += answer.usage.prompt_tokens if answer.usage else 0
        return Embedding(unit_rows(np.concatenate(parts)), None, token_count)

    def preload(self, model: str) -> None:
        """Embed one short text, so that the service loads its model and the dimensions show."""
        self.embed(model, ["a"])

    def close(self) -> None:
        """End calls that are under way and close the connections."""
        self._asked.close()

    def _ask(self, model: str, texts: Sequence[str]) -> _Embeddings:
        body = msgspec.json.encode(
            {"model": self._names[model], "input": texts, "encoding_format": "float"}
        )
        bytes_max = answer_bytes_max(len(texts), self._dimensions.get(model, DIMENSIONS_MAX))
        answer = self._asked.post(ServiceRequest(self._url, body, bytes_max, self._pause_s))
        if answer.status != HTTPStatus.OK:
            self._service.refuse(answer, self._names[model])
        return self._service.decoded(answer.content, _Embeddings)

    def _vectors(self, model: str, answer: _Embeddings, count: int) -> Floats:
        """Return the answer's vectors in the order of the texts, ``(count, dimensions)``."""
        numbers = [
            number if item.index is None else item.index for number, item in enumerate(answer.data)
        ]
        if sorted(numbers) != list(range(count)):
            raise Unavailable(
                f"{self._service.shown} answers with {len(answer.data)} vectors for {count} texts, "
                "or numbers them wrongly"
            )
        rows = [self._row(item.embedding) for item in answer.data]
        dimensions = self._dimensions.get(model, len(rows[0]))
        for row in rows:
            if len(row) != dimensions or not dimensions:
                raise Unavailable(
                    f"{self._service.shown} answers with a vector of {len(row)} dimensions for "
                    f"{self._names[model]}; {model} has {dimensions}"
                )
        values = np.empty((count, dimensions), dtype=np.float32)
        values[numbers] = rows
        if not np.isfinite(values).all():
            raise Unavailable(f"{self._service.shown} answers with numbers beyond float32, or NaN")
        self._dimensions[model] = dimensions
        return values

    def _row(self, embedding: list[float] | str) -> Floats:
        if isinstance(embedding, list):
            with np.errstate(over="ignore"):  # what overflows is refused as not finite
                return np.array(embedding, dtype=np.float32)
        try:
            return np.frombuffer(base64.b64decode(embedding, validate=True), dtype="<f4")
        except (binascii.Error, ValueError) as error:
            raise Unavailable(
                f"{self._service.shown} answers with damaged base64: {error}"
            ) from error

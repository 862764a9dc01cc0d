"""Embedding elsewhere: any service that speaks OpenAI's ``/embeddings``.

    POST <url>/embeddings  {"model": name there, "input": [texts], "encoding_format": "float"}
    → {"data": [{"index": 0, "embedding": [numbers] or base64 of float32}], "usage"?}

The service's answer is checked before it is believed: one vector a text, all of one
length, which is the published one where the model is known, all numbers finite. Vectors
are scaled to length 1, as everywhere. Such services do not offer pooling, so a request
that names one is refused. Of a long text only the start is sent, which is more than the model
reads, and an answer is read up to a bound.

A request is repeated, at most twice, if no connection could be made or the service is busy or down
(429, 502, 503, 504); never after a time-out, which would double the wait.
"""

import base64
import binascii
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import httpx
import msgspec
import numpy as np

from vicinal import trust
from vicinal.embeddings.base import Embedding, ModelInfo, Pooling, check_texts, unit_rows
from vicinal.embeddings.cutting import SQUEEZED_CHARS_PER_TOKEN
from vicinal.embeddings.models import KNOWN
from vicinal.errors import BadEmbeddingInput, ModelNotFound, Overloaded, Unavailable
from vicinal.model import Floats
from vicinal.openai_errors import reason

BATCH_TEXTS_MAX = 32  # source: the default bound of text-embeddings-inference, the lowest we know
ATTEMPTS_MAX = 3
PAUSE_MAX_S = 5.0  # a service that asks for a longer pause is reported as overloaded instead

CHARS_MAX = 8_192 * 16
"""Ours, of a text that is sent on: more than the models with the longest contexts read. For a known
model the bound is lower."""

ANSWER_BYTES_MAX = 16 * 1024 * 1024
"""Ours: 32 vectors of 16,384 numbers with 30 digits each."""

_BUSY = frozenset({429, 502, 503, 504})


class _EmbeddingItem(msgspec.Struct):
    embedding: list[float] | str
    index: int | None = None


class _EmbeddingUsage(msgspec.Struct):
    prompt_tokens: int = 0


class _Embeddings(msgspec.Struct):
    data: list[_EmbeddingItem]
    usage: _EmbeddingUsage | None = None


@dataclass(frozen=True, slots=True)
class _ServiceResponse:
    """An answer of the service, read to its end."""

    status: int
    content: bytes
    retry_after: float | None


class RemoteEmbedder:
    """Asks the service at `url`.

    Args:
        url: Base URL such as ``http://127.0.0.1:11434/v1``, with or without ``/embeddings``.
        key: Sent as a bearer token; None sends none.
        models: Name on our wire → name at the service. Empty: the known models under the
            names of their repositories (``BAAI/bge-base-en-v1.5``).
        timeout_s: Seconds of one request.
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
        self._key = key
        self._timeout_s = timeout_s
        self._client = httpx.Client(
            headers={
                "Content-Type": "application/json",
                "Accept-Encoding": "identity",  # a compressed answer is of any length
                **({"Authorization": f"Bearer {key}"} if key else {}),
            },
            timeout=timeout_s,
            verify=trust.verification(None),
        )

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
        """Close the connections."""
        self._client.close()

    def _ask(self, model: str, texts: Sequence[str]) -> _Embeddings:
        body = msgspec.json.encode(
            {"model": self._names[model], "input": texts, "encoding_format": "float"}
        )
        response = self._post(body)
        if response.status != httpx.codes.OK:
            self._raise_for(response, model)
        try:
            return msgspec.json.decode(response.content, type=_Embeddings)
        except msgspec.MsgspecError as error:
            raise Unavailable(f"{self._url} answers with something else: {error}") from error

    def _post(self, body: bytes) -> _ServiceResponse:
        for attempt in range(1, ATTEMPTS_MAX + 1):
            pause = self._pause_s * 2 ** (attempt - 1)
            try:
                response = self._exchange(body)
            except httpx.ConnectError as error:
                if attempt == ATTEMPTS_MAX:
                    raise Unavailable(
                        f"{self._url} cannot be reached: {error}", retry_after=1.0
                    ) from error
            except httpx.TimeoutException as error:
                raise Unavailable(
                    f"{self._url} did not answer in time: {type(error).__name__}", retry_after=1.0
                ) from error
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise Unavailable(f"{self._url} cannot be asked: {error}") from error
            else:
                pause = max(pause, response.retry_after or 0.0)
                last = attempt == ATTEMPTS_MAX or pause > PAUSE_MAX_S
                if response.status not in _BUSY or last:
                    return response
            time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _exchange(self, body: bytes) -> _ServiceResponse:
        """Send one request; read its answer to the end, but not beyond the bounds."""
        content = bytearray()
        end = time.monotonic() + self._timeout_s
        with self._client.stream("POST", self._url, content=body) as response:
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise Unavailable(f"{self._url} compresses its answer, which it was not asked to")
            for part in response.iter_raw():
                content += part
                if len(content) > ANSWER_BYTES_MAX:
                    raise Unavailable(
                        f"{self._url} answers with more than {ANSWER_BYTES_MAX} bytes"
                    )
                if time.monotonic() > end:
                    raise httpx.ReadTimeout(f"more than {self._timeout_s:g} seconds")
            return _ServiceResponse(response.status_code, bytes(content), _retry_after(response))

    def _raise_for(self, answer: _ServiceResponse, model: str) -> NoReturn:
        status, retry_after = answer.status, answer.retry_after
        text = reason(answer.content) or httpx.codes.get_reason_phrase(status)
        if self._key:  # the service may repeat it
            text = text.replace(self._key, "(hidden)")
        sentence = f"{self._url} answers {status} for {self._names[model]}: {text}"
        if status == httpx.codes.TOO_MANY_REQUESTS:
            raise Overloaded(sentence, retry_after=retry_after or 1.0)
        if status == httpx.codes.NOT_FOUND:
            raise ModelNotFound(sentence)
        if status in (
            httpx.codes.BAD_REQUEST,
            httpx.codes.REQUEST_ENTITY_TOO_LARGE,
            httpx.codes.UNPROCESSABLE_ENTITY,
        ):
            raise BadEmbeddingInput(sentence)
        # Among these 401 and 403: the key is the operator's, not the caller's.
        raise Unavailable(sentence, retry_after=retry_after or (1.0 if status in _BUSY else None))

    def _vectors(self, model: str, answer: _Embeddings, count: int) -> Floats:
        """Return the answer's vectors in the order of the texts, ``(count, dimensions)``."""
        numbers = [
            number if item.index is None else item.index for number, item in enumerate(answer.data)
        ]
        if sorted(numbers) != list(range(count)):
            raise Unavailable(
                f"{self._url} answers with {len(answer.data)} vectors for {count} texts, or "
                "numbers them wrongly"
            )
        rows = [self._row(item.embedding) for item in answer.data]
        dimensions = self._dimensions.get(model, len(rows[0]))
        for row in rows:
            if len(row) != dimensions or not dimensions:
                raise Unavailable(
                    f"{self._url} answers with a vector of {len(row)} dimensions for "
                    f"{self._names[model]}; {model} has {dimensions}"
                )
        values = np.empty((count, dimensions), dtype=np.float32)
        values[numbers] = rows
        if not np.isfinite(values).all():
            raise Unavailable(f"{self._url} answers with numbers beyond float32, or NaN")
        self._dimensions[model] = dimensions
        return values

    def _row(self, embedding: list[float] | str) -> Floats:
        if isinstance(embedding, list):
            with np.errstate(over="ignore"):  # what overflows is refused as not finite
                return np.array(embedding, dtype=np.float32)
        try:
            return np.frombuffer(base64.b64decode(embedding, validate=True), dtype="<f4")
        except (binascii.Error, ValueError) as error:
            raise Unavailable(f"{self._url} answers with damaged base64: {error}") from error


def _retry_after(response: httpx.Response) -> float | None:
    """Return the header in seconds; its other form, a date, is not used by such services."""
    text = response.headers.get("Retry-After", "")
    return float(text[:9]) if text.isdecimal() else None  # of more digits it is infinite

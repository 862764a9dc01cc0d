"""The client of the service that generates text. No thread waits for it.

Every request ends, as the time to connect, of silence and of the whole, every length, and the
number of requests under way are bounded. A redirect is not followed, as the key would go elsewhere;
the key is in no message. A request whose caller has gone is cancelled by closing its connection.
Nothing is sent twice: each request may cost money.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    aclosing,
    asynccontextmanager,
)
from dataclasses import dataclass, field

import httpx

from vicinal import openai_errors
from vicinal.embeddings.service import Service, ServiceConfig, retry_after
from vicinal.errors import (
    BadGenerationInput,
    GenerationFailed,
    InvalidInput,
    ModelNotFound,
    Overloaded,
)
from vicinal.generation import openai
from vicinal.generation.base import Names
from vicinal.generation.events import EventReader

ANSWER_BYTES_MAX = 4 * 1024 * 1024  # ours: a million tokens in one answer
STREAM_BYTES_MAX = 64 * 1024 * 1024  # ours: an event of a token takes some hundred bytes
_REASON_BYTES_MAX = 64 * 1024

_REFUSED = (400, 413, 422)
_KEY_IS_WRONG = (401, 403)


@dataclass(frozen=True, slots=True)
class GenerationConfig:
    """The service that generates text, and bounds on its time.

    Attributes:
        url: Up to and without ``/chat/completions``, such as ``http://127.0.0.1:11434/v1``.
        key: Sent as a bearer token; None sends none.
        names: Names of the models there.
        requests_max: Requests that may be under way; one more is `Overloaded`.
        idle_s: Seconds that the service may be silent.
        whole_s: Seconds that one answer may take, and its client to read it.
    """

    url: str
    key: str | None = field(default=None, repr=False)
    names: Names = field(default_factory=Names)
    requests_max: int = 32
    idle_s: float = 120.0
    whole_s: float = 600.0


class Generator:
    """Sends requests to the service. For one event loop.

    Raises:
        InvalidInput: the URL is not one of HTTP, or the named authorities cannot be read.
    """

    def __init__(self, config: GenerationConfig) -> None:
        self.config = config
        try:
            url = httpx.URL(config.url.rstrip("/").removesuffix(openai.CHAT))
        except httpx.InvalidURL as error:
            raise InvalidInput(f"generation_url cannot be asked: {error}") from None
        if url.scheme not in ("http", "https") or not url.host:
            raise InvalidInput("generation_url must begin with http:// or https:// and a host")
        self._url = str(url).rstrip("/")
        self._service = Service(
            ServiceConfig(
                self._url,
                config.key,
                whole_s=config.whole_s,
                idle_s=config.idle_s,
                # Nothing is asked twice, and a kept connection may be closed when it is used.
                keeps_connections=False,
                failure=GenerationFailed,
            )
        )
        self._under_way = 0

    @asynccontextmanager
    async def send(self, path: str, body: bytes, model: str) -> AsyncIterator[httpx.Response]:
        """Send a request and wait until its answer begins; leaving ends it, wherever it is.

        `model` is the model's name at the service, for messages.

        Raises:
            Overloaded: too many requests are under way, here or there.
            ModelNotFound, BadGenerationInput: the service refuses the request.
            GenerationFailed: it cannot be reached, is silent, or answers otherwise.
        """
        if self._under_way >= self.config.requests_max:
            raise Overloaded(
                f"{self._under_way} requests for text are under way, the most there may be",
                retry_after=1.0,
                queue="generation",
            )
        self._under_way += 1
        try:
            async with self._service.send(self._url + path, body) as response:
                if response.status_code != httpx.codes.OK:
                    await self._refuse(response, model)
                yield response
        finally:
            self._under_way -= 1

    def in_time(self) -> AbstractAsyncContextManager[None]:
        """Bound the time of a block to that of one answer, or it ends by `GenerationFailed`."""
        return self._service.in_time()

    def failures(self) -> AbstractContextManager[None]:
        """Turn errors of the way to the service and back into ours, without the key."""
        return self._service.failures()

    async def close(self) -> None:
        """Close all connections."""
        await self._service.close()

    async def content(self, response: httpx.Response, bytes_max: int = ANSWER_BYTES_MAX) -> bytes:
        """Return a whole answer.

        Raises:
            GenerationFailed: the answer is longer than `bytes_max`, or incomplete.
        """
        return await self._service.content(response, bytes_max)

    async def events(self, response: httpx.Response) -> AsyncGenerator[list[bytes], None]:
        """Yield the data of an answer's events, those together that came together.

        Raises:
            GenerationFailed: an event or the answer is too long, or incomplete.
        """
        reader = EventReader()
        async with aclosing(self._service.receive(response, STREAM_BYTES_MAX)) as parts:
            async for part in parts:
                if events := reader.feed(part):
                    yield events

    async def _refuse(self, response: httpx.Response, model: str) -> None:
        """Raise the error that the status of an answer means."""
        status = response.status_code
        problem = f"{self._service.shown} answers {status} for {model[:100]}"
        if status in _KEY_IS_WRONG:  # the operator's to know, and it may repeat the key
            raise GenerationFailed(f"{problem}: generation_key is missing or wrong")
        content = await self.content(response, _REASON_BYTES_MAX)
        if httpx.codes.is_redirect(status):
            raise GenerationFailed(f"{problem}: a redirect, which is not followed")
        problem = f"{problem}: {self._service.hidden(openai_errors.reason(content))}"
        if status in _REFUSED:
            raise BadGenerationInput(problem)
        if status == httpx.codes.NOT_FOUND:
            raise ModelNotFound(problem)
        seconds = retry_after(response)
        if status == httpx.codes.TOO_MANY_REQUESTS:
            raise Overloaded(problem, retry_after=seconds or 1.0)
        raise GenerationFailed(problem, retry_after=seconds)

"""The client of the service that generates text. No thread waits for it.

Every request ends, as the time to connect, of silence and of the whole, every length, and the
number of requests under way are bounded. A redirect is not followed, as the key would go elsewhere;
the key is in no message. A request whose caller has gone is cancelled by closing its connection.
Nothing is sent twice: each request may cost money.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import httpx

from vicinal import openai_errors, trust
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

CONNECT_S = 10.0  # ours
ANSWER_BYTES_MAX = 4 * 1024 * 1024  # ours: a million tokens in one answer
STREAM_BYTES_MAX = 64 * 1024 * 1024  # ours: an event of a token takes some hundred bytes
_REASON_BYTES_MAX = 64 * 1024
_HIDDEN = "(hidden)"

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
        self._shown = str(url.copy_with(userinfo=b"")).rstrip("/")
        self._authorities = trust.verification(None)
        self._under_way = 0
        self._client: httpx.AsyncClient | None = None

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
            with self.failures():
                request = self._opened().build_request("POST", self._url + path, content=body)
                response = await self._opened().send(request, stream=True)
            async with aclosing(response):
                if response.status_code != httpx.codes.OK:
                    await self._refuse(response, model)
                if response.headers.get("Content-Encoding", "identity") != "identity":
                    raise GenerationFailed(f"{self._shown} compresses, which it was not asked to")
                yield response
        finally:
            self._under_way -= 1

    @asynccontextmanager
    async def in_time(self) -> AsyncIterator[None]:
        """Bound the time of the block to that of one answer.

        Raises:
            GenerationFailed: the block takes longer.
        """
        try:
            async with asyncio.timeout(self.config.whole_s):
                yield
        except TimeoutError:
            raise GenerationFailed(
                f"{self._shown} takes more than {self.config.whole_s:g} seconds"
            ) from None

    async def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.aclose()

    async def content(self, response: httpx.Response, bytes_max: int = ANSWER_BYTES_MAX) -> bytes:
        """Return a whole answer.

        Raises:
            GenerationFailed: the answer is longer than `bytes_max`, or incomplete.
        """
        content = bytearray()
        async with aclosing(self._receive(response, bytes_max)) as parts:
            async for part in parts:
                content += part
        return bytes(content)

    async def events(self, response: httpx.Response) -> AsyncGenerator[list[bytes], None]:
        """Yield the data of an answer's events, those together that came together.

        Raises:
            GenerationFailed: an event or the answer is too long, or incomplete.
        """
        reader = EventReader()
        async with aclosing(self._receive(response, STREAM_BYTES_MAX)) as parts:
            async for part in parts:
                if events := reader.feed(part):
                    yield events

    async def _receive(
        self, response: httpx.Response, bytes_max: int
    ) -> AsyncGenerator[bytes, None]:
        length = 0
        with self.failures():
            async for part in response.aiter_raw():
                length += len(part)
                if length > bytes_max:
                    raise GenerationFailed(
                        f"{self._shown} answers with more than {bytes_max} bytes"
                    )
                yield part

    def _opened(self) -> httpx.AsyncClient:
        if self._client is None:
            key, idle_s = self.config.key, self.config.idle_s
            self._client = httpx.AsyncClient(
                headers={
                    "Content-Type": "application/json",
                    "Accept-Encoding": "identity",  # a compressed answer is of any length
                    **({"Authorization": f"Bearer {key}"} if key else {}),
                },
                timeout=httpx.Timeout(idle_s, connect=CONNECT_S),
                # A connection that was kept may be closed by the time it is used, and nothing
                # is asked twice.
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
                follow_redirects=False,
                verify=self._authorities,
            )
        return self._client

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Turn errors of the way to the service and back into ours, without the key."""
        try:
            yield
        except GenerationFailed as error:
            raise GenerationFailed(self.hidden(str(error)), retry_after=error.retry_after) from None
        except httpx.ConnectTimeout:
            raise GenerationFailed(f"{self._shown} cannot be reached in time") from None
        except httpx.ConnectError as error:
            raise GenerationFailed(f"{self._shown} cannot be reached: {error}") from None
        except httpx.TimeoutException:
            raise GenerationFailed(
                f"{self._shown} is silent for {self.config.idle_s:g} seconds"
            ) from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise GenerationFailed(
                self.hidden(f"{self._shown} breaks off: {error or type(error).__name__}")
            ) from None

    def hidden(self, text: str) -> str:
        """Return a text of the service without the key, which it may repeat."""
        return text.replace(self.config.key, _HIDDEN) if self.config.key else text

    async def _refuse(self, response: httpx.Response, model: str) -> None:
        """Raise the error that the status of an answer means."""
        status = response.status_code
        problem = f"{self._shown} answers {status} for {model[:100]}"
        if status in _KEY_IS_WRONG:  # the operator's to know, and it may repeat the key
            raise GenerationFailed(f"{problem}: generation_key is missing or wrong")
        content = await self.content(response, _REASON_BYTES_MAX)
        problem = f"{problem}: {self.hidden(openai_errors.reason(content))}"
        if status in _REFUSED:
            raise BadGenerationInput(problem)
        if status == httpx.codes.NOT_FOUND:
            raise ModelNotFound(problem)
        retry_after = response.headers.get("Retry-After", "")
        seconds = float(retry_after[:9]) if retry_after.isdecimal() else None
        if status == httpx.codes.TOO_MANY_REQUESTS:
            raise Overloaded(problem, retry_after=seconds or 1.0)
        raise GenerationFailed(problem, retry_after=seconds)

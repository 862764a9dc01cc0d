"""Services of others over HTTP: what is sent to one that embeds, ranks or writes text, and bounds
on all that it sends back.

An exchange ends within its time as a whole: from the resolution of the service's name over every
head, interim answer, pause and repetition to the last byte. An answer is read up to a number of
bytes and never unpacked, its head up to 100 KiB (`httpx`), its JSON up to a depth. A redirect is
not followed, as key and texts would go elsewhere. The key is in no message, nor what stands before
the host in a URL.

`Service` is for an event loop, and no thread waits for it. `BlockingService` is for threads, which
wait while one thread talks to the service, and are free again once their work is given up.
"""

import asyncio
import socket
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn, TypeVar

import httpx
import msgspec

from vicinal import interruption, openai_errors, trust
from vicinal.daemon_threads import DaemonThreads
from vicinal.errors import (
    BadEmbeddingInput,
    ModelNotFound,
    Overloaded,
    Unavailable,
    reason_of,
)

T = TypeVar("T")

CONNECT_S = 10.0
"""Ours, of each attempt to connect."""

ATTEMPTS_MAX = 3
PAUSE_MAX_S = 5.0
"""Of two attempts; a service that asks for a longer pause is reported as overloaded instead."""

_BUSY = frozenset({429, 502, 503, 504})
_REFUSED = (400, 413, 422)
_POLL_S = 0.1  # between two points of a waiting thread's work
_END_S = 1.0  # that closing waits for connections to be closed
_NAME_THREADS = 4  # that look up names; one that hangs cannot be ended
_HIDDEN = "(hidden)"


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """A service, and bounds on an exchange with it.

    Attributes:
        url: Where requests go, or what their URLs begin with.
        key: Sent as a bearer token; None sends none.
        whole_s: Seconds of an exchange.
        idle_s: Seconds that the service may be silent; None: as long as the exchange.
        keeps_connections: Whether a connection serves several requests. One that was kept may be
            closed as it is used: `Service.post` then repeats the request, `Service.send` does not.
        failure: The error of a service that cannot be had, or that answers otherwise than it ought.
        retry_after: Seconds after which one may ask again that could not be reached, or in time.
    """

    url: str
    key: str | None = field(default=None, repr=False)
    whole_s: float = 60.0
    idle_s: float | None = None
    keeps_connections: bool = True
    failure: type[Unavailable] = Unavailable
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class ServiceRequest:
    """A request, and bounds on its answer.

    Attributes:
        url: Where it goes.
        body: JSON.
        bytes_max: Of the answer.
        pause_s: Seconds before the first repetition; doubled for the second.
        left_s: Seconds that are left of the time, where several requests share it; None: all.
    """

    url: str
    body: bytes
    bytes_max: int
    pause_s: float = 0.25
    left_s: float | None = None


@dataclass(frozen=True, slots=True)
class ServiceAnswer:
    """An answer of a service, read to its end."""

    status: int
    content: bytes
    retry_after: float | None


class Service:
    """A service that an event loop talks to."""

    def __init__(self, config: ServiceConfig) -> None:
        self.config = config
        self.shown = _shown(config.url)
        self._authorities = trust.verification(None)
        self._client: httpx.AsyncClient | None = None

    @asynccontextmanager
    async def send(self, url: str, body: bytes) -> AsyncIterator[httpx.Response]:
        """Send a request and wait until its answer begins; leaving ends it, wherever it is.

        Raises:
            Unavailable: the service cannot be reached, is silent, or compresses its answer.
        """
        with self.failures():
            async with self._begun(url, body) as response:
                yield response

    async def receive(
        self, response: httpx.Response, bytes_max: int
    ) -> AsyncGenerator[bytes, None]:
        """Yield an answer as it comes.

        Raises:
            Unavailable: the answer is longer than `bytes_max`, or incomplete.
        """
        length = 0
        with self.failures():
            async for part in response.aiter_raw():
                length += len(part)
                if length > bytes_max:
                    raise self.config.failure(
                        f"{self.shown} answers with more than {bytes_max} bytes"
                    )
                yield part

    async def content(self, response: httpx.Response, bytes_max: int) -> bytes:
        """Return a whole answer; raises as `receive`."""
        content = bytearray()
        async with aclosing(self.receive(response, bytes_max)) as parts:
            async for part in parts:
                content += part
        return bytes(content)

    async def post(self, request: ServiceRequest) -> ServiceAnswer:
        """Send a request and return its answer, within the time of an exchange.

        The request is repeated, at most twice, if no connection could be made, a kept one ends
        before its answer begins (the service closed it as it was idle, at the same moment), or the
        service is busy or down (429, 502, 503, 504); never after a time-out.

        Raises:
            Unavailable: the service cannot be reached, is not done in time, or answers with more.
        """
        with self.failures():
            async with self.in_time(request.left_s):
                for attempt in range(1, ATTEMPTS_MAX + 1):
                    pause = request.pause_s * 2 ** (attempt - 1)
                    is_last = attempt == ATTEMPTS_MAX
                    progress = _Progress()
                    try:
                        answer = await self._exchange(request, progress)
                    except httpx.ConnectError:
                        if is_last:
                            raise
                    except (httpx.NetworkError, httpx.RemoteProtocolError):
                        if is_last or not progress.is_before_answer_on_kept_connection:
                            raise
                        pause = 0.0
                    else:
                        pause = max(pause, answer.retry_after or 0.0)
                        if answer.status not in _BUSY or is_last or pause > PAUSE_MAX_S:
                            return answer
                    await asyncio.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    @asynccontextmanager
    async def in_time(self, left_s: float | None = None) -> AsyncIterator[None]:
        """Bound the time of the block to that of an exchange, or to what is left of it.

        Raises:
            Unavailable: the block takes longer.
        """
        try:
            async with asyncio.timeout(self.config.whole_s if left_s is None else left_s):
                yield
        except TimeoutError:
            raise self.config.failure(
                f"{self.shown} takes more than {self.config.whole_s:g} seconds",
                retry_after=self.config.retry_after,
            ) from None

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Turn errors of the way to the service and back into ours, without the key."""
        failure, shown = self.config.failure, self.shown
        try:
            yield
        except Unavailable as error:
            if type(error) is not failure:
                raise
            raise failure(self.hidden(str(error)), retry_after=error.retry_after) from None
        except httpx.ConnectTimeout:
            problem = f"{shown} cannot be reached in time"
            raise failure(problem, retry_after=self.config.retry_after) from None
        except httpx.ConnectError as error:
            problem = self.hidden(f"{shown} cannot be reached: {reason_of(error)}")
            raise failure(problem, retry_after=self.config.retry_after) from None
        except httpx.TimeoutException:
            problem = f"{shown} is silent for {self.config.idle_s:g} seconds"
            raise failure(problem, retry_after=self.config.retry_after) from None
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise failure(self.hidden(f"{shown} cannot be asked: {error}")) from None
        except httpx.LocalProtocolError:  # its text quotes the header with the key
            raise failure(f"{shown} cannot be asked: its key is no value of a header") from None
        except (httpx.HTTPError, httpx.StreamError) as error:
            problem = f"{shown} breaks off: {reason_of(error)}"
            raise failure(self.hidden(problem)) from None

    def decoded(self, content: bytes, form: type[T]) -> T:
        """Return the JSON of this form.

        Raises:
            Unavailable: it is something else, or nested too deeply.
        """
        try:
            return msgspec.json.decode(content, type=form)
        except RecursionError:
            problem = "JSON that is nested too deeply"
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            problem = f"something else: {error}"
        raise self.config.failure(f"{self.shown} answers with {problem}")

    def hidden(self, text: str) -> str:
        """Return a text of the service without the key, which it may repeat."""
        return text.replace(self.config.key, _HIDDEN) if self.config.key else text

    def refuse(self, answer: ServiceAnswer, model: str) -> NoReturn:
        """Raise the error that an answer's status means; `model` is the model's name there.

        Raises:
            Overloaded, ModelNotFound, BadEmbeddingInput: the service says so.
            Unavailable: any other status. Among these 401 and 403: the key is the operator's.
        """
        status, retry_after = answer.status, answer.retry_after
        if httpx.codes.is_redirect(status):
            text = "a redirect, which is not followed"
        else:
            text = openai_errors.reason(answer.content) or httpx.codes.get_reason_phrase(status)
        sentence = self.hidden(f"{self.shown} answers {status} for {model[:100]}: {text}")
        if status == httpx.codes.TOO_MANY_REQUESTS:
            raise Overloaded(sentence, retry_after=retry_after or 1.0)
        if status == httpx.codes.NOT_FOUND:
            raise ModelNotFound(sentence)
        if status in _REFUSED:
            raise BadEmbeddingInput(sentence)
        raise self.config.failure(
            sentence, retry_after=retry_after or (1.0 if status in _BUSY else None)
        )

    async def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.aclose()

    @asynccontextmanager
    async def _begun(
        self, url: str, body: bytes, progress: "_Progress | None" = None
    ) -> AsyncIterator[httpx.Response]:
        client = self._opened()
        extensions = {"trace": progress} if progress else None
        request = client.build_request("POST", url, content=body, extensions=extensions)
        response = await client.send(request, stream=True)
        async with aclosing(response):
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise self.config.failure(
                    f"{self.shown} compresses its answer, which it was not asked to"
                )
            yield response

    async def _exchange(self, request: ServiceRequest, progress: "_Progress") -> ServiceAnswer:
        async with self._begun(request.url, request.body, progress) as response:
            content = await self.content(response, request.bytes_max)
            return ServiceAnswer(response.status_code, content, retry_after(response))

    def _opened(self) -> httpx.AsyncClient:
        if self._client is None:
            config = self.config
            headers = {
                b"Content-Type": b"application/json",
                b"Accept-Encoding": b"identity",  # a compressed answer is of any length
            }
            if config.key:
                headers[b"Authorization"] = f"Bearer {config.key}".encode()
            kept_max = None if config.keeps_connections else 0
            self._client = httpx.AsyncClient(
                headers=headers,
                timeout=httpx.Timeout(config.idle_s, connect=CONNECT_S),
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=kept_max),
                follow_redirects=False,
                verify=self._authorities,
            )
        return self._client


class _Progress:
    """How far a request has come, as httpcore tells the ``trace`` of a request."""

    def __init__(self) -> None:
        self._events: set[str] = set()

    async def __call__(self, event: str, _: object) -> None:
        self._events.add(event)

    @property
    def is_before_answer_on_kept_connection(self) -> bool:
        """Whether no connection was made for it and no head of an answer has come."""
        return self._events.isdisjoint(
            {"connection.connect_tcp.started", "http11.receive_response_headers.complete"}
        )


class BlockingService:
    """A service that threads ask: one thread talks to it, and the others wait for that.

    Args:
        config: The service.
        name: Of the thread.
    """

    def __init__(self, config: ServiceConfig, name: str) -> None:
        self.service = Service(config)
        self._name = name
        self._lock = threading.Lock()
        self._talking: _Talking | None = None
        self._is_closed = False

    def post(self, request: ServiceRequest) -> ServiceAnswer:
        """See `Service.post`. May be interrupted: the exchange then ends at once."""
        with self._lock:
            if self._is_closed:
                raise self._closed()
            if self._talking is None:
                self._talking = _Talking(self.service, self._name)
            answer = self._talking.begin(self.service.post(request))
        try:
            while True:
                with suppress(TimeoutError):
                    return answer.result(_POLL_S)
                interruption.point()
        except CancelledError:
            raise self._closed() from None
        finally:
            answer.cancel()

    def close(self) -> None:
        """End all exchanges and close all connections."""
        with self._lock:
            self._is_closed = True
            talking, self._talking = self._talking, None
        if talking is not None:
            talking.end()

    def _closed(self) -> Unavailable:
        return self.service.config.failure(f"{self.service.shown} is asked no more")


class _Talking:
    """The thread that talks to a service, and its event loop."""

    def __init__(self, service: Service, name: str) -> None:
        self._service = service
        self._begun: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._thread = threading.Thread(target=self._serve_all, name=name, daemon=True)
        self._thread.start()
        self._loop, self._ended = self._begun.result()

    def begin(self, exchange: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin an exchange; return its outcome to come, which cancels it when it is cancelled."""
        return asyncio.run_coroutine_threadsafe(exchange, self._loop)

    def end(self) -> None:
        """Cancel all exchanges. No other one may be begun."""
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(_END_S)

    def _serve_all(self) -> None:
        with asyncio.Runner(loop_factory=_Loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        ended = asyncio.Event()
        self._begun.set_result((asyncio.get_running_loop(), ended))
        await ended.wait()
        exchanges = asyncio.all_tasks() - {asyncio.current_task()}
        for exchange in exchanges:
            exchange.cancel()
        await asyncio.gather(*exchanges, return_exceptions=True)
        await self._service.close()


class _Loop(asyncio.SelectorEventLoop):
    """An event loop whose resolution of names no end of a program waits for."""

    def __init__(self) -> None:
        super().__init__()
        self._names = DaemonThreads(_NAME_THREADS, "service-names")

    async def getaddrinfo(
        self,
        host: str | bytes | None,
        port: str | bytes | int | None,
        *,
        family: int = 0,
        type: int = 0,  # asyncio's name
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        """See `asyncio.loop.getaddrinfo`."""
        resolve = partial(socket.getaddrinfo, host, port, family, type, proto, flags)
        return await asyncio.wrap_future(self._names.submit(resolve), loop=self)

    def close(self) -> None:
        """Close it."""
        self._names.close()
        super().close()


def retry_after(response: httpx.Response) -> float | None:
    """Return the header in seconds; its other form, a date, is not used by such services."""
    text = response.headers.get("Retry-After", "")
    return float(text[:9]) if text.isdecimal() else None  # of more digits it is infinite


def _shown(url: str) -> str:
    """Return a URL without name and password."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return url.rpartition("@")[2]
    return str(parsed.copy_with(userinfo=b""))

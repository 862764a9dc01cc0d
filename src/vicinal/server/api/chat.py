"""Text generation: requests in the platform's form go on to a service, and its answers back.

OpenAI's own operations are passed on as they are, but for the model's name. A stream begins only
when the service's has, so that a request which the service refuses gets a status.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from io import StringIO
from operator import attrgetter
from typing import TYPE_CHECKING

from vicinal.errors import (
    BadGenerationBody,
    BadGenerationInput,
    BodyTooLarge,
    GenerationFailed,
    ModelNotFound,
    Overloaded,
)
from vicinal.generation import events, openai
from vicinal.generation.base import Piece, Request, ToolCall, ToolCallPart, Usage
from vicinal.server.api.paths import AI
from vicinal.server.api.request import ApiRequest
from vicinal.server.api.routing import BodyLimit, Handler, RouteTable
from vicinal.server.concurrency import unless_disconnected
from vicinal.server.http.response import Response, Stream
from vicinal.tokens import Permission
from vicinal.wire import envelope, generation
from vicinal.wire.codes import ErrorResponse

if TYPE_CHECKING:  # it brings its HTTP client, and few servers have one
    import httpx

    from vicinal.server.api.generation import Generator

ROUTES = RouteTable()

RequestReader = Callable[[bytes | bytearray], Request]

_NAME_CHARS_MAX = 100  # of a name in a message
_EVENTS = b"text/event-stream"
_HEADERS = ((b"cache-control", b"no-cache"),)


_ERRORS = (
    BadGenerationBody,
    BadGenerationInput,
    ModelNotFound,
    BodyTooLarge,
    Overloaded,
    GenerationFailed,
)

generation_body: BodyLimit = attrgetter("generation_body_bytes_max")
"""The limit of bodies that ask for text."""


def not_found(request: ApiRequest, name: str) -> ModelNotFound:
    """Return the error of a model that is neither run here nor passed on."""
    generator = request.services.generator
    if generator is None:
        elsewhere = "other models can be passed on to a service, see the setting generation_url"
    else:
        listed = ", ".join(generator.config.names.listed())
        elsewhere = f"text generation is passed on for {listed}"
    return ModelNotFound(
        f"no model is named {name[:_NAME_CHARS_MAX]!r} here: Vicinal runs text embeddings, with "
        f"{', '.join(request.services.embedder.names())}; {elsewhere}"
    )


def generator_for(request: ApiRequest, name: str) -> "tuple[Generator, str]":
    """Return the generator of a model, and the model's name at its service.

    Raises:
        ModelNotFound: there is none.
    """
    generator = request.services.generator
    model = None if generator is None else generator.config.names.at_service(name)
    if generator is None or model is None:
        raise not_found(request, name)
    return generator, model


async def generate(request: ApiRequest, name: str, read: RequestReader) -> Response:
    """Generate text with a model, in the platform's form."""
    generator, model = generator_for(request, name)
    _check_length(request)
    wanted = await request.run_on_body(lambda: read(request.body))
    body = await request.run_on_body(lambda: openai.body(wanted, model))
    path = openai.path(wanted)
    if wanted.is_streamed:
        parts = _platform_parts(generator, path, body, model)
        return await _streamed(request, generator, parts, envelope.bare_failure)
    content = await unless_disconnected(request.receive, _whole(generator, path, body, model))
    with generator.failures():
        answer = openai.read_answer(content)
    return Response(generation.generated(answer, wants_json=wanted.wants_json))


def _add_passed_on(path: str) -> Callable[[Handler], Handler]:
    return ROUTES.add(
        "POST",
        f"{AI}/v1{path}",
        Permission.READ,
        generation_body,
        request=generation.OpenAIGenerationRequest,
        errors=_ERRORS,
        form=envelope.OPENAI,
    )


@_add_passed_on(openai.CHAT)
async def openai_chat_completions(request: ApiRequest) -> Response:
    """Generate text, in OpenAI's form, by another service."""
    return await _passed_on(request, openai.CHAT)


@_add_passed_on(openai.TEXT)
async def openai_completions(request: ApiRequest) -> Response:
    """Continue a text, in OpenAI's form, by another service."""
    return await _passed_on(request, openai.TEXT)


async def _passed_on(request: ApiRequest, path: str) -> Response:
    _check_length(request)
    wanted = await request.run_on_body(lambda: generation.openai_request(request.body))
    if wanted.model in request.services.embedder.names():
        raise BadGenerationInput(f"{wanted.model} makes embeddings, no text")
    generator, model = generator_for(request, wanted.model)
    body = await request.run_on_body(lambda: generation.renamed(request.body, model))
    if wanted.stream:
        parts = _passed_parts(generator, path, body, model)
        return await _streamed(request, generator, parts, envelope.openai_failure)
    content = await unless_disconnected(request.receive, _whole(generator, path, body, model))
    with generator.failures():
        openai.check(content)
    return Response(content)


def _check_length(request: ApiRequest) -> None:
    bytes_max = request.services.limits.generation_body_bytes_max
    if len(request.body) > bytes_max:
        raise BodyTooLarge(f"the body has {len(request.body)} bytes, the limit is {bytes_max}")


async def _whole(generator: "Generator", path: str, body: bytes, model: str) -> bytes:
    async with generator.in_time(), generator.send(path, body, model) as response:
        return await generator.content(response)


async def _streamed(
    request: ApiRequest,
    generator: "Generator",
    parts: AsyncGenerator[bytes, None],
    failure: Callable[[ErrorResponse], bytes],
) -> Response:
    """Answer with events once the service has begun to send its own; all in the time of one
    answer."""
    loop = asyncio.get_running_loop()
    end = loop.time() + generator.config.whole_s
    try:
        async with generator.in_time():
            await unless_disconnected(request.receive, anext(parts))
    except BaseException:
        await parts.aclose()
        raise
    stream = Stream(parts, end - loop.time(), lambda answer: events.event(failure(answer)))
    return Response(b"", headers=_HEADERS, content_type=_EVENTS, stream=stream)


async def _platform_parts(
    generator: "Generator", path: str, body: bytes, model: str
) -> AsyncGenerator[bytes, None]:
    """Yield empty bytes once the service has begun, then events in the platform's form."""
    written = _Written()
    async with generator.send(path, body, model) as response:
        yield b""
        async with aclosing(_read_events(generator, response)) as all_events:
            async for batch in all_events:
                if part := b"".join(written.event(piece) for _, piece in batch):
                    yield part
    tool_calls = written.tool_calls()
    if tool_calls or written.usage is not None:
        yield events.event(generation.last_piece(tool_calls, written.usage))
    yield events.event(events.END)


async def _passed_parts(
    generator: "Generator", path: str, body: bytes, model: str
) -> AsyncGenerator[bytes, None]:
    """Yield empty bytes once the service has begun, then events as it sends them."""
    async with generator.send(path, body, model) as response:
        yield b""
        async with aclosing(_read_events(generator, response)) as all_events:
            async for batch in all_events:
                if batch:
                    yield b"".join(events.event(data) for data, _ in batch)
    yield events.event(events.END)


async def _read_events(
    generator: "Generator", response: "httpx.Response"
) -> AsyncGenerator[list[tuple[bytes, Piece]], None]:
    """Yield the data of events and the pieces in it, up to the event that ends the stream.

    Raises:
        GenerationFailed: an event says nothing, or the stream ends before the model has stopped.
    """
    has_stopped = False
    async with aclosing(generator.events(response)) as all_events:
        async for batch in all_events:
            is_end = events.END in batch
            before = batch[: batch.index(events.END)] if is_end else batch
            with generator.failures():
                pieces = [(data, openai.read_piece(data)) for data in before]
            has_stopped |= any(piece.is_last for _, piece in pieces)
            yield pieces
            if is_end:
                return
    if not has_stopped:
        raise GenerationFailed("the service ends its stream before the text has ended")


class _Written:
    """The part of an answer that has come: texts are written at once, calls when they are whole."""

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self._calls: dict[int, _GrowingCall] = {}

    def event(self, piece: Piece) -> bytes:
        """Return a piece in the platform's form: one event, or nothing yet.

        Raises:
            GenerationFailed: there are more calls than a model makes.
        """
        self.usage = piece.usage or self.usage
        for part in piece.tool_calls:
            self._calls.setdefault(part.index, _GrowingCall()).add(part)
        if len(self._calls) > openai.TOOL_CALLS_MAX:
            raise GenerationFailed(f"the service makes more than {openai.TOOL_CALLS_MAX} calls")
        return events.event(generation.piece(piece.text)) if piece.text else b""

    def tool_calls(self) -> list[ToolCall]:
        """Return the calls, which are whole."""
        return [call.whole(index) for index, call in sorted(self._calls.items())]


class _GrowingCall:
    """A call that comes in pieces. They are joined at once: an empty one takes no memory."""

    def __init__(self) -> None:
        self._id, self._name, self._arguments = StringIO(), StringIO(), StringIO()

    def add(self, part: ToolCallPart) -> None:
        self._id.write(part.id)
        self._name.write(part.name)
        self._arguments.write(part.arguments)

    def whole(self, index: int) -> ToolCall:
        return ToolCall(
            self._id.getvalue() or f"call_{index}",
            self._name.getvalue(),
            self._arguments.getvalue(),
        )

"""OpenAI's chat and text completions, as their client: requests written, answers read.

    POST <url>/chat/completions  {"model", "messages", ...}
    → {"choices": [{"message": {"content", "tool_calls"?}}], "usage"?}, or as events
      {"choices": [{"delta": {...}, "finish_reason"}]}, ..., {"choices": [], "usage"}, [DONE]

    POST <url>/completions       {"model", "prompt", ...}
    → the same with {"text"} in place of message and delta

An answer is checked before it is believed. Members that are not known are passed over.
"""

import msgspec
from msgspec import UNSET, Raw, UnsetType

from vicinal.errors import GenerationFailed
from vicinal.generation.base import (
    Answer,
    Options,
    Piece,
    Request,
    ToolCall,
    ToolCallPart,
    Usage,
)

CHAT = "/chat/completions"
TEXT = "/completions"


class _StreamOptions(msgspec.Struct):
    include_usage: bool = True


class _Body(msgspec.Struct):
    model: str
    messages: Raw | UnsetType
    prompt: str | UnsetType
    stream: bool | UnsetType
    stream_options: _StreamOptions | UnsetType
    max_tokens: int | UnsetType
    temperature: float | UnsetType
    top_p: float | UnsetType
    top_k: int | UnsetType
    seed: int | UnsetType
    frequency_penalty: float | UnsetType
    presence_penalty: float | UnsetType
    repetition_penalty: float | UnsetType
    stop: Raw | UnsetType
    response_format: Raw | UnsetType
    tools: Raw | UnsetType
    tool_choice: Raw | UnsetType


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: Raw = Raw()  # mostly a string that holds JSON, but some services send the JSON


class _ToolCall(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Message(msgspec.Struct):
    content: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(msgspec.Struct):
    message: _Message | None = None
    delta: _Message | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Said(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Raw | UnsetType = UNSET


class _ErrorBody(msgspec.Struct):
    message: str = ""


class _Failure(msgspec.Struct):
    error: _ErrorBody | str


def path(request: Request) -> str:
    """Return which operation a request is for."""
    return CHAT if request.messages is not None else TEXT


def body(request: Request, model: str) -> bytes:
    """Write a request for the model that is called `model` at the service."""
    options: Options = request.options
    return msgspec.json.encode(
        _Body(
            model=model,
            messages=UNSET if request.messages is None else request.messages,
            prompt=UNSET if request.prompt is None else request.prompt,
            stream=True if request.is_streamed else UNSET,
            stream_options=_StreamOptions() if request.is_streamed else UNSET,
            max_tokens=options.max_tokens,
            temperature=options.temperature,
            top_p=options.top_p,
            top_k=options.top_k,
            seed=options.seed,
            frequency_penalty=options.frequency_penalty,
            presence_penalty=options.presence_penalty,
            repetition_penalty=options.repetition_penalty,
            stop=options.stop,
            response_format=options.response_format,
            tools=options.tools,
            tool_choice=options.tool_choice,
        )
    )


def read_answer(content: bytes) -> Answer:
    """Read a whole answer.

    Raises:
        GenerationFailed: it is none.
    """
    said = _said(content)
    if not said.choices:
        raise GenerationFailed("the service answers without a choice")
    choice = said.choices[0]
    message = choice.message or _Message(content=choice.text)
    calls = [
        ToolCall(
            each.id or f"call_{place}",
            (each.function or _Function()).name or "",
            _arguments(each.function),
        )
        for place, each in enumerate(message.tool_calls or [])
    ]
    text = message.content if message.content is not None or calls else ""
    return Answer(text, calls, _usage(said.usage))


def read_piece(data: bytes) -> Piece:
    """Read the data of an event.

    Raises:
        GenerationFailed: it is no piece of an answer, or says what went wrong.
    """
    said = _said(data)
    if not said.choices:
        return Piece(usage=_usage(said.usage))
    choice = said.choices[0]
    delta = choice.delta or _Message(content=choice.text)
    parts = [
        ToolCallPart(
            place if each.index is None else each.index,
            each.id or "",
            (each.function or _Function()).name or "",
            _arguments(each.function),
        )
        for place, each in enumerate(delta.tool_calls or [])
    ]
    return Piece(delta.content or "", parts, _usage(said.usage), choice.finish_reason is not None)


def check(content: bytes) -> None:
    """Check an answer that is passed on as it is.

    Raises:
        GenerationFailed: it is none, or an error.
    """
    _said(content)


def reason(content: bytes) -> str:
    """Return what an error's body says, or its beginning when that is not OpenAI's form."""
    try:
        error = msgspec.json.decode(content, type=_Failure).error
    except (msgspec.MsgspecError, RecursionError):
        return content[:200].decode(errors="replace").strip()
    return error if isinstance(error, str) else error.message


def _said(content: bytes) -> _Said:
    try:
        said = msgspec.json.decode(content, type=_Said)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise GenerationFailed(f"the service answers with something else: {error}") from None
    if said.error is not UNSET and bytes(said.error) != b"null":
        raise GenerationFailed(f"the service breaks off: {reason(content)}")
    return said


def _arguments(function: _Function | None) -> str:
    raw = bytes(function.arguments) if function is not None else b""
    if raw.startswith(b'"'):
        return msgspec.json.decode(raw, type=str)
    return "" if raw == b"null" else raw.decode()


def _usage(usage: _Usage | None) -> Usage | None:
    return None if usage is None else Usage(usage.prompt_tokens, usage.completion_tokens)

"""OpenAI's chat and text completions, as their client: requests written, answers read.

    POST <url>/chat/completions  {"model", "messages", ...}
    → {"choices": [{"message": {"content", "tool_calls"?}}], "usage"?}, or as events
      {"choices": [{"delta": {...}, "finish_reason"}]}, ..., {"choices": [], "usage"}, [DONE]

    POST <url>/completions       {"model", "prompt", ...}
    → the same with {"text"} in place of message and delta

Answers are checked. Unknown members are ignored.
"""

from typing import Annotated

import msgspec
from msgspec import UNSET, Raw, UnsetType

from vicinal.errors import GenerationFailed
from vicinal.generation.base import Answer, Options, Piece, Request, ToolCall, ToolCallPart, Usage
from vicinal.openai_errors import reason

CHAT = "/chat/completions"
TEXT = "/completions"

TOOL_CALLS_MAX = 128  # of an answer: ours, as many as a request may have tools at OpenAI

_WITH_USAGE = Raw(b'{"include_usage":true}')


class _CompletionRequest(Options, frozen=True, kw_only=True):
    model: str
    messages: Raw | None = None
    prompt: str | None = None
    stream: bool = False
    stream_options: Raw | None = None


class _CompletionFunction(msgspec.Struct):
    name: str | None = None
    arguments: Raw = Raw()  # mostly a string that holds JSON, but some services send the JSON


class _CompletionToolCall(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _CompletionFunction | None = None


class _CompletionMessage(msgspec.Struct):
    content: str | None = None
    tool_calls: (
        Annotated[list[_CompletionToolCall], msgspec.Meta(max_length=TOOL_CALLS_MAX)] | None
    ) = None


class _Choice(msgspec.Struct):
    message: _CompletionMessage | None = None
    delta: _CompletionMessage | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice] = []
    usage: Usage | None = None
    error: Raw | UnsetType = UNSET


def path(request: Request) -> str:
    """Return the path of a request, after the base URL."""
    return CHAT if request.messages is not None else TEXT


def body(request: Request, model: str) -> bytes:
    """Return the body of a request to the model with this name at the service."""
    return msgspec.json.encode(
        _CompletionRequest(
            model=model,
            messages=request.messages,
            prompt=request.prompt,
            stream=request.is_streamed,
            stream_options=_WITH_USAGE if request.is_streamed else None,
            **msgspec.structs.asdict(request.options),
        )
    )


def read_answer(content: bytes) -> Answer:
    """Read a whole answer.

    Raises:
        GenerationFailed: the bytes are no answer, or an error.
    """
    completion = _parse_completion(content)
    if not completion.choices:
        raise GenerationFailed("the service answers without a choice")
    choice = completion.choices[0]
    message = choice.message or _CompletionMessage(content=choice.text)
    calls = [
        ToolCall(
            call.id or f"call_{number}",
            (call.function or _CompletionFunction()).name or "",
            _arguments(call.function),
        )
        for number, call in enumerate(message.tool_calls or [])
    ]
    text = message.content if message.content is not None or calls else ""
    return Answer(text, calls, completion.usage)


def read_piece(data: bytes) -> Piece:
    """Read the data of an event.

    Raises:
        GenerationFailed: the bytes are no piece of an answer, or an error.
    """
    completion = _parse_completion(data)
    if not completion.choices:
        return Piece(usage=completion.usage)
    choice = completion.choices[0]
    delta = choice.delta or _CompletionMessage(content=choice.text)
    parts = [
        ToolCallPart(
            number if call.index is None else call.index,
            call.id or "",
            (call.function or _CompletionFunction()).name or "",
            _arguments(call.function),
        )
        for number, call in enumerate(delta.tool_calls or [])
    ]
    return Piece(delta.content or "", parts, completion.usage, choice.finish_reason is not None)


def check(content: bytes) -> None:
    """Check an answer that is passed on as it is.

    Raises:
        GenerationFailed: the bytes are no answer, or an error.
    """
    _parse_completion(content)


def _parse_completion(content: bytes) -> _Completion:
    try:
        content.decode()  # msgspec does not validate text that it skips
        completion = msgspec.json.decode(content, type=_Completion)
    except RecursionError:
        raise GenerationFailed("the service answers with JSON that is nested too deeply") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise GenerationFailed(f"the service answers with something else: {error}") from None
    if completion.error is not UNSET and bytes(completion.error) != b"null":
        raise GenerationFailed(f"the service breaks off: {reason(content)}")
    return completion


def _arguments(function: _CompletionFunction | None) -> str:
    raw = bytes(function.arguments) if function is not None else b""
    if raw.startswith(b'"'):
        return msgspec.json.decode(raw, type=str)
    return "" if raw == b"null" else raw.decode()

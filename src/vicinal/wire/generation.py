"""Text generation in the form of Workers AI: requests are read, answers and events written.

    {"messages": [{"role", "content"}], "max_tokens"?, "stream"?, "tools"?, ...}
    or {"prompt", "raw"?, ...}
    → {"response": text, "tool_calls": [{"name", "arguments"}], "usage"?}
    → data: {"response": piece, "p": padding} ..., data: [DONE]

OpenAI's form differs in some members: here tools, and calls of tools, may come without the object
around a function, and the schema of a response format has no name. Of a request that is in OpenAI's
form already, only the model and the wish for a stream are read.
"""

import secrets
from collections.abc import Sequence
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType

from vicinal.errors import BadGenerationBody, BadGenerationInput, GenerationFailed
from vicinal.generation.base import Answer, Options, Request, ToolCall, Usage

Body = bytes | bytearray
_T = TypeVar("_T")
_encode = msgspec.json.Encoder().encode

MAX_TOKENS_DEFAULT = 256
"""Source: the platform's model pages."""

_PADDING = "abcdefghijklmnopqrstuvwxyz0123456789"
_NOT_MET = "JSON Mode couldn't be met"

_Integer = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]  # what can be written again
_Tokens = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]


class _ToolFunction(msgspec.Struct):
    name: str
    description: str | UnsetType | None = UNSET
    parameters: Raw | UnsetType = UNSET
    strict: bool | UnsetType | None = UNSET


class _Tool(msgspec.Struct):
    function: _ToolFunction | None = None
    name: str | None = None
    description: str | UnsetType | None = UNSET
    parameters: Raw | UnsetType = UNSET


class _CalledFunction(msgspec.Struct):
    name: str
    arguments: Raw = Raw(b'"{}"')


class _Called(msgspec.Struct):
    id: str | None = None
    function: _CalledFunction | None = None
    name: str | None = None
    arguments: Raw = Raw(b"{}")


class _ChatMessage(msgspec.Struct):
    role: str
    content: Raw | UnsetType = UNSET
    name: str | UnsetType | None = UNSET
    tool_calls: list[_Called] | None = None
    tool_call_id: str | None = None


class _Format(msgspec.Struct):
    type: Literal["json_object", "json_schema", "text"]
    json_schema: Raw | UnsetType = UNSET


class GenerationRequest(msgspec.Struct):
    """A text to generate, from messages or from a prompt."""

    messages: Annotated[list[_ChatMessage], msgspec.Meta(min_length=1)] | None = None
    prompt: str | None = None
    raw: bool | None = None
    stream: bool | None = None
    max_tokens: _Tokens | None = None
    max_completion_tokens: _Tokens | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: _Integer | None = None
    seed: _Integer | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    stop: str | list[str] | None = None
    response_format: _Format | None = None
    tools: list[_Tool] | None = None
    tool_choice: Raw | UnsetType = UNSET


class _Bound(msgspec.Struct):
    inputs: GenerationRequest


class OpenAIGenerationRequest(msgspec.Struct):
    """A request in OpenAI's form; other members are passed on as they are."""

    model: str
    stream: bool | None = None


class _SentFunction(msgspec.Struct):
    name: str
    arguments: str


class _SentCall(msgspec.Struct):
    id: str
    function: _SentFunction
    type: Literal["function"] = "function"


class _SentMessage(msgspec.Struct):
    role: str
    content: Raw | UnsetType
    name: str | UnsetType
    tool_calls: list[_SentCall] | UnsetType
    tool_call_id: str | UnsetType


class _SentTool(msgspec.Struct):
    function: _ToolFunction
    type: Literal["function"] = "function"


class _Schema(msgspec.Struct):
    name: str
    schema: Raw


class _SentFormat(msgspec.Struct):
    type: str
    json_schema: _Schema | Raw | UnsetType = UNSET


class WrittenCallSchema(msgspec.Struct):
    """A function that the model wants to be called."""

    name: str
    arguments: Raw
    id: str


class WrittenUsageSchema(msgspec.Struct):
    """Tokens read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class GeneratedSchema(msgspec.Struct):
    """A generated text; in JSON mode `response` is an object."""

    response: Raw
    tool_calls: list[WrittenCallSchema]
    usage: WrittenUsageSchema | UnsetType = UNSET


class _Piece(msgspec.Struct):
    response: str
    p: str | UnsetType = UNSET
    tool_calls: list[WrittenCallSchema] | UnsetType = UNSET
    usage: WrittenUsageSchema | UnsetType = UNSET


def request(body: Body) -> Request:
    """Read a request for text.

    Raises:
        BadGenerationBody: the body is not JSON.
        BadGenerationInput: it is not of this shape.
    """
    return _request(_decode(body, GenerationRequest))


def binding_request(body: Body) -> Request:
    """Read a request for text of the AI binding: ``{"inputs": as `request`, "options"?}``.

    Raises:
        BadGenerationBody, BadGenerationInput: as `request`.
    """
    return _request(_decode(body, _Bound).inputs)


def openai_request(body: Body) -> OpenAIGenerationRequest:
    """Read the model of a request in OpenAI's form, and whether it is streamed.

    Raises:
        BadGenerationBody, BadGenerationInput: as `request`.
    """
    return _decode(body, OpenAIGenerationRequest)


def renamed(body: Body, model: str) -> bytes:
    """Return a valid request in OpenAI's form with the name of another model."""
    members = msgspec.json.decode(body, type=dict[str, Raw])
    return _encode({**members, "model": model})


def generated(answer: Answer, *, wants_json: bool) -> bytes:
    """Write a whole answer.

    Raises:
        GenerationFailed: with `wants_json`, the text is not JSON.
    """
    return _encode(
        GeneratedSchema(
            _response(answer, wants_json=wants_json),
            [_call(call) for call in answer.tool_calls],
            _usage(answer.usage),
        )
    )


def piece(text: str) -> bytes:
    """Write the data of an event; the padding hides the length of the text."""
    padding = _PADDING[: 1 + secrets.randbelow(len(_PADDING))]
    return _encode(_Piece(text, padding))


def last_piece(tool_calls: Sequence[ToolCall], usage: Usage | None) -> bytes:
    """Write the data of the event after the last text."""
    calls = [_call(call) for call in tool_calls]
    return _encode(_Piece("", tool_calls=calls or UNSET, usage=_usage(usage)))


def _decode(body: Body, shape: type[_T]) -> _T:
    try:
        body.decode()  # msgspec does not validate text that it skips
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as error:
        raise BadGenerationInput(f"Error: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise BadGenerationBody(reason) from None


def _request(request: GenerationRequest) -> Request:
    if request.messages is None and request.prompt is None:
        raise BadGenerationInput("Error: Object missing required field `messages` or `prompt`")
    if request.raw and request.messages is not None:
        raise BadGenerationInput("Error: `raw` is for a `prompt`, and there are `messages`")
    wants_json = request.response_format is not None and request.response_format.type != "text"
    if wants_json and request.stream:
        raise BadGenerationInput("Error: a `response_format` of JSON cannot be streamed")
    messages = request.messages
    if messages is None and not request.raw:
        messages = [_ChatMessage("user", Raw(_encode(request.prompt)))]
    return Request(
        messages=None if messages is None else Raw(_encode(_sent_messages(messages))),
        prompt=request.prompt if messages is None else None,
        options=_options(request),
        is_streamed=bool(request.stream),
        wants_json=wants_json,
    )


def _options(request: GenerationRequest) -> Options:
    form, tools = request.response_format, request.tools
    return Options(
        max_tokens=request.max_tokens or request.max_completion_tokens or MAX_TOKENS_DEFAULT,
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        seed=request.seed,
        frequency_penalty=request.frequency_penalty,
        presence_penalty=request.presence_penalty,
        repetition_penalty=request.repetition_penalty,
        stop=None if request.stop is None else Raw(_encode(request.stop)),
        response_format=None if form is None else Raw(_encode(_sent_format(form))),
        tools=Raw(_encode([_sent_tool(tool) for tool in tools])) if tools else None,
        tool_choice=(request.tool_choice or None) if tools else None,
    )


def _sent_messages(messages: Sequence[_ChatMessage]) -> list[_SentMessage]:
    """Return messages in OpenAI's form: calls and their results have ids, given in order."""
    sent = []
    open_ids: list[str] = []
    count = 0
    for message in messages:
        calls = []
        for call in message.tool_calls or []:
            call_id = call.id or f"call_{count}"
            count += 1
            open_ids.append(call_id)
            calls.append(_SentCall(call_id, _sent_call(call)))
        answered = message.tool_call_id
        if answered is None and message.role == "tool" and open_ids:
            answered = open_ids[0]
        if answered in open_ids:
            open_ids.remove(answered)
        sent.append(
            _SentMessage(
                message.role,
                message.content,
                message.name or UNSET,
                calls or UNSET,
                UNSET if answered is None else answered,
            )
        )
    return sent


def _sent_call(call: _Called) -> _SentFunction:
    name = call.function.name if call.function is not None else call.name
    raw = bytes(call.function.arguments if call.function is not None else call.arguments)
    if name is None:
        raise BadGenerationInput("Error: an item of `tool_calls` names no function")
    is_text = raw.startswith(b'"')
    return _SentFunction(name, msgspec.json.decode(raw, type=str) if is_text else raw.decode())


def _sent_tool(tool: _Tool) -> _SentTool:
    if tool.function is not None:
        return _SentTool(tool.function)
    if tool.name is None:
        raise BadGenerationInput("Error: an item of `tools` names no function")
    return _SentTool(_ToolFunction(tool.name, tool.description, tool.parameters))


def _sent_format(form: _Format) -> _SentFormat:
    if form.type != "json_schema":
        return _SentFormat(form.type)
    try:
        members = msgspec.json.decode(form.json_schema or b"", type=dict[str, Raw])
    except msgspec.MsgspecError:
        raise BadGenerationInput("Error: response_format.json_schema is not an object") from None
    if "schema" in members:  # OpenAI's form already
        return _SentFormat(form.type, form.json_schema)
    return _SentFormat(form.type, _Schema("response", Raw(_encode(members))))


def _response(answer: Answer, *, wants_json: bool) -> Raw:
    if not wants_json or answer.text is None:
        return Raw(_encode(answer.text))
    try:
        return Raw(_encode(msgspec.json.decode(answer.text.strip())))
    except (msgspec.MsgspecError, RecursionError):
        raise GenerationFailed(_NOT_MET) from None


def _call(call: ToolCall) -> WrittenCallSchema:
    try:
        arguments = _encode(msgspec.json.decode(call.arguments or "{}"))
    except (msgspec.MsgspecError, RecursionError):
        arguments = _encode(call.arguments)  # the client that reads the call can see the fault
    return WrittenCallSchema(call.name, Raw(arguments), call.id)


def _usage(usage: Usage | None) -> WrittenUsageSchema | UnsetType:
    if usage is None:
        return UNSET
    read, written = usage.prompt_tokens, usage.completion_tokens
    return WrittenUsageSchema(read, written, read + written)

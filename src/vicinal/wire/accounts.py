"""Results of the routes around the API proper: accounts, the user, the list of models.

Tools call these routes first (wrangler for the account, `whoami` for the user). Members are those
that the official SDKs declare as required, and those that wrangler prints.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

_encode = msgspec.json.Encoder().encode


def _uuid(name: str) -> str:
    """Return an id that depends on the name alone, so that it is the same on every machine."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"vicinal/{name}"))


class AccountSchema(msgspec.Struct, frozen=True):
    """An account as the list of accounts has it."""

    id: str
    name: str
    type: Literal["standard"] = "standard"


class MembershipSchema(msgspec.Struct, frozen=True):
    """The caller's place in an account."""

    id: str
    account: AccountSchema
    status: Literal["accepted"] = "accepted"
    roles: tuple[str, ...] = ()


class UserSchema(msgspec.Struct, frozen=True):
    """Whom a token belongs to."""

    id: str
    email: str


class VerificationSchema(msgspec.Struct, frozen=True):
    """That a token is good."""

    id: str
    status: Literal["active"] = "active"


class CallerSchema(msgspec.Struct, frozen=True, rename="camel"):
    """The permission of the caller, for one account or for all where `account` is null.
    `defaultAccount` is the account of tools that name none. An extension."""

    permission: Literal["read", "write"]
    account: str | None
    default_account: str
    is_token_needed: bool
    version: str


class TaskSchema(msgspec.Struct, frozen=True):
    """A task that models perform."""

    id: str
    name: str
    description: str


def _task(name: str, description: str) -> TaskSchema:
    return TaskSchema(_uuid(f"task/{name}"), name, description)


TEXT_EMBEDDINGS = _task("Text Embeddings", "Turns texts into vectors.")
TEXT_GENERATION = _task("Text Generation", "Continues texts.")


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the list of models; None stands for an unknown number."""

    name: str
    dimensions: int | None
    max_tokens: int | None
    task: TaskSchema = TEXT_EMBEDDINGS


class PropertySchema(msgspec.Struct, frozen=True):
    """A fact about a model; numbers are strings too."""

    property_id: str
    value: str


class ListedModelSchema(msgspec.Struct, frozen=True):
    """A model as the list of models has it."""

    id: str
    source: int
    name: str
    description: str
    task: TaskSchema
    tags: tuple[str, ...]
    properties: tuple[PropertySchema, ...]


class OpenAIModelSchema(msgspec.Struct, frozen=True):
    """A model as OpenAI's clients read it."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "vicinal"


class OpenAIModelListSchema(msgspec.Struct, frozen=True):
    """A list of models as OpenAI's clients read it."""

    data: tuple[OpenAIModelSchema, ...]
    object: Literal["list"] = "list"


def accounts(ids: Sequence[str]) -> bytes:
    """Write accounts; their names are their ids."""
    return _encode([AccountSchema(id, id) for id in ids])


def memberships(ids: Sequence[str]) -> bytes:
    """Write the caller's memberships in these accounts."""
    return _encode(
        [MembershipSchema(_uuid(f"membership/{id}"), AccountSchema(id, id)) for id in ids]
    )


def user(name: str) -> bytes:
    """Write the user; the address is one that no mail can reach."""
    return _encode(UserSchema(_uuid(f"user/{name}"), f"{name}@localhost"))


def verification(token_id: str) -> bytes:
    """Write that a token is good."""
    return _encode(VerificationSchema(token_id))


def caller(
    permission: Literal["read", "write"],
    account: str | None,
    default_account: str,
    version: str,
    *,
    is_token_needed: bool,
) -> bytes:
    """Write what a caller may do."""
    return _encode(CallerSchema(permission, account, default_account, is_token_needed, version))


def models(models: Sequence[Model]) -> bytes:
    """Write the list of models."""
    return _encode(
        [
            ListedModelSchema(
                id=_uuid(f"model/{model.name}"),
                source=1,
                name=model.name,
                description=_description(model),
                task=model.task,
                tags=(),
                properties=_properties(model),
            )
            for model in models
        ]
    )


def openai_models(names: Sequence[str]) -> bytes:
    """Write the list of models in OpenAI's form."""
    return _encode(OpenAIModelListSchema(tuple(OpenAIModelSchema(name) for name in names)))


def openai_model(name: str) -> bytes:
    """Write one model in OpenAI's form."""
    return _encode(OpenAIModelSchema(name))


_GENERATION: dict[str, Any] = {
    "input": {
        "type": "object",
        "oneOf": [{"required": ["messages"]}, {"required": ["prompt"]}],
        "properties": {
            "messages": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "properties": {"role": {"type": "string"}, "content": {}},
                    "required": ["role"],
                },
            },
            "prompt": {"type": "string"},
            "stream": {"type": "boolean"},
            "max_tokens": {"type": "integer", "minimum": 1},
        },
    },
    "output": {
        "type": "object",
        "properties": {"response": {}, "tool_calls": {"type": "array"}, "usage": {}},
        "required": ["response", "tool_calls"],
    },
}


def model_schema(model: Model) -> bytes:
    """Write the input and the output of a model, as JSON Schema."""
    if model.task == TEXT_GENERATION:
        return _encode(_GENERATION)
    text = {"type": "string"}
    vector: dict[str, Any] = {"type": "array", "items": {"type": "number"}}
    if model.dimensions is not None:
        vector |= {"minItems": model.dimensions, "maxItems": model.dimensions}
    pooling = {"type": "string", "enum": ["mean", "cls"]}
    return _encode(
        {
            "input": {
                "type": "object",
                "properties": {
                    "text": {"oneOf": [text, {"type": "array", "items": text, "minItems": 1}]},
                    "pooling": pooling,
                },
                "required": ["text"],
            },
            "output": {
                "type": "object",
                "properties": {
                    "shape": {"type": "array", "items": {"type": "integer"}},
                    "data": {"type": "array", "items": vector},
                    "pooling": pooling,
                },
                "required": ["shape", "data"],
            },
        }
    )


def _description(model: Model) -> str:
    if model.task == TEXT_GENERATION:
        return "Generates text, at another service."
    if model.dimensions is None:
        return "Embeds texts."
    return f"Embeds texts as vectors of {model.dimensions} dimensions."


def _properties(model: Model) -> tuple[PropertySchema, ...]:
    facts = (("context_window", model.max_tokens), ("output_dimensions", model.dimensions))
    return tuple(PropertySchema(name, str(value)) for name, value in facts if value is not None)

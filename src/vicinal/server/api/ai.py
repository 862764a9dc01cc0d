"""Running models: text embeddings in Workers AI's form and OpenAI's, and what models there are.

Other models are passed on, if anybody generates text (`chat`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from vicinal.embeddings.base import Embedding, Pooling
from vicinal.errors import (
    BadEmbeddingBody,
    BadEmbeddingInput,
    BadGenerationBody,
    BadGenerationInput,
    BadParameter,
    BodyTooLarge,
    GenerationFailed,
    ModelNotFound,
    Overloaded,
    Unavailable,
)
from vicinal.limits import Limits
from vicinal.server.api import chat
from vicinal.server.api.accounts import PAGING, page_of
from vicinal.server.api.calls import Call, Route, large_body
from vicinal.server.api.paths import AI
from vicinal.server.concurrency import off_loop, unless_disconnected
from vicinal.server.http.response import Reply
from vicinal.tokens import Permission
from vicinal.wire import accounts, envelope, generation, requests, responses, shapes
from vicinal.wire.openapi import Operation, Parameter

T = TypeVar("T")

EmbeddingReader = Callable[[bytes | bytearray, Limits], requests.EmbeddingRequest]


@dataclass(frozen=True, slots=True)
class Readers:
    """How bodies are read on a way to run models, by what the model does."""

    embedding: EmbeddingReader
    generation: chat.RequestReader


_REST = Readers(requests.embedding, generation.request)


async def run(call: Call) -> Reply:
    """Run the model that the path names."""
    return await run_model(call, _REST)


async def run_model(call: Call, readers: Readers) -> Reply:
    """Run the model that the call's parameters name.

    The model comes first: what a body must be depends on it.
    """
    name = call.parameters["model_name"]
    if name not in call.services.embedder.names():
        return await chat.generate(call, name, readers.generation)
    asked = await _read(call, readers.embedding)
    pooling = Pooling(asked.pooling) if asked.pooling is not None else None
    made = await embed(call, name, asked.texts, pooling)
    return Reply(responses.embedding(made.values, made.pooling))


async def openai_embeddings(call: Call) -> Reply:
    """Embed texts with the model that the body names."""
    asked = await _read(call, requests.openai_embedding)
    made = await embed(call, asked.model, asked.texts, None)
    dimensions = made.values.shape[1]
    if asked.dimensions not in (None, dimensions):
        raise BadEmbeddingInput(
            f"{asked.model} makes vectors of {dimensions} dimensions, not {asked.dimensions}"
        )
    return Reply(
        responses.openai_embedding(
            made.values, model=asked.model, encoding=asked.encoding, token_count=made.token_count
        )
    )


async def _read(call: Call, read: Callable[[bytes | bytearray, Limits], T]) -> T:
    return await off_loop(
        len(call.body), call.services.workers, lambda: read(call.body, call.services.limits)
    )


async def embed(call: Call, model: str, texts: Sequence[str], pooling: Pooling | None) -> Embedding:
    """Embed texts off the event loop; a client that goes gives up its place in the queue."""
    embedder = call.services.embedder
    work = call.services.embedding_workers.run(lambda: embedder.embed(model, texts, pooling))
    made = await unless_disconnected(call.receive, work)
    call.services.metrics.embedded(model, len(texts), made.token_count)
    return made


async def openai_models(call: Call) -> Reply:
    """Return the models that can be run, as OpenAI lists them."""
    return Reply(accounts.openai_models(_names(call)))


async def openai_model(call: Call) -> Reply:
    """Return one of them."""
    name = call.parameters["model_name"]
    if name not in _names(call):
        raise chat.not_found(call, name)
    return Reply(accounts.openai_model(name))


async def search_models(call: Call) -> Reply:
    """Return the models that can be run, by name; ``search`` and ``task`` narrow it down."""
    wanted = call.query.get("search", "").lower()
    task = call.query.get("task", "").lower()
    found = [
        each
        for each in await _models(call)
        if wanted in each.name.lower() and task in ("", each.task.name.lower())
    ]
    return Reply(accounts.models(page_of(call, found)))


async def model_schema(call: Call) -> Reply:
    """Return what a model takes and gives."""
    name = call.query.get("model", "")
    for each in await _models(call):
        if each.name == name:
            return Reply(accounts.model_schema(each))
    raise chat.not_found(call, name)


def _names(call: Call) -> list[str]:
    return [*call.services.embedder.names(), *_generating(call)]


def _generating(call: Call) -> Sequence[str]:
    generator = call.services.generator
    return () if generator is None else generator.config.names.listed()


async def _models(call: Call) -> list[accounts.Model]:
    infos = await call.services.workers.run(call.services.embedder.models)
    return [
        *(accounts.Model(each.name, each.dimensions, each.max_tokens) for each in infos),
        *(accounts.Model(name, None, None, accounts.TEXT_GENERATION) for name in _generating(call)),
    ]


_ERRORS = (
    BadEmbeddingBody,
    BadEmbeddingInput,
    ModelNotFound,
    BodyTooLarge,
    Overloaded,
    Unavailable,
)

ROUTES = (
    Route(
        Operation(
            method="POST",
            path=f"{AI}/run/{{model_name}}",
            operation_id="run_model",
            summary="Run a model: embed texts in this form, or generate text in another",
            request=shapes.EmbeddingRequest,
            response=shapes.Embedding,
            errors=(*_ERRORS, BadGenerationBody, BadGenerationInput, GenerationFailed),
        ),
        run,
        Permission.READ,
        large_body,
        takes_rest=True,
    ),
    Route(
        Operation(
            method="POST",
            path=f"{AI}/v1/embeddings",
            operation_id="openai_embeddings",
            summary="Embed texts, in OpenAI's form",
            request=shapes.OpenAIEmbeddingRequest,
            response=shapes.OpenAIEmbeddingList,
            errors=_ERRORS,
            is_enveloped=False,
        ),
        openai_embeddings,
        Permission.READ,
        large_body,
        form=envelope.OPENAI,
    ),
    Route(
        Operation(
            method="GET",
            path=f"{AI}/v1/models",
            operation_id="openai_models",
            summary="List the models, in OpenAI's form",
            response=accounts.OpenAIModelList,
            is_enveloped=False,
        ),
        openai_models,
        Permission.READ,
        form=envelope.OPENAI,
    ),
    Route(
        Operation(
            method="GET",
            path=f"{AI}/v1/models/{{model_name}}",
            operation_id="openai_model",
            summary="Tell of one model, in OpenAI's form",
            response=accounts.OpenAIModel,
            errors=(ModelNotFound,),
            is_enveloped=False,
        ),
        openai_model,
        Permission.READ,
        takes_rest=True,
        form=envelope.OPENAI,
    ),
    Route(
        Operation(
            method="GET",
            path=f"{AI}/models/search",
            operation_id="search_models",
            summary="List the models",
            response=list[accounts.ListedModel],
            errors=(BadParameter,),
            parameters=(
                Parameter("search", str, "Part of a model's name."),
                Parameter("task", str, "What the models are to do, such as `Text Embeddings`."),
                *PAGING,
            ),
        ),
        search_models,
        Permission.READ,
    ),
    Route(
        Operation(
            method="GET",
            path=f"{AI}/models/schema",
            operation_id="model_schema",
            summary="Tell what a model takes and gives",
            errors=(ModelNotFound,),
            parameters=(Parameter("model", str, "The model's name."),),
        ),
        model_schema,
        Permission.READ,
    ),
)

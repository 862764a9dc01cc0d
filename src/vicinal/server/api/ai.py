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
from vicinal.server.api.paths import AI
from vicinal.server.api.request import ApiRequest
from vicinal.server.api.routing import Route, large_body
from vicinal.server.concurrency import off_loop, unless_disconnected
from vicinal.server.http.response import Response
from vicinal.tokens import Permission
from vicinal.wire import accounts, envelope, generation, requests, responses, schemas
from vicinal.wire.openapi import Operation, Parameter

T = TypeVar("T")

EmbeddingReader = Callable[[bytes | bytearray, Limits], requests.EmbeddingParameters]


@dataclass(frozen=True, slots=True)
class Readers:
    """How bodies are read on a way to run models, by what the model does."""

    embedding: EmbeddingReader
    generation: chat.RequestReader


_REST = Readers(requests.embedding, generation.request)


async def run(request: ApiRequest) -> Response:
    """Run the model that the path names."""
    return await run_model(request, _REST)


async def run_model(request: ApiRequest, readers: Readers) -> Response:
    """Run the model that the call's parameters name.

    The model comes first: what a body must be depends on it.
    """
    name = request.parameters["model_name"]
    if name not in request.services.embedder.names():
        return await chat.generate(request, name, readers.generation)
    asked = await _read(request, readers.embedding)
    pooling = Pooling(asked.pooling) if asked.pooling is not None else None
    made = await embed(request, name, asked.texts, pooling)
    return Response(responses.embedding(made.values, made.pooling))


async def openai_embeddings(request: ApiRequest) -> Response:
    """Embed texts with the model that the body names."""
    asked = await _read(request, requests.openai_embedding)
    made = await embed(request, asked.model, asked.texts, None)
    dimensions = made.values.shape[1]
    if asked.dimensions not in (None, dimensions):
        raise BadEmbeddingInput(
            f"{asked.model} makes vectors of {dimensions} dimensions, not {asked.dimensions}"
        )
    return Response(
        responses.openai_embedding(
            made.values, model=asked.model, encoding=asked.encoding, token_count=made.token_count
        )
    )


async def _read(request: ApiRequest, read: Callable[[bytes | bytearray, Limits], T]) -> T:
    return await off_loop(
        len(request.body),
        request.services.workers,
        lambda: read(request.body, request.services.limits),
    )


async def embed(
    request: ApiRequest, model: str, texts: Sequence[str], pooling: Pooling | None
) -> Embedding:
    """Embed texts off the event loop; a client that goes gives up its place in the queue."""
    embedder = request.services.embedder
    work = request.services.embedding_workers.run(lambda: embedder.embed(model, texts, pooling))
    made = await unless_disconnected(request.receive, work)
    request.services.metrics.embedded(model, len(texts), made.token_count)
    return made


async def openai_models(request: ApiRequest) -> Response:
    """Return the models that can be run, as OpenAI lists them."""
    return Response(accounts.openai_models(_names(request)))


async def openai_model(request: ApiRequest) -> Response:
    """Return one of them."""
    name = request.parameters["model_name"]
    if name not in _names(request):
        raise chat.not_found(request, name)
    return Response(accounts.openai_model(name))


async def search_models(request: ApiRequest) -> Response:
    """Return the models that can be run, by name; ``search`` and ``task`` narrow it down."""
    wanted = request.query.get("search", "").lower()
    task = request.query.get("task", "").lower()
    found = [
        each
        for each in await _models(request)
        if wanted in each.name.lower() and task in ("", each.task.name.lower())
    ]
    return Response(accounts.models(page_of(request, found)))


async def model_schema(request: ApiRequest) -> Response:
    """Return what a model takes and gives."""
    name = request.query.get("model", "")
    for each in await _models(request):
        if each.name == name:
            return Response(accounts.model_schema(each))
    raise chat.not_found(request, name)


def _names(request: ApiRequest) -> list[str]:
    return [*request.services.embedder.names(), *_generating(request)]


def _generating(request: ApiRequest) -> Sequence[str]:
    generator = request.services.generator
    return () if generator is None else generator.config.names.listed()


async def _models(request: ApiRequest) -> list[accounts.Model]:
    infos = await request.services.workers.run(request.services.embedder.models)
    return [
        *(accounts.Model(each.name, each.dimensions, each.max_tokens) for each in infos),
        *(
            accounts.Model(name, None, None, accounts.TEXT_GENERATION)
            for name in _generating(request)
        ),
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
            request=schemas.EmbeddingRequest,
            response=schemas.EmbeddingSchema,
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
            request=schemas.OpenAIEmbeddingRequest,
            response=schemas.OpenAIEmbeddingListSchema,
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
            response=accounts.OpenAIModelListSchema,
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
            response=accounts.OpenAIModelSchema,
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
            response=list[accounts.ListedModelSchema],
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

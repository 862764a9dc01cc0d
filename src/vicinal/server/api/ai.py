"""Models: text embeddings in Workers AI's form and OpenAI's, and lists of models.

Requests for other models are passed on to a service that generates text, if there is one (`chat`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
from vicinal.model import Floats
from vicinal.server.api import chat
from vicinal.server.api.accounts import PAGING, page_of
from vicinal.server.api.paths import AI
from vicinal.server.api.request import ApiRequest
from vicinal.server.api.routing import RouteTable, large_body
from vicinal.server.concurrency import unless_disconnected
from vicinal.server.http.response import Response
from vicinal.tokens import Permission
from vicinal.wire import (
    accounts,
    envelope,
    generation,
    requests,
    reranking,
    responses,
    schemas,
)
from vicinal.wire.openapi import Parameter

_ERRORS = (
    BadEmbeddingBody,
    BadEmbeddingInput,
    ModelNotFound,
    BodyTooLarge,
    Overloaded,
    Unavailable,
)

ROUTES = RouteTable()

RerankingReader = Callable[[bytes | bytearray, Limits], reranking.RerankingParameters]
EmbeddingReader = Callable[[bytes | bytearray, Limits], requests.EmbeddingParameters]


@dataclass(frozen=True, slots=True)
class Readers:
    """Readers of the bodies of one way to run models, by the kind of model."""

    embedding: EmbeddingReader
    generation: chat.RequestReader
    reranking: RerankingReader


_REST = Readers(requests.embedding, generation.request, reranking.request)


@ROUTES.add(
    "POST",
    f"{AI}/run/{{model_name}}",
    Permission.READ,
    large_body,
    request=schemas.EmbeddingRequest,
    response=schemas.EmbeddingSchema,
    errors=(*_ERRORS, BadGenerationBody, BadGenerationInput, GenerationFailed),
    takes_rest=True,
)
async def run_model(request: ApiRequest) -> Response:
    """Run a model: embed texts in this form, or generate text in another."""
    return await run_with(request, _REST)


async def run_with(request: ApiRequest, readers: Readers) -> Response:
    """Run the model that the parameter ``model_name`` names.

    The model comes first: it decides how the body is read.
    """
    name = request.parameters["model_name"]
    if name not in request.services.embedder.names():
        if name in await reranker_names(request):
            return await _rank(request, name, readers.reranking)
        return await chat.generate(request, name, readers.generation)
    limits = request.services.limits
    body = await request.run_on_body(lambda: readers.embedding(request.body, limits))
    pooling = Pooling(body.pooling) if body.pooling is not None else None
    embedding = await embed(request, name, body.texts, pooling)
    return Response(responses.embedding(embedding.values, embedding.pooling))


async def reranker_names(request: ApiRequest) -> Sequence[str]:
    """Return the names of the models that rank texts here."""
    reranker = request.services.reranker
    # Files are looked for.
    return () if reranker is None else await request.services.workers.run(reranker.names)


async def rerank(request: ApiRequest, model: str, query: str, texts: Sequence[str]) -> Floats:
    """Score texts against a query in a thread; when its client goes, a request leaves the queue."""
    reranker = request.services.reranker
    if reranker is None:
        raise chat.not_found(request, model)
    work = request.services.reranking_workers.run(lambda: reranker.rerank(model, query, texts))
    return await unless_disconnected(request.receive, work)


async def _rank(request: ApiRequest, model: str, read: RerankingReader) -> Response:
    limits = request.services.limits
    body = await request.run_on_body(lambda: read(request.body, limits))
    scores = await rerank(request, model, body.query, body.texts)
    return Response(reranking.ranked(scores, body.top_k))


@ROUTES.add(
    "POST",
    f"{AI}/v1/embeddings",
    Permission.READ,
    large_body,
    request=schemas.OpenAIEmbeddingRequest,
    response=schemas.OpenAIEmbeddingListSchema,
    errors=_ERRORS,
    form=envelope.OPENAI,
)
async def openai_embeddings(request: ApiRequest) -> Response:
    """Embed texts, in OpenAI's form."""
    limits = request.services.limits
    body = await request.run_on_body(lambda: requests.openai_embedding(request.body, limits))
    embedding = await embed(request, body.model, body.texts, None)
    dimensions = embedding.values.shape[1]
    if body.dimensions not in (None, dimensions):
        raise BadEmbeddingInput(
            f"{body.model} makes vectors of {dimensions} dimensions, not {body.dimensions}"
        )
    return Response(
        responses.openai_embedding(
            embedding.values,
            model=body.model,
            encoding=body.encoding,
            token_count=embedding.token_count,
        )
    )


async def embed(
    request: ApiRequest, model: str, texts: Sequence[str], pooling: Pooling | None
) -> Embedding:
    """Embed texts in a thread; when its client goes, a request leaves the queue."""
    embedder = request.services.embedder
    work = request.services.embedding_workers.run(lambda: embedder.embed(model, texts, pooling))
    embedding = await unless_disconnected(request.receive, work)
    request.services.metrics.embedded(model, len(texts), embedding.token_count)
    return embedding


@ROUTES.add(
    "GET",
    f"{AI}/v1/models",
    Permission.READ,
    response=accounts.OpenAIModelListSchema,
    form=envelope.OPENAI,
)
async def openai_models(request: ApiRequest) -> Response:
    """List the models, in OpenAI's form."""
    return Response(accounts.openai_models(_names(request)))


@ROUTES.add(
    "GET",
    f"{AI}/v1/models/{{model_name}}",
    Permission.READ,
    response=accounts.OpenAIModelSchema,
    errors=(ModelNotFound,),
    takes_rest=True,
    form=envelope.OPENAI,
)
async def openai_model(request: ApiRequest) -> Response:
    """Tell of one model, in OpenAI's form."""
    name = request.parameters["model_name"]
    if name not in _names(request):
        raise chat.not_found(request, name)
    return Response(accounts.openai_model(name))


@ROUTES.add(
    "GET",
    f"{AI}/models/search",
    Permission.READ,
    response=list[accounts.ListedModelSchema],
    errors=(BadParameter,),
    parameters=(
        Parameter("search", str, "Part of a model's name."),
        Parameter("task", str, "What the models are to do, such as `Text Embeddings`."),
        *PAGING,
    ),
)
async def search_models(request: ApiRequest) -> Response:
    """List the models; those that embed come first where their files are here."""
    wanted = request.query.get("search", "").lower()
    task = request.query.get("task", "").lower()
    matches = [
        model
        for model in await _models(request)
        if wanted in model.name.lower() and task in ("", model.task.name.lower())
    ]
    return Response(accounts.models(page_of(request, matches)))


@ROUTES.add(
    "GET",
    f"{AI}/models/schema",
    Permission.READ,
    errors=(ModelNotFound,),
    parameters=(Parameter("model", str, "The model's name."),),
)
async def model_schema(request: ApiRequest) -> Response:
    """Tell what a model takes and gives."""
    name = request.query.get("model", "")
    for model in await _models(request):
        if model.name == name:
            return Response(accounts.model_schema(model))
    raise chat.not_found(request, name)


def _names(request: ApiRequest) -> list[str]:
    return [*request.services.embedder.names(), *_generating(request)]


def _generating(request: ApiRequest) -> Sequence[str]:
    generator = request.services.generator
    return () if generator is None else generator.config.names.listed()


async def _models(request: ApiRequest) -> list[accounts.Model]:
    infos = await request.services.workers.run(request.services.embedder.models)
    infos = sorted(infos, key=lambda info: not info.is_available)
    return [
        *(accounts.Model(info.name, info.dimensions, info.max_tokens) for info in infos),
        *(
            accounts.Model(name, None, None, accounts.TEXT_GENERATION)
            for name in _generating(request)
        ),
    ]

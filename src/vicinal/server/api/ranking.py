"""Queries that need models: a text that is embedded, and matches that a model ranks again."""

from dataclasses import replace

from vicinal.errors import BadRanking
from vicinal.model import Query, QueryResult
from vicinal.server.api import ai
from vicinal.server.api.request import ApiRequest


def may_need_models(body: bytes | bytearray) -> bool:
    """Tell whether a body may be of such a query; nearly all others are told apart at once."""
    return b'"text"' in body or b"\\u" in body


def needs_models(query: Query) -> bool:
    """Tell whether a query is one."""
    return query.reranking is not None or (query.text is not None and query.text.needs_vector)


async def answer(request: ApiRequest, query: Query) -> QueryResult:
    """Answer such a query.

    Raises:
        BadRanking: the index names no model.
        ModelNotFound, Overloaded, Unavailable: as for embeddings.
    """
    text, services = query.text, request.services
    assert text is not None
    if text.needs_vector:
        embedding = await ai.embed(request, _model(request), [text.text], None)
        text = replace(text, needs_vector=False)
        query = replace(query, vector=embedding.values[0], text=text)
    address = request.address
    return await services.workers.run(lambda: services.engine.query(address, query))


def _model(request: ApiRequest) -> str:
    """Return the model whose vectors the index holds."""
    config = request.named_index.config
    preset = config.preset if config.preset in request.services.embedder.names() else None
    model = config.model or preset
    if model is None:
        raise BadRanking(
            "hybrid: it is not known which model made the vectors of the index; give the vector of "
            "the text, or create the index with a model"
        )
    return model

"""Queries that need models: a text that is embedded, and matches that a model ranks again."""

from dataclasses import replace

from vicinal import metadata
from vicinal.errors import BadRanking
from vicinal.model import Query, QueryResult
from vicinal.server.api import ai
from vicinal.server.api.request import ApiRequest


class NeedsModels(Exception):
    """A query cannot be prepared before models have been asked, which may take seconds."""

    def __init__(self, query: Query) -> None:
        super().__init__("the query needs models")
        self.query = query


def needs_models(query: Query) -> bool:
    """Tell whether a query is one."""
    return query.reranking is not None or (query.text is not None and query.text.needs_vector)


async def answer(request: ApiRequest, query: Query) -> QueryResult:
    """Answer such a query.

    Raises:
        BadRanking: the index names no model, or no model ranks here.
        ModelNotFound, Overloaded, Unavailable: as for embeddings.
    """
    text, services = query.text, request.services
    assert text is not None
    if text.needs_vector:
        embedding = await ai.embed(request, _model(request), [text.text], None)
        text = replace(text, needs_vector=False)
        query = replace(query, vector=embedding.values[0], text=text)
    reranking, address, top_k = query.reranking, request.address, query.top_k
    if reranking is None:
        return await services.workers.run(lambda: services.engine.query(address, query))
    model = await _reranker(request, reranking.model)
    candidates = replace(
        query,
        reranking=None,
        top_k=reranking.candidate_count,
        passage_property=reranking.property_name,
    )
    result = await services.workers.run(lambda: services.engine.query(address, candidates))
    return await _reranked(request, model, text.text, result, top_k)


async def _reranker(request: ApiRequest, named: str | None) -> str:
    """Return the model that ranks: the one that is named, or the first."""
    names = await ai.reranker_names(request)
    if not names or named not in (None, *names):
        known = ", ".join(names) or "none"
        raise BadRanking(
            f"rerank.model: {metadata.shown(named or '')} cannot be run here; known are {known}, "
            "and the settings model_folders and reranking_url add others"
        )
    return names[0] if named is None else named


async def _reranked(
    request: ApiRequest, model: str, text: str, result: QueryResult, top_k: int
) -> QueryResult:
    """Return the best matches by the model, ties by id; their scores are the model's."""
    if not result.matches:
        return result
    scores = await ai.rerank(request, model, text, [m.passage or "" for m in result.matches])
    scored = sorted(
        zip(scores.tolist(), result.matches, strict=True), key=lambda pair: (-pair[0], pair[1].id)
    )
    matches = tuple(
        replace(
            match,
            score=score,
            passage=None,
            scores=None if match.scores is None else replace(match.scores, rerank=score),
        )
        for score, match in scored[:top_k]
    )
    return replace(result, matches=matches)


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

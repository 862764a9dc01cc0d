"""The members of a query that are ours: words, fusion, diversity, groups, reranking.

A query without any of them is read without this module.
"""

from dataclasses import replace

from vicinal import errors, metadata
from vicinal.keywords import analyzer
from vicinal.limits import Limits
from vicinal.model import IndexType, Query
from vicinal.ranking import (
    WEIGHT_MAX,
    WEIGHT_MIN,
    Diversity,
    Fusion,
    Grouping,
    Reranking,
    TextQuery,
)
from vicinal.wire import ranking_schemas, schemas
from vicinal.wire.reasons import FAILED

CANDIDATES_DEFAULT = 4  # times topK, and at least the next number: ours
CANDIDATES_MIN = 20


def is_extended(request: schemas.QueryRequest) -> bool:
    """Tell whether a query has any of these members."""
    return (
        request.text is not None
        or request.mmr is not None
        or request.group_by is not None
        or bool(request.return_scores)
        or _needs_text(request) is not None
    )


def extended(query: Query, request: schemas.QueryRequest, limits: Limits) -> Query:
    """Return a query with these members.

    Raises:
        BadBody: one of them cannot be.
    """
    member = _needs_text(request)
    if request.text is None and member is not None:
        raise _bad(member, "needs text beside it")
    return replace(
        query,
        text=None if request.text is None else _text(request.text, query, request, limits),
        diversity=None if request.mmr is None else _diversity(request.mmr, query.top_k, limits),
        grouping=None if request.group_by is None else _grouping(request.group_by, limits),
        reranking=None if request.rerank is None else _reranking(request.rerank, query, limits),
        return_scores=bool(request.return_scores),
        return_highlights=bool(request.return_highlights),
    )


def checked_language(request: schemas.CreateMetadataIndexRequest) -> str | None:
    """Return the language of a metadata index that is to be created.

    Raises:
        BadBody: the index is not of texts, or the language is unknown.
    """
    language = request.language
    if language is None:
        return None
    if request.index_type is not IndexType.TEXT:
        raise _bad("language", f"an index of type {request.index_type.value} has none")
    known = analyzer.languages()
    if language not in known:
        raise _bad("language", f"{metadata.shown(language)} is none of {', '.join(known)}")
    return language


def _needs_text(request: schemas.QueryRequest) -> str | None:
    """Return a member that means nothing without a text, if there is one."""
    if request.text_weights is not None:
        return "textWeights"
    if request.hybrid is not None and request.hybrid is not False:
        return "hybrid"
    if request.rerank is not None:
        return "rerank"
    return "returnHighlights" if request.return_highlights else None


def _text(text: str, query: Query, request: schemas.QueryRequest, limits: Limits) -> TextQuery:
    size = len(text.encode())
    if not text.strip():
        raise _bad("text", "must have words in it")
    if size > limits.query_text_bytes_max:
        raise _bad("text", f"max is {limits.query_text_bytes_max} bytes, got {size} bytes")
    is_hybrid = request.hybrid is not None and request.hybrid is not False
    hybrid = ranking_schemas.HybridRequest()
    if isinstance(request.hybrid, ranking_schemas.HybridRequest):
        hybrid = request.hybrid
    return TextQuery(
        text,
        _weights(request.text_weights or {}, limits),
        hybrid.fusion or Fusion.SCORES,
        _share(hybrid.text_share, "hybrid.textShare"),
        needs_vector=is_hybrid and query.vector is None and query.vector_id is None,
    )


def _weights(weights: dict[str, float], limits: Limits) -> tuple[tuple[str, float], ...]:
    if len(weights) > limits.metadata_indexes_max:
        raise _bad(
            "textWeights",
            f"max is {limits.metadata_indexes_max} properties, got {len(weights)}",
        )
    for name, weight in weights.items():
        if not WEIGHT_MIN <= weight <= WEIGHT_MAX:
            shown = metadata.shown_number(weight)
            bounds = f"from {WEIGHT_MIN:g} to {WEIGHT_MAX:g}" if weight > 0.0 else "above 0"
            raise _bad("textWeights", f"{metadata.shown(name)} must be {bounds}, got {shown}")
    return tuple((name, float(weight)) for name, weight in weights.items())


def _diversity(request: ranking_schemas.MmrRequest, top_k: int, limits: Limits) -> Diversity:
    relevance = _share(request.relevance, "mmr.lambda")
    return Diversity(relevance, _candidates(request.fetch_k, "mmr.fetchK", top_k, limits))


def _grouping(request: ranking_schemas.GroupByRequest, limits: Limits) -> Grouping:
    count = 1 if request.count is None else request.count
    if not 1 <= count <= limits.top_k_max:
        shown = metadata.shown_number(count)
        raise _bad("groupBy.count", f"must be from 1 to {limits.top_k_max}, got {shown}")
    return Grouping(request.property_name, count)


def _reranking(request: ranking_schemas.RerankRequest, query: Query, limits: Limits) -> Reranking:
    count = _candidates(request.fetch_k, "rerank.fetchK", query.top_k, limits)
    return Reranking(request.property_name, request.model, count)


def _candidates(count: int | None, member: str, top_k: int, limits: Limits) -> int:
    candidates_max = max(limits.candidates_max, top_k)
    if count is None:
        return min(max(CANDIDATES_DEFAULT * top_k, CANDIDATES_MIN), candidates_max)
    if not top_k <= count <= candidates_max:
        shown = metadata.shown_number(count)
        raise _bad(member, f"must be from topK, {top_k}, to {candidates_max}, got {shown}")
    return count


def _share(share: float | None, member: str) -> float:
    if share is None:
        return 0.5
    if not 0.0 <= share <= 1.0:
        raise _bad(member, f"must be from 0 to 1, got {metadata.shown_number(share)}")
    return share


def _bad(member: str, reason: str) -> errors.BadBody:
    return errors.BadBody(f"{FAILED}{member}: {reason}")

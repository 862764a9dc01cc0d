"""Results as JSON: the model in the spelling of the wire.

Members without a value are left out rather than written as null, except where clients need them.
Times are UTC with six fractional digits and a Z.

Numbers are float32, in two spellings. Stored values and embeddings are written as the double of the
same value (58.8 reads 58.79999923706055), as the live service does. Scores are written with the
fewest digits that name the float32 (0.89693683), as in its documentation. Both read back as float32
give the exact number.
"""

import base64
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec
import numpy as np
from msgspec import UNSET, Raw, UnsetType

from vicinal import model
from vicinal.index_storage import IndexStorage
from vicinal.ranking import Highlight, MatchScores, RankedScore
from vicinal.wire import ranking_schemas, schemas

_encode = msgspec.json.Encoder().encode


def index(index: model.Index) -> bytes:
    """Write one index."""
    return _encode(_index(index))


def indexes(indexes: Sequence[model.Index]) -> bytes:
    """Write a list of indexes."""
    return _encode([_index(index) for index in indexes])


def mutation(accepted: model.Accepted) -> bytes:
    """Write the id of a durable mutation."""
    return _encode(schemas.MutationSchema(accepted.mutation_id))


def query_result(result: model.QueryResult) -> bytes:
    """Write matches, in the order given."""
    matches = [
        schemas.MatchSchema(
            match.id,
            _shortest(match.score),
            UNSET if match.values is None else match.values.tolist(),
            Raw(match.metadata) if match.metadata else UNSET,
            match.namespace or UNSET,
            UNSET if match.scores is None else _scores(match.scores),
            UNSET if match.highlights is None else _highlights(match.highlights),
        )
        for match in result.matches
    ]
    explanations = [search_step(explanation) for explanation in result.explanations]
    return _encode(schemas.QueryResultSchema(len(matches), matches, explanations or UNSET))


def search_step(explanation: model.Explanation) -> schemas.SearchStepSchema:
    """Return how one part of an index was searched."""
    words = explanation.words
    return schemas.SearchStepSchema(
        explanation.part,
        explanation.vector_count,
        explanation.selected_count,
        explanation.method,
        explanation.scored_count,
        explanation.rescored_count,
        round(explanation.select_ms, 3),
        round(explanation.candidates_ms, 3),
        round(explanation.rescore_ms, 3),
        UNSET
        if words is None
        else schemas.WordsStepSchema(
            words.scored_count, words.posting_count, round(words.search_ms, 3)
        ),
    )


def vectors(vectors: Sequence[model.StoredVector]) -> bytes:
    """Write whole vectors, in the order given."""
    return _encode(
        [
            schemas.VectorSchema(
                vector.id,
                vector.values.tolist(),
                Raw(vector.metadata) if vector.metadata else UNSET,
                vector.namespace or UNSET,
            )
            for vector in vectors
        ]
    )


def status(status: model.Status, storage: IndexStorage | None = None) -> bytes:
    """Write the state of an index, with its storage where that is asked for."""
    return _encode(
        schemas.IndexInfoSchema(
            status.dimensions,
            status.vector_count,
            None if status.applied_at is None else timestamp(status.applied_at),
            status.applied_mutation,
            [
                schemas.CoverageSchema(
                    coverage.metadata_index.property_name,
                    coverage.metadata_index.index_type,
                    coverage.covered_count,
                )
                for coverage in status.partial
            ]
            or UNSET,
            UNSET if storage is None else storage.byte_count,
            UNSET
            if storage is None
            else [
                schemas.SegmentSchema(
                    part.name, part.vector_count, part.deleted_count, part.byte_count
                )
                for part in storage.parts
            ],
        )
    )


def page(page: model.Page) -> bytes:
    """Write one page of ids."""
    return _encode(
        schemas.VectorListSchema(
            count=len(page.ids),
            total_count=page.total_count,
            is_truncated=page.next_cursor is not None,
            next_cursor=page.next_cursor,
            cursor_expiration_timestamp=None
            if page.expires_at is None
            else timestamp(page.expires_at),
            vectors=[schemas.ListedVectorSchema(id) for id in page.ids],
        )
    )


def metadata_indexes(metadata_indexes: Sequence[model.MetadataIndex]) -> bytes:
    """Write the metadata indexes of an index."""
    return _encode(
        schemas.MetadataIndexListSchema(
            [
                schemas.MetadataIndexSchema(
                    index.property_name, index.index_type, _or_unset(index.language)
                )
                for index in metadata_indexes
            ]
        )
    )


def embedding(vectors: model.Floats, pooling: str | None) -> bytes:
    """Write embeddings as Workers AI does; `vectors` is ``(n, dimensions)`` float32."""
    return _encode(
        schemas.EmbeddingSchema(list(vectors.shape), vectors.tolist(), _or_unset(pooling))
    )


def openai_embedding(
    vectors: model.Floats, *, model: str, encoding: Literal["float", "base64"], token_count: int
) -> bytes:
    """Write embeddings as OpenAI does; `vectors` is ``(n, dimensions)`` float32.

    With base64 an embedding is its little-endian float32 bytes.
    """
    data = [
        schemas.OpenAIEmbeddingSchema(
            position, _base64(row) if encoding == "base64" else row.tolist()
        )
        for position, row in enumerate(vectors)
    ]
    usage = schemas.OpenAIUsageSchema(token_count, token_count)
    return _encode(schemas.OpenAIEmbeddingListSchema(data, model, usage))


def _index(index: model.Index) -> schemas.IndexSchema:
    created = timestamp(index.created_at)
    config = index.config
    return schemas.IndexSchema(
        name=index.name,
        created_on=created,
        modified_on=created,  # an index cannot be changed
        config=schemas.IndexConfigSchema(
            config.dimensions,
            config.metric,
            _or_unset(config.preset),
            UNSET if config.effort is model.Effort.STANDARD else config.effort,
            _or_unset(config.model),
        ),
        description=_or_unset(index.description),
    )


def _scores(scores: MatchScores) -> ranking_schemas.MatchScoresSchema:
    reranked = UNSET if scores.rerank is None else _shortest(scores.rerank)
    return ranking_schemas.MatchScoresSchema(_ranked(scores.vector), _ranked(scores.text), reranked)


def _ranked(ranked: RankedScore | None) -> ranking_schemas.RankedScoreSchema | UnsetType:
    if ranked is None:
        return UNSET
    rank = UNSET if ranked.rank is None else ranked.rank
    return ranking_schemas.RankedScoreSchema(_shortest(ranked.score), rank)


def _highlights(highlights: Sequence[Highlight]) -> list[ranking_schemas.HighlightSchema]:
    return [
        ranking_schemas.HighlightSchema(
            highlight.property_name,
            highlight.start,
            highlight.end,
            UNSET if highlight.element is None else highlight.element,
        )
        for highlight in highlights
    ]


def _or_unset(text: str | None) -> str | UnsetType:
    return UNSET if text is None else text


def timestamp(moment: datetime) -> str:
    """Write a time in UTC, to the microsecond."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _shortest(score: float) -> float:
    """Return the double with the fewest digits that rounds to the score's float32."""
    return float(str(np.float32(score)))


def _base64(row: model.Floats) -> str:
    return base64.b64encode(row.astype("<f4").tobytes()).decode("ascii")

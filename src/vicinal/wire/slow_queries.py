"""The JSON of slow queries: an extension of ours, which the platform has not.

A slow query is told by its form. Its vector, the values of its filter, its namespace and the ids
that it is about are nowhere in it.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from vicinal.wire import schemas

_encode = msgspec.json.Encoder().encode


class SlowQuerySchema(Struct, rename="camel", frozen=True):
    """A query that took long. `filter` has names and operators without values; `explain` has the
    search of the parts that took longest of `partCount`, and nothing when it was not answered."""

    at: Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
    request_id: str
    token_id: str
    account: str
    index: str
    milliseconds: float
    is_answered: bool
    by: Literal["vector", "id", "text"]
    has_text: bool
    top_k: int
    return_values: bool
    return_metadata: str
    has_namespace: bool
    filter: str
    effort: str
    match_count: int
    part_count: int
    explain: tuple[schemas.SearchStepSchema, ...]


class SlowQueriesSchema(Struct, rename="camel", frozen=True):
    """The newest slow queries, newest first; a `thresholdMs` of 0 says that none are kept."""

    threshold_ms: float
    queries: tuple[SlowQuerySchema, ...]


def line(query: SlowQuerySchema) -> str:
    """Return a slow query as a line of text."""
    parts = [
        f"{part.part} {part.select_ms:g} + {part.propose_ms:g} + {part.measure_ms:g} "
        f"({part.method}, {part.scored_count} of {part.selected_count} scored)"
        f"{_words(part.words) if part.words else ''}"
        for part in query.explain
    ]
    return (
        f"slow query of {query.account}/{query.index}: {query.milliseconds:.1f} ms, "
        f"request {query.request_id or 'without an id'}, top {query.top_k} by {query.by}"
        f"{', with words' if query.has_text and query.by != 'text' else ''}"
        f"{', in a namespace' if query.has_namespace else ''}"
        f"{f', filter {query.filter}' if query.filter else ''}, effort {query.effort}"
        f"{'' if query.is_answered else ', not answered'}; "
        "milliseconds to select, to find candidates and to rescore: "
        f"{'; '.join(parts) or 'unknown'}"
    )


def _words(step: schemas.WordsStepSchema) -> str:
    return (
        f" + {step.search_ms:g} for words ({step.scored_count} scored, "
        f"{step.posting_count} postings read)"
    )


def written(threshold_s: float, queries: Sequence[SlowQuerySchema]) -> bytes:
    """Write slow queries, in the order given."""
    return _encode(SlowQueriesSchema(threshold_s * 1e3, tuple(queries)))

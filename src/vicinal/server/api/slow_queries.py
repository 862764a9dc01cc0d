"""Slow queries: all are logged, and the newest ones kept.

A query is kept by its form (`wire.slow_queries`), with the explanation of its search. Only a query
that was slow is described at all: any other costs a comparison.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from typing import Final, Literal

from vicinal.filters.nodes import shape
from vicinal.model import Index, Query, QueryResult
from vicinal.server.http import logs
from vicinal.wire import responses
from vicinal.wire import slow_queries as wire

KEPT_MAX: Final = 200
"""Ours: queries that are kept, of all indexes."""

PARTS_MAX: Final = 32
"""Ours: parts of an index whose search is kept, those that took the longest; a merged index has
fewer."""


@dataclass(frozen=True, slots=True)
class Asker:
    """The account that a query is in, its index, and the ids of its request and its token, ``""``
    where there is none."""

    account: str
    index: Index
    request_id: str
    token_id: str


class SlowQueries:
    """The newest slow queries. Used from the event loop's thread alone.

    Args:
        threshold_s: Seconds from which a query is slow; 0 for none.
        kept_max: Queries that are kept.

    Attributes:
        least_s: Seconds from which a query is slow; infinite for none.
        count: Slow queries since the start.
    """

    def __init__(self, threshold_s: float, kept_max: int = KEPT_MAX) -> None:
        self.least_s = threshold_s or inf
        self.count = 0
        self._threshold_s = threshold_s
        self._kept: deque[wire.SlowQuerySchema] = deque(maxlen=kept_max)

    def add(self, asker: Asker, query: Query, result: QueryResult | None, seconds: float) -> None:
        """Keep and log a query that took `seconds`; without a result it was not answered."""
        self.count += 1
        explanations = () if result is None else result.explain()
        longest = sorted(
            explanations,
            key=lambda part: part.total_ms,
            reverse=True,
        )
        slow = wire.SlowQuerySchema(
            at=responses.timestamp(datetime.now(UTC)),
            request_id=asker.request_id,
            token_id=asker.token_id,
            account=asker.account,
            index=asker.index.name,
            milliseconds=round(seconds * 1e3, 3),
            is_answered=result is not None,
            by=_sought_by(query),
            has_text=query.text is not None,
            top_k=query.top_k,
            return_values=query.return_values,
            return_metadata=query.return_metadata.value,
            has_namespace=query.namespace != "",
            filter=shape(query.filter),
            effort=(query.effort or asker.index.config.effort).value,
            match_count=0 if result is None else len(result.matches),
            part_count=len(explanations),
            explain=tuple(map(responses.search_step, longest[:PARTS_MAX])),
        )
        self._kept.append(slow)
        logs.slow_query(slow)

    def newest(self) -> Sequence[wire.SlowQuerySchema]:
        """Return the queries that are kept, newest first."""
        return list(reversed(self._kept))

    def written(self) -> bytes:
        """Return the result of the route that shows them."""
        return wire.written(self._threshold_s, self.newest())


def _sought_by(query: Query) -> Literal["vector", "id", "text"]:
    if query.vector_id is not None:
        return "id"
    return "text" if query.vector is None else "vector"

"""Metrics of requests, queries and embeddings, counted as they are answered, for Prometheus.

Names follow Prometheus' rules: base units, ``_total`` for counts that only grow. Labels have few
values: of what callers send only names of accounts and indexes that are in the catalog, and of
those no more than `INDEXES_MAX`; refusals are told by the classes of errors. Numbers that are read
when somebody looks are in `collectors`.
"""

import platform
import re
from collections.abc import Callable
from functools import cache
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.process_collector import ProcessCollector

from vicinal.engine.base import Engine
from vicinal.errors import Error, Overloaded
from vicinal.server.api import collectors
from vicinal.server.api.collectors import QueryDurations, QueryTimes, Queues
from vicinal.snapshots.service import Snapshots

CONTENT_TYPE = CONTENT_TYPE_LATEST.encode("ascii")

INDEXES_MAX: Final = 500
"""Ours: indexes whose queries are counted apart; those of others are counted together, under empty
names. Every one takes some twenty lines."""

OTHERS: Final = ("", "")
"""The labels of queries of all other indexes."""

# Ours: from a cached answer to what clients wait for at most.
_REQUEST_S = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 120.0),
)

_HUMPS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class Metrics:
    """Counts of one server, and of the indexes of its engine. Thread-safe, but for `queried`, which
    is the event loop's.

    Args:
        engine: Asked for the numbers of its indexes.
        snapshots: Asked for the age of the newest one.
        version: Shown as that of the build.
        has_native: Whether the compiled parts are there, shown as well.

    Attributes:
        queues: The queues that are shown.
    """

    def __init__(
        self,
        engine: Engine,
        snapshots: Snapshots | None = None,
        *,
        version: str = "0",
        has_native: bool = False,
    ) -> None:
        self._registry = CollectorRegistry()
        self._requests = Histogram(
            "vicinal_request_duration_seconds",
            "From a request's head to the end of its answer.",
            ("operation", "status"),
            buckets=_REQUEST_S,
            registry=self._registry,
        )
        self._answers: dict[tuple[str, int], Histogram] = {}  # parts of `_requests`
        self._under_way = Gauge(
            "vicinal_requests_in_progress",
            "Requests that have been let in and not been answered.",
            registry=self._registry,
        )
        self._refusals = Counter(
            "vicinal_refusals",
            "Requests that were refused or failed, by cause.",
            ("cause",),
            registry=self._registry,
        )
        self._slow_queries = Counter(
            "vicinal_slow_queries",
            "Queries that took as long as the setting slow_query_s, or longer.",
            registry=self._registry,
        )
        self._texts = Counter(
            "vicinal_embedded_texts", "Texts embedded.", ("model",), registry=self._registry
        )
        self._tokens = Counter(
            "vicinal_embedded_tokens",
            "Tokens of texts embedded, as far as the backend tells.",
            ("model",),
            registry=self._registry,
        )
        Gauge(
            "vicinal_build_info",
            "1, with the version as a label.",
            ("version", "python", "native"),
            registry=self._registry,
        ).labels(version, platform.python_version(), str(has_native).lower()).set(1)
        self.queues = Queues()
        self._queries: dict[tuple[str, str], QueryDurations] = {}
        self._registry.register(self.queues)
        self._registry.register(QueryTimes(self._queries))
        self._registry.register(collectors.Indexes(engine))
        if snapshots is not None:
            self._registry.register(collectors.SnapshotAges(snapshots))
        ProcessCollector(registry=self._registry)

    def answered(self, operation: str, status: int, seconds: float) -> None:
        """Count a request that has been answered."""
        durations = self._answers.get((operation, status))
        if durations is None:
            durations = self._requests.labels(operation, str(status))
            self._answers[operation, status] = durations
        durations.observe(seconds)

    def queried(self, account: str, index_name: str, seconds: float) -> None:
        """Count a query of an index of the catalog that has been answered."""
        durations = self._queries.get((account, index_name))
        if durations is None:
            durations = self._begin(account, index_name)
        durations.add(seconds)

    def deleted(self, account: str, index_name: str) -> None:
        """Count no more for an index that is gone; one of its name begins at 0."""
        self._queries.pop((account, index_name), None)

    def slow_query(self) -> None:
        """Count a slow query."""
        self._slow_queries.inc()

    def refused(self, cause: str) -> None:
        """Count a request that is refused before it is a whole one; causes are few."""
        self._refusals.labels(cause).inc()

    def failed(self, error: Exception) -> None:
        """Count a request that is refused, or fails, with an error."""
        queue = error.queue if isinstance(error, Overloaded) else ""
        name = type(error).__name__ if isinstance(error, Error) else "Defect"
        self._refusals.labels(_cause_of(name, queue)).inc()

    def show_under_way(self, count: Callable[[], int]) -> None:
        """Show the number of requests under way, which is asked for when somebody looks."""
        self._under_way.set_function(count)

    def embedded(self, model: str, text_count: int, token_count: int) -> None:
        """Count texts that have been embedded."""
        self._texts.labels(model).inc(text_count)
        self._tokens.labels(model).inc(token_count)

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)

    def _begin(self, account: str, index_name: str) -> QueryDurations:
        key = (account, index_name) if len(self._queries) < INDEXES_MAX else OTHERS
        return self._queries.setdefault(key, QueryDurations())


@cache
def _cause_of(name: str, queue: str) -> str:
    """Return the word for a class of errors, such as ``index_not_found``, with that for a queue."""
    word = _HUMPS.sub("_", name).lower()
    return f"{word}_{queue}" if queue else word

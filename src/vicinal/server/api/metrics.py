"""Metrics of requests, indexes, embeddings and the process, for Prometheus.

Names follow Prometheus' rules: base units, ``_total`` for counts that only grow. Of the values that
callers send labels have the names of indexes and accounts only, which are in the catalog. Counts of
vectors are read from the engine when they are asked for; an index that is closed is counted and
not opened.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from vicinal.engine.base import Engine
from vicinal.model import NodeUsage
from vicinal.snapshots.service import Snapshots

CONTENT_TYPE = CONTENT_TYPE_LATEST.encode("ascii")

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_INDEX = ("account", "index")


class Metrics:
    """Counts of one server, and of the indexes of its engine. Thread-safe."""

    def __init__(self, engine: Engine, snapshots: Snapshots | None = None) -> None:
        self._registry = CollectorRegistry()
        self._requests = Histogram(
            "vicinal_request_duration_seconds",
            "From a request's head to the end of its answer.",
            ("operation", "status"),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._under_way = Gauge(
            "vicinal_requests_in_progress",
            "Requests that have been let in and not been answered.",
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
        self._registry.register(_Indexes(engine))
        if snapshots is not None:
            self._registry.register(_Snapshots(snapshots))
        ProcessCollector(registry=self._registry)

    def answered(self, operation: str, status: int, seconds: float) -> None:
        """Count a request that has been answered."""
        self._requests.labels(operation, str(status)).observe(seconds)

    def under_way(self, count: int) -> None:
        """Set the number of requests under way."""
        self._under_way.set(count)

    def embedded(self, model: str, text_count: int, token_count: int) -> None:
        """Count texts that have been embedded."""
        self._texts.labels(model).inc(text_count)
        self._tokens.labels(model).inc(token_count)

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)


class _Described(Collector):
    """Metrics whose families can be named without looking for their values."""

    def describe(self) -> Iterator[Metric]:
        """Name the families of `collect`."""
        yield from self._families()

    @staticmethod
    def _families() -> Sequence[Metric]:
        raise NotImplementedError


class _Snapshots(_Described):
    """The age of the newest snapshot, and scheduled ones that were not made."""

    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots

    def collect(self) -> Iterator[Metric]:
        """Look for the newest snapshot."""
        age, failures = self._families()
        newest = self._snapshots.newest()
        if newest is not None:
            age.add_metric((), max(0.0, (datetime.now(UTC) - newest).total_seconds()))
        failures.add_metric((), self._snapshots.failure_count)
        yield from (age, failures)

    @staticmethod
    def _families() -> tuple[GaugeMetricFamily, CounterMetricFamily]:
        return (
            GaugeMetricFamily(
                "vicinal_snapshot_age_seconds",
                "Since the newest snapshot in the server's folder was begun.",
                labels=(),
            ),
            CounterMetricFamily(
                "vicinal_snapshot_failures",
                "Scheduled snapshots that were not made.",
                labels=(),
            ),
        )


class _Indexes(_Described):
    """Counts of the indexes and their vectors at the moment."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        """Ask the engine."""
        indexes, vectors, pending = self._families()
        usage = self._engine.usage()
        indexes.add_metric((), usage.index_count)
        for index in usage.open_indexes:
            labels = (index.address.account, index.address.name)
            vectors.add_metric(labels, index.vector_count)
            pending.add_metric(labels, index.pending_count)
        yield from (indexes, vectors, pending)
        if usage.node is not None:
            yield from _of_node(usage.node)

    @staticmethod
    def _families() -> tuple[GaugeMetricFamily, GaugeMetricFamily, GaugeMetricFamily]:
        return (
            GaugeMetricFamily("vicinal_indexes", "Indexes of all accounts.", labels=()),
            GaugeMetricFamily("vicinal_index_vectors", "Vectors of an open index.", labels=_INDEX),
            GaugeMetricFamily(
                "vicinal_index_pending_vectors",
                "Vectors acknowledged that queries of an open index do not see yet.",
                labels=_INDEX,
            ),
        )


def _of_node(node: NodeUsage) -> Iterator[Metric]:
    """Yield what is counted where indexes are shared by nodes."""
    lags = GaugeMetricFamily(
        "vicinal_index_lag_mutations",
        "Mutations of an open index that this node has yet to apply.",
        labels=_INDEX,
    )
    lags_s = GaugeMetricFamily(
        "vicinal_index_lag_seconds",
        "Since the first of these mutations was seen in the log; 0 without any.",
        labels=_INDEX,
    )
    for address, lag in node.lags.items():
        lags.add_metric((address.account, address.name), lag.mutation_count)
        lags_s.add_metric((address.account, address.name), lag.seconds)
    refills = CounterMetricFamily(
        "vicinal_copy_refills", "Copies of indexes thrown away and filled again.", labels=("cause",)
    )
    for cause, count in node.refill_counts.items():
        refills.add_metric((cause,), count)
    yield lags
    yield lags_s
    yield refills
    yield GaugeMetricFamily(
        "vicinal_nodes", "Nodes that share the database.", value=node.node_count
    )
    yield GaugeMetricFamily(
        "vicinal_database_silent_seconds",
        "Since the database answered last.",
        value=node.database_silent_s,
    )
    yield GaugeMetricFamily(
        "vicinal_database_round_trip_seconds",
        "Time of the last question to the database how far the logs are.",
        value=node.round_trip_s,
    )
    yield CounterMetricFamily(
        "vicinal_copy_fills", "Copies of indexes filled from the database.", value=node.fill_count
    )
    yield CounterMetricFamily(
        "vicinal_copy_fill_seconds", "Time of filling them.", value=node.fill_s
    )
    yield CounterMetricFamily(
        "vicinal_checkpoints",
        "Times that this node has brought rows in the database up to the log.",
        value=node.checkpoint_count,
    )
    yield CounterMetricFamily(
        "vicinal_checkpoint_seconds", "Time of these.", value=node.checkpoint_s
    )
    yield CounterMetricFamily(
        "vicinal_copy_evictions",
        "Copies of indexes removed, as all took too much disk.",
        value=node.eviction_count,
    )
    yield SummaryMetricFamily(
        "vicinal_database_statement_seconds",
        "Time of statements at the database.",
        count_value=node.statement_count,
        sum_value=node.statement_s,
    )

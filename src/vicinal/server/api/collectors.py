"""Metrics that are read when somebody looks at them: of indexes, work, disks, queues, snapshots.

An index that is closed is counted and not opened. Series of a name are there for open indexes
alone, which are bounded.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from vicinal.durations import DurationCounts
from vicinal.engine.base import Engine
from vicinal.server.concurrency import QueueGauge
from vicinal.snapshots.service import Snapshots
from vicinal.usage import EngineUsage, IndexUsage, NodeUsage, WorkUsage

_INDEX = ("account", "index")


class _Described(Collector):
    """Metrics whose families can be named without looking for their values."""

    def describe(self) -> Iterator[Metric]:
        """Name the families of `collect`."""
        yield from self._families()

    @staticmethod
    def _families() -> Sequence[Metric]:
        raise NotImplementedError


class SnapshotAges(_Described):
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


class Queues(_Described):
    """Requests and bytes that wait or are worked on, with their bounds."""

    def __init__(self) -> None:
        self._gauges: list[QueueGauge] = []
        self._body_bytes: Callable[[], int] = int
        self._body_bytes_max = 0

    def add(self, *gauges: QueueGauge) -> None:
        """Show the lengths of queues."""
        self._gauges += gauges

    def add_bodies(self, used: Callable[[], int], bound: int) -> None:
        """Show the bytes of bodies that are in memory."""
        self._body_bytes, self._body_bytes_max = used, bound

    def collect(self) -> Iterator[Metric]:
        """Ask each queue."""
        lengths, bounds, used, used_max = self._families()
        for gauge in self._gauges:
            lengths.add_metric((gauge.name,), gauge.length())
            bounds.add_metric((gauge.name,), gauge.length_max)
        used.add_metric((), self._body_bytes())
        used_max.add_metric((), self._body_bytes_max)
        yield from (lengths, bounds, used, used_max)

    @staticmethod
    def _families() -> tuple[GaugeMetricFamily, ...]:
        return (
            GaugeMetricFamily(
                "vicinal_queue_requests", "Requests that run or wait.", labels=("queue",)
            ),
            GaugeMetricFamily(
                "vicinal_queue_requests_max", "Requests that may.", labels=("queue",)
            ),
            GaugeMetricFamily(
                "vicinal_body_bytes_in_flight", "Bytes of request bodies in memory.", labels=()
            ),
            GaugeMetricFamily(
                "vicinal_body_bytes_in_flight_max", "Bytes that may be, but of one.", labels=()
            ),
        )


# Ours: from a small index in memory to what clients wait for at most.
_QUERY_S = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)


class QueryDurations:
    """Durations of the queries of one index. One thread adds, any may read."""

    def __init__(self) -> None:
        self._counts = [0] * (len(_QUERY_S) + 1)
        self._sum_s = 0.0

    def add(self, seconds: float) -> None:
        """Count a query that took `seconds`."""
        self._counts[bisect_left(_QUERY_S, seconds)] += 1
        self._sum_s += seconds

    def current(self) -> DurationCounts:
        """Return the counts; the sum may be without the newest query."""
        return DurationCounts(_QUERY_S, tuple(self._counts), self._sum_s)


class QueryTimes(_Described):
    """Durations of queries by account and index."""

    def __init__(self, durations: Mapping[tuple[str, str], QueryDurations]) -> None:
        self._durations = durations

    def collect(self) -> Iterator[Metric]:
        """Read all counts."""
        (family,) = self._families()
        for labels, durations in list(self._durations.items()):
            _add(family, labels, durations.current())
        yield family

    @staticmethod
    def _families() -> tuple[HistogramMetricFamily]:
        return (
            HistogramMetricFamily(
                "vicinal_query_duration_seconds",
                "Of queries that were answered: from the whole body to the result.",
                labels=_INDEX,
            ),
        )


class Indexes(_Described):
    """Numbers of the engine at the moment."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        """Ask the engine."""
        usage = self._engine.usage()
        yield from _of_indexes(usage)
        if usage.work is not None:
            yield from _of_work(usage.work)
        if usage.disk is not None:
            yield GaugeMetricFamily(
                "vicinal_disk_free_bytes",
                "Bytes that are free on the file system of the data folder.",
                value=usage.disk.free_bytes,
            )
            yield GaugeMetricFamily(
                "vicinal_disk_size_bytes", "Its size.", value=usage.disk.size_bytes
            )
        if usage.node is not None:
            yield from _of_node(usage.node)

    @staticmethod
    def _families() -> Sequence[Metric]:
        return tuple(_of_indexes(EngineUsage(0, ())))


_GAUGES: Sequence[tuple[str, str, Callable[[IndexUsage], float]]] = (
    ("vectors", "Vectors of an open index.", lambda index: index.vector_count),
    (
        "pending_vectors",
        "Vectors acknowledged that queries of an open index do not see yet.",
        lambda index: index.pending_count,
    ),
    ("segments", "Segments of an open index.", lambda index: index.segment_count),
    (
        "memtable_vectors",
        "Vectors of an open index in memory, which no segment has.",
        lambda index: index.memtable_count,
    ),
    ("disk_bytes", "Bytes of the files of an open index.", lambda index: index.disk_bytes),
)


def _of_indexes(usage: EngineUsage) -> Iterator[Metric]:
    yield GaugeMetricFamily("vicinal_indexes", "Indexes of all accounts.", value=usage.index_count)
    yield GaugeMetricFamily(
        "vicinal_indexes_open", "Indexes that are open.", value=len(usage.open_indexes)
    )
    for name, text, value_of in _GAUGES:
        family = GaugeMetricFamily(f"vicinal_index_{name}", text, labels=_INDEX)
        for index in usage.open_indexes:
            family.add_metric((index.address.account, index.address.name), value_of(index))
        yield family
    stopped = [index.address for index in usage.open_indexes if index.is_failed]
    failed = GaugeMetricFamily(
        "vicinal_index_failed",
        "1 for an index that takes no writes, or that could not be opened; others have none.",
        labels=_INDEX,
    )
    for address in (*stopped, *usage.unopened):
        failed.add_metric((address.account, address.name), 1)
    yield failed
    yield GaugeMetricFamily(
        "vicinal_indexes_failed",
        "Indexes that take no writes, or that could not be opened.",
        value=len(stopped) + len(usage.unopened),
    )


def _of_work(work: WorkUsage) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "vicinal_write_queue_bytes",
        "Bytes of mutations that are accepted and not visible yet.",
        value=work.queued_bytes,
    )
    yield GaugeMetricFamily(
        "vicinal_write_queue_bytes_max", "Bytes that may be.", value=work.queued_bytes_max
    )
    for name, text, counts in (
        ("commit", "Commits of logs with their fsync, each of one mutation or more.", work.commits),
        ("seal", "Seals of memtables to segments.", work.seals),
        ("merge", "Merges of segments.", work.merges),
    ):
        family = HistogramMetricFamily(f"vicinal_{name}_duration_seconds", text, labels=())
        _add(family, (), counts)
        yield family
        yield CounterMetricFamily(
            f"vicinal_{name}_failures", f"Times that a {name} failed.", value=counts.failure_count
        )


def _add(family: HistogramMetricFamily, labels: Sequence[str], counts: DurationCounts) -> None:
    buckets, count = [], 0
    for bound, more in zip((*counts.bounds_s, float("inf")), counts.counts, strict=True):
        count += more
        buckets.append(("+Inf" if bound == float("inf") else str(float(bound)), float(count)))
    family.add_metric(labels, buckets, counts.sum_s)


_OF_NODE: Sequence[
    tuple[type[GaugeMetricFamily | CounterMetricFamily], str, str, Callable[[NodeUsage], float]]
] = (
    (GaugeMetricFamily, "nodes", "Nodes that share the database.", lambda node: node.node_count),
    (
        GaugeMetricFamily,
        "database_silent_seconds",
        "Since the database answered last.",
        lambda node: node.database_silent_s,
    ),
    (
        GaugeMetricFamily,
        "database_round_trip_seconds",
        "Time of the last question to the database how far the logs are.",
        lambda node: node.round_trip_s,
    ),
    (
        CounterMetricFamily,
        "copy_fills",
        "Copies of indexes filled from the database.",
        lambda node: node.fill_count,
    ),
    (
        CounterMetricFamily,
        "copy_fill_seconds",
        "Time of filling them.",
        lambda node: node.fill_s,
    ),
    (
        CounterMetricFamily,
        "checkpoints",
        "Times that this node has brought rows in the database up to the log.",
        lambda node: node.checkpoint_count,
    ),
    (
        CounterMetricFamily,
        "checkpoint_seconds",
        "Time of these.",
        lambda node: node.checkpoint_s,
    ),
    (
        CounterMetricFamily,
        "copy_evictions",
        "Copies of indexes removed, as all took too much disk.",
        lambda node: node.eviction_count,
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
    for family, name, text, value_of in _OF_NODE:
        yield family(f"vicinal_{name}", text, value=value_of(node))
    yield SummaryMetricFamily(
        "vicinal_database_statement_seconds",
        "Time of statements at the database.",
        count_value=node.statement_count,
        sum_value=node.statement_s,
    )

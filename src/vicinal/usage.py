"""Numbers of an engine at work, for operators: what its indexes hold, and what they wait for.

A base module: it knows no engine, and not how the numbers are shown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vicinal.durations import DurationCounts
from vicinal.model import IndexAddress


@dataclass(frozen=True, slots=True)
class IndexUsage:
    """Numbers of an open index.

    Attributes:
        address: Its account and name.
        vector_count: Vectors that queries see.
        pending_count: Vectors that are acknowledged but not visible yet.
        segment_count: Its segments.
        memtable_count: Vectors that queries see and no segment has.
        disk_bytes: Bytes of its files: segments, log and blob files.
        is_failed: Whether it refuses writes until it is opened again.
    """

    address: IndexAddress
    vector_count: int
    pending_count: int
    segment_count: int = 0
    memtable_count: int = 0
    disk_bytes: int = 0
    is_failed: bool = False


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """The file system of the data folder."""

    free_bytes: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class WorkUsage:
    """The work on all indexes since the start.

    Attributes:
        queued_bytes: Bytes of mutations that are accepted and not applied.
        queued_bytes_max: Their bound.
        commits: Durations of transactions of logs.
        seals, merges: Durations of the background work.
    """

    queued_bytes: int
    queued_bytes_max: int
    commits: DurationCounts
    seals: DurationCounts
    merges: DurationCounts


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a copy is behind its log: how many mutations it lacks, and seconds since the first of
    them was seen in the log."""

    mutation_count: int
    seconds: float


@dataclass(frozen=True, slots=True)
class NodeUsage:
    """Numbers of one node of a shared engine, since its start.

    Attributes:
        node_count: Nodes that live, this one included.
        database_silent_s: Seconds since the database answered last.
        round_trip_s: Seconds that the last question how far the logs are took.
        lags: How far the copy of an open index is behind, as of that answer.
        fill_count: Copies that were filled.
        fill_s: Seconds of all of them.
        checkpoint_count: Times that this node has brought rows up to the log.
        checkpoint_s: Seconds of all of them.
        refill_counts: Copies that were thrown away, by cause.
        eviction_count: Copies that were removed as they took too much disk.
        statement_count: Statements that the database has answered, or has not in time.
        statement_s: Seconds of all of them.
    """

    node_count: int
    database_silent_s: float
    round_trip_s: float
    lags: Mapping[IndexAddress, Lag]
    fill_count: int
    fill_s: float
    checkpoint_count: int
    checkpoint_s: float
    refill_counts: Mapping[str, int]
    eviction_count: int
    statement_count: int
    statement_s: float


@dataclass(frozen=True, slots=True)
class EngineUsage:
    """Numbers of an engine.

    Attributes:
        index_count: Its indexes, over all accounts.
        open_indexes: Numbers of the open ones.
        node: Where other nodes may share them.
        unopened: Indexes that could not be opened when that was tried last.
        work: Where the engine keeps files.
        disk: Where the engine keeps files.
    """

    index_count: int
    open_indexes: Sequence[IndexUsage]
    node: NodeUsage | None = None
    unopened: Sequence[IndexAddress] = ()
    work: WorkUsage | None = None
    disk: DiskUsage | None = None

"""The options of the embedded engine."""

from dataclasses import dataclass, field

from vicinal.limits import Limits


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Bounds and delays of the embedded engine.

    Args:
        limits: Bounds on an index and an account.
        memtable_rows_max: A memtable of this many rows, or mutations, is sealed. More make queries
            and opening slower (rows are scanned, mutations replayed), fewer make more
            segments.
        memtable_bytes_max: Likewise for the bytes of its values, or of its mutations.
        memtables_max: A memtable this many times over its bound holds up writers.
        queue_bytes_max: Bytes of records accepted but not yet applied, over all indexes;
            past it `append` raises `Overloaded`.
        visibility_delay_s: Apply mutations this much later, to find code that does not
            wait for its writes.
        cursor_lifetime_s: How long a listing may pause between two pages.
        open_indexes_max: More indexes than this are open at once only while all are busy.
            An open index takes two file handles.
        idle_s: An index without writes for this long is compacted: its memtable is sealed and its
            segments are merged further.
        merges: Merge segments in the background; off only for tests that look at segments.
    """

    limits: Limits = field(default_factory=Limits)
    memtable_rows_max: int = 20_000
    memtable_bytes_max: int = 128 << 20
    memtables_max: int = 4
    queue_bytes_max: int = 512 << 20
    visibility_delay_s: float = 0.0
    cursor_lifetime_s: float = 900.0
    open_indexes_max: int = 256
    idle_s: float = 5.0
    merges: bool = True

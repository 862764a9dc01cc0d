"""What an index may still take: the limits on vectors, namespaces and metadata indexes.

A mutation is checked against what there will be once all that was queued before it is applied.
As far as an upper bound will do nothing is waited for; else the index is *settled*: what is
queued is applied, and its newest snapshot is counted.

Rules: called under the lock that gives mutations their order. This knows snapshots, not how they
come about.
"""

from collections.abc import Callable

from vicinal.engine.snapshot import Snapshot
from vicinal.errors import (
    AlreadyExists,
    LimitExceeded,
    MetadataIndexNotFound,
    WrongDimensions,
)
from vicinal.limits import Limits
from vicinal.model import (
    CreateMetadataIndex,
    DeleteMetadataIndex,
    Index,
    IndexType,
    Insert,
    Mutation,
    Upsert,
    VectorBatch,
)


def check_dimensions(mutation: Mutation, index: Index) -> None:
    """Refuse vectors that were made for another index.

    Raises:
        WrongDimensions: they are not of this one's dimensions.
    """
    if isinstance(mutation, Insert | Upsert):
        length, dimensions = mutation.batch.values.shape[1], index.config.dimensions
        if length != dimensions:
            raise WrongDimensions(
                f"the vectors have {length} dimensions, index {index.name!r} has {dimensions}"
            )


class Admission:
    """Checks the mutations of one index, and remembers what those that passed declared.

    Args:
        name: Of the index.
        limits: What it may hold.
        snapshot: What it holds.
        settled: Returns its snapshot once all that was queued is applied.
    """

    def __init__(
        self, name: str, limits: Limits, snapshot: Snapshot, settled: Callable[[], Snapshot]
    ) -> None:
        self._name = name
        self._limits = limits
        self._settled = settled
        self._declared: dict[str, IndexType] = {
            each.property_name: each.index_type for each in snapshot.metadata_indexes
        }
        self._namespaces: set[str] | None = None

    def check(self, mutation: Mutation, vectors_at_most: int) -> None:
        """Pass a mutation or say which limit it would exceed.

        Args:
            mutation: The next one.
            vectors_at_most: How many vectors there are, counting all queued ones as new.

        Raises:
            AlreadyExists, MetadataIndexNotFound, LimitExceeded: see `engine.base.Engine`.
        """
        limits = self._limits
        match mutation:
            case Insert(batch) | Upsert(batch):
                vectors_max = limits.vectors_per_index_max
                if vectors_max is not None and vectors_at_most + len(batch) > vectors_max:
                    self._check_vectors(batch, vectors_max)
                if limits.namespaces_per_index_max is not None:
                    self._check_namespaces(batch, limits.namespaces_per_index_max)
            case CreateMetadataIndex(each):
                declared = self._declared.get(each.property_name)
                if declared is not None and declared is not each.index_type:
                    raise AlreadyExists(
                        f"property {each.property_name!r} has a metadata index of type "
                        f"{declared}; delete it before creating one of type {each.index_type}"
                    )
                if declared is None and len(self._declared) >= limits.metadata_indexes_max:
                    raise LimitExceeded(
                        f"index {self._name!r} has {len(self._declared)} metadata indexes, "
                        f"the maximum is {limits.metadata_indexes_max}"
                    )
            case DeleteMetadataIndex(property_name):
                if property_name not in self._declared:
                    raise MetadataIndexNotFound(
                        f"index {self._name!r} has no metadata index on {property_name!r}"
                    )
            case _:
                pass

    def declare(self, mutation: Mutation) -> None:
        """Remember what a mutation that is queued declares."""
        match mutation:
            case CreateMetadataIndex(each):
                self._declared[each.property_name] = each.index_type
            case DeleteMetadataIndex(property_name):
                del self._declared[property_name]
            case _:
                pass

    def _check_vectors(self, batch: VectorBatch, vectors_max: int) -> None:
        snapshot = self._settled()
        ids = list(dict.fromkeys(batch.ids))
        count = snapshot.vector_count
        new = len(ids) - snapshot.count(ids)
        if count + new > vectors_max:
            raise LimitExceeded(
                f"index {self._name!r} holds {count} vectors; {new} more would exceed the "
                f"maximum of {vectors_max}"
            )

    def _check_namespaces(self, batch: VectorBatch, namespaces_max: int) -> None:
        new = set(batch.namespaces) - {""}
        if not new:
            return
        if self._namespaces is None or len(self._namespaces | new) > namespaces_max:
            # Names of vectors deleted since are still in the set: count what is there.
            views = self._settled().views
            self._namespaces = {name for view in views for name in view.live_namespaces()}
        if len(self._namespaces | new) > namespaces_max:
            raise LimitExceeded(
                f"index {self._name!r} has {len(self._namespaces)} namespaces; "
                f"{len(new - self._namespaces)} more would exceed the maximum of {namespaces_max}"
            )
        self._namespaces |= new

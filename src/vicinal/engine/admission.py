"""Admission of writes: the limits on vectors, namespaces and metadata indexes.

A mutation is checked against the index as it will be once all that was queued before it is
applied. Where an upper bound will do nothing is waited for; else the index is *settled*: what is
queued is applied, and its newest snapshot is counted.

This knows snapshots, not how they come about.
"""

from collections.abc import Callable, Sequence

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

    All but `retract` is called under the lock that gives mutations their order.

    Args:
        settled: Returns the index's snapshot once all that was queued is applied.
        check_backpressure: Raises `Overloaded` while the index takes no vectors.
    """

    def __init__(
        self,
        index: Index,
        limits: Limits,
        snapshot: Snapshot,
        settled: Callable[[], Snapshot],
        check_backpressure: Callable[[], None],
    ) -> None:
        self.index = index
        self._limits = limits
        self._settled = settled
        self._check_backpressure = check_backpressure
        self._declared_vectors = 0
        self._retracted_vectors = 0  # changes in another thread than the declared ones
        self._begin(snapshot)

    @property
    def vector_count(self) -> int:
        """Number of vectors of all mutations that were declared and not retracted."""
        return self._declared_vectors - self._retracted_vectors

    def check(self, mutation: Mutation, vectors_at_most: int) -> None:
        """Pass a mutation or say which limit it would exceed.

        Args:
            vectors_at_most: Number of vectors in the index, counting all queued ones as new.

        Raises:
            Overloaded, AlreadyExists, MetadataIndexNotFound, LimitExceeded: see
                `engine.base.Engine`.
        """
        self._check_backpressure()
        if self._is_stale:
            self._begin(self._settled())
        limits = self._limits
        match mutation:
            case Insert(batch) | Upsert(batch):
                vectors_max = limits.vectors_per_index_max
                if vectors_max is not None and vectors_at_most + len(batch) > vectors_max:
                    self._check_vectors(batch, vectors_max)
                if limits.namespaces_per_index_max is not None:
                    self._check_namespaces(batch, limits.namespaces_per_index_max)
            case CreateMetadataIndex(index):
                declared = self._declared.get(index.property_name)
                if declared is not None and declared != index.type_name:
                    raise AlreadyExists(
                        f"property {index.property_name!r} has a metadata index of type "
                        f"{declared}; delete it before creating one of type {index.type_name}"
                    )
                if declared is None and len(self._declared) >= limits.metadata_indexes_max:
                    raise LimitExceeded(
                        f"index {self.index.name!r} has {len(self._declared)} metadata indexes, "
                        f"the maximum is {limits.metadata_indexes_max}"
                    )
            case DeleteMetadataIndex(property_name):
                if property_name not in self._declared:
                    raise MetadataIndexNotFound(
                        f"index {self.index.name!r} has no metadata index on {property_name!r}"
                    )
            case _:
                pass

    def declare(self, mutation: Mutation) -> None:
        """Remember what a mutation that is queued declares."""
        self._declared_vectors += vector_count(mutation)
        match mutation:
            case CreateMetadataIndex(index):
                self._declared[index.property_name] = index.type_name
            case DeleteMetadataIndex(property_name):
                del self._declared[property_name]
            case _:
                pass

    def retract(self, mutations: Sequence[Mutation]) -> None:
        """Forget mutations that were declared and refused; any thread may."""
        self._is_stale = True
        self._retracted_vectors += sum(map(vector_count, mutations))

    def _begin(self, snapshot: Snapshot) -> None:
        self._is_stale = False
        self._declared: dict[str, str] = {
            index.property_name: index.type_name for index in snapshot.metadata_indexes
        }
        self._namespaces: set[str] | None = None

    def _check_vectors(self, batch: VectorBatch, vectors_max: int) -> None:
        snapshot = self._settled()
        ids = list(dict.fromkeys(batch.ids))
        count = snapshot.vector_count
        new = len(ids) - snapshot.count(ids)
        if count + new > vectors_max:
            raise LimitExceeded(
                f"index {self.index.name!r} holds {count} vectors; {new} more would exceed the "
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
                f"index {self.index.name!r} has {len(self._namespaces)} namespaces; "
                f"{len(new - self._namespaces)} more would exceed the maximum of {namespaces_max}"
            )
        self._namespaces |= new


def vector_count(mutation: Mutation) -> int:
    """Return the number of vectors that a mutation writes."""
    return len(mutation.batch) if isinstance(mutation, Insert | Upsert) else 0

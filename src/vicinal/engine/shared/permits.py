"""The limits of an index, checked against all nodes' writes.

Called in the transaction that holds the index's ``head``, which has upper bounds: how many vectors
and namespaces there can be at most. While they are within the limits nothing else is asked. Near a
limit the rows are brought up to the log, which nobody else moves meanwhile, and counted.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

from vicinal.engine.shared.session import Session
from vicinal.errors import AlreadyExists, LimitExceeded, MetadataIndexNotFound
from vicinal.limits import Limits
from vicinal.model import (
    CreateMetadataIndex,
    DeleteMetadataIndex,
    Insert,
    MetadataIndex,
    Mutation,
    Seqno,
    Upsert,
    VectorBatch,
)

IDS_AT_ONCE = 10_000  # looked up in one statement; ours


@dataclass(slots=True)
class Head:
    """The row of ``head`` of an index, as the transaction that holds it will leave it."""

    index_id: UUID
    name: str
    logged_seqno: Seqno
    logged_bytes: int
    mutation_id: UUID | None
    vectors_at_most: int
    namespace_count: int
    namespace_epoch: int
    folded_bytes: int
    is_recounted: bool = False
    """Whether namespaces were counted anew, which is to be kept even when nothing is logged."""


class Permits:
    """Checks mutations against the limits. For the database's thread alone.

    Args:
        limits: Bounds of an index.
        checkpoint_until: Brings an index's rows up to a seqno and returns their count.
    """

    def __init__(
        self, limits: Limits, checkpoint_until: Callable[[UUID, Seqno], Awaitable[int]]
    ) -> None:
        self._limits = limits
        self._checkpoint_until = checkpoint_until
        self._lost_count = 0
        self._namespaces: dict[UUID, tuple[int, set[str]]] = {}
        """Of each index an epoch of its namespaces and names that ``namespace`` has in it."""

    async def admit(
        self, session: Session, head: Head, mutation: Mutation, *, is_first: bool
    ) -> bool:
        """Pass the next mutation, noting in `head` what it takes.

        Args:
            session: The transaction that holds `head`.
            head: Of the index.
            mutation: The next one.
            is_first: Whether nothing in this transaction is logged before it.

        Returns:
            False when it can be judged only once what this transaction logs is in the rows.

        Raises:
            AlreadyExists, MetadataIndexNotFound, LimitExceeded: see `engine.base.Engine`.
        """
        match mutation:
            case Insert(batch) | Upsert(batch):
                return await self._admit_vectors(session, head, batch, is_first=is_first)
            case CreateMetadataIndex(metadata_index):
                await self._check_metadata_index(session, head, metadata_index)
            case DeleteMetadataIndex(property_name):
                if property_name not in await _declared(session, head):
                    raise MetadataIndexNotFound(
                        f"index {head.name!r} has no metadata index on {property_name!r}"
                    )
            case _:
                pass
        return True

    def evict(self, index_id: UUID) -> None:
        """Keep no more of an index: a transaction was not committed, or it is gone."""
        self._namespaces.pop(index_id, None)

    def check_losses(self, lost_count: int) -> None:
        """Keep no more of any index if a connection was lost: the database may have gone back.

        Args:
            lost_count: How many were lost by now.
        """
        if lost_count != self._lost_count:
            self._lost_count = lost_count
            self._namespaces.clear()

    async def _admit_vectors(
        self, session: Session, head: Head, batch: VectorBatch, *, is_first: bool
    ) -> bool:
        vectors_max = self._limits.vectors_per_index_max
        namespaces_max = self._limits.namespaces_per_index_max
        vectors_at_most = head.vectors_at_most + len(batch)
        new_namespaces = set[str]() if namespaces_max is None else self._unknown(head, batch)
        is_near = vectors_max is not None and vectors_at_most > vectors_max
        is_full = namespaces_max is not None and (
            bool(new_namespaces) and head.namespace_count + len(new_namespaces) > namespaces_max
        )
        if (is_near or is_full) and not is_first:
            return False
        if is_near:
            vectors_at_most = await self._count_vectors(session, head, batch)
        if new_namespaces:
            assert namespaces_max is not None
            await self._add_namespaces(session, head, new_namespaces, namespaces_max)
        head.vectors_at_most = vectors_at_most
        return True

    async def _count_vectors(self, session: Session, head: Head, batch: VectorBatch) -> int:
        """Return how many vectors there would be."""
        vectors_max = self._limits.vectors_per_index_max
        assert vectors_max is not None
        count = await self._checkpoint_until(head.index_id, head.logged_seqno)
        ids = [id_.encode() for id_ in dict.fromkeys(batch.ids)]
        new = len(ids)
        for first in range(0, len(ids), IDS_AT_ONCE):
            (there,) = await session.fetchrow(
                "SELECT count(*) FROM vicinal.vector WHERE index_id = $1 AND id = ANY($2)",
                head.index_id,
                ids[first : first + IDS_AT_ONCE],
            )
            new -= there
        if count + new > vectors_max:
            raise LimitExceeded(
                f"index {head.name!r} holds {count} vectors; {new} more would exceed the "
                f"maximum of {vectors_max}"
            )
        return count + new

    def _unknown(self, head: Head, batch: VectorBatch) -> set[str]:
        """Return the namespaces of a batch that may be new."""
        epoch, known = self._namespaces.get(head.index_id, (-1, set[str]()))
        if epoch != head.namespace_epoch:
            known = set()
            self._namespaces[head.index_id] = (head.namespace_epoch, known)
        return set(batch.namespaces) - {""} - known

    async def _add_namespaces(
        self, session: Session, head: Head, names: set[str], namespaces_max: int
    ) -> None:
        added = await _insert_namespaces(session, head, names)
        if head.namespace_count + added > namespaces_max:
            # Names of vectors deleted since still count: count what is there.
            await self._checkpoint_until(head.index_id, head.logged_seqno)
            held = await _recount_namespaces(session, head)
            added = await _insert_namespaces(session, head, names)
            if held + added > namespaces_max:
                await session.execute(
                    "DELETE FROM vicinal.namespace WHERE index_id = $1 AND name = ANY($2)"
                    " AND NOT EXISTS (SELECT 1 FROM vicinal.vector WHERE"
                    " vector.index_id = $1 AND vector.namespace = namespace.name)",
                    head.index_id,
                    [name.encode() for name in names],
                )
                raise LimitExceeded(
                    f"index {head.name!r} has {held} namespaces; {added} more would exceed "
                    f"the maximum of {namespaces_max}"
                )
        head.namespace_count += added
        known = self._namespaces.setdefault(head.index_id, (head.namespace_epoch, set()))[1]
        known |= names

    async def _check_metadata_index(
        self, session: Session, head: Head, metadata_index: MetadataIndex
    ) -> None:
        declared = await _declared(session, head)
        name, limit = metadata_index.property_name, self._limits.metadata_indexes_max
        declared_type = declared.get(name)
        if declared_type is not None and declared_type != metadata_index.type_name:
            raise AlreadyExists(
                f"property {name!r} has a metadata index of type {declared_type}; delete it before "
                f"creating one of type {metadata_index.type_name}"
            )
        if declared_type is None and len(declared) >= limit:
            raise LimitExceeded(
                f"index {head.name!r} has {len(declared)} metadata indexes, the maximum is {limit}"
            )


async def _declared(session: Session, head: Head) -> dict[str, str]:
    """Return the types of the metadata indexes that there are at the end of the log."""
    rows = await session.fetch(
        "SELECT property_name, type FROM vicinal.metadata_index"
        " WHERE index_id = $1 AND dropped_seqno IS NULL",
        head.index_id,
    )
    return {row["property_name"].decode(): row["type"] for row in rows}


async def _insert_namespaces(session: Session, head: Head, names: set[str]) -> int:
    """Note namespaces; return how many were not noted before."""
    tag = await session.execute(
        "INSERT INTO vicinal.namespace SELECT $1, unnest($2::bytea[]) ON CONFLICT DO NOTHING",
        head.index_id,
        [name.encode() for name in names],
    )
    return int(tag.rpartition(" ")[2])


async def _recount_namespaces(session: Session, head: Head) -> int:
    """Note only namespaces that vectors have; return how many."""
    await session.execute("DELETE FROM vicinal.namespace WHERE index_id = $1", head.index_id)
    tag = await session.execute(
        "INSERT INTO vicinal.namespace SELECT DISTINCT $1::uuid, namespace FROM vicinal.vector"
        " WHERE index_id = $1 AND namespace <> ''",
        head.index_id,
    )
    head.namespace_count = int(tag.rpartition(" ")[2])
    head.namespace_epoch += 1
    head.is_recounted = True
    return head.namespace_count

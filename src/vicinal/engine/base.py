"""The seam between the server and an engine.

An engine keeps indexes: it makes mutations durable, applies them in order and answers
queries from a consistent snapshot. It is synchronous and thread-safe. Nothing above this
seam knows which engine runs, and no syntax or type of an engine leaves it.

The promises of every engine (``tests/conformance/test_engine.py``):

1. Insert keeps what is there, upsert replaces whole; ids are unique across an index.
2. An acknowledged mutation survives a kill at any point.
3. Applying a mutation a second time changes nothing.
4. ``applied_seqno`` never goes back, and moves through mutations in order, as one engine
   object sees it; another node of a shared engine may be behind.
5. A query sees all of a mutation or none of it.
6. Filters mean what ``filters.evaluate`` says.
7. Scores are exact, from ``distance``; ties are broken by id, as code points.
8. A query never returns fewer than ``top_k`` matches while more exist.
9. Errors are those of ``errors`` and nothing else.
10. One broken index leaves the others serving.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Protocol

from vicinal.index_storage import IndexStorage
from vicinal.model import (
    Accepted,
    BatchWriter,
    Facet,
    Index,
    IndexAddress,
    IndexConfig,
    ListedVector,
    MetadataIndex,
    Mutation,
    Page,
    Query,
    QueryResult,
    Scan,
    Scope,
    Seqno,
    Status,
    StoredVector,
    UnresolvedMutation,
    VectorBatch,
    VectorPage,
)
from vicinal.prepared import Prepared
from vicinal.usage import EngineUsage


class Engine(Protocol):
    """Keeps indexes. Any method that takes an address may raise `IndexNotFound`, and all but
    `create_index` mean the one index that an address with an id is of. They may raise
    `Unavailable` (the index is poisoned or still opening) or `Corruption`."""

    def create_index(
        self, address: IndexAddress, config: IndexConfig, description: str | None
    ) -> Index:
        """Create an empty index; durable when this returns.

        Raises:
            IndexExists: the name is taken in this account.
            LimitExceeded: the account holds as many indexes as it may.
        """
        ...

    def delete_index(self, address: IndexAddress) -> None:
        """Remove an index and all it holds; its name is free at once."""
        ...

    is_shared: bool
    """Whether other nodes may serve the same indexes; constant."""

    def answers_at_once(self, address: IndexAddress) -> bool:
        """Tell whether an event loop may call `get_index`, `query`, `prepare`, `append` without a
        wait, and `wait_applied` with a timeout of 0; always true unless the engine is shared.

        These calls then need this machine alone. All other calls may wait for another machine at
        any time, except for this and `usage`.
        """
        ...

    def get_index(self, address: IndexAddress) -> Index:
        """Return what was fixed at creation."""
        ...

    def list_indexes(self, account: str) -> Sequence[Index]:
        """Return an account's indexes, oldest first."""
        ...

    def list_metadata_indexes(self, address: IndexAddress) -> Sequence[MetadataIndex]:
        """Return the metadata indexes of the readable state, oldest first."""
        ...

    def open_batch(self, address: IndexAddress) -> BatchWriter:
        """Return a writer for a long batch, whose values need not be in memory.

        The caller may close it as soon as `append` has returned for its batch. The values of a
        batch of another index, or of one that was opened again, are copied.
        """
        ...

    def append(
        self,
        address: IndexAddress,
        mutation: Mutation | UnresolvedMutation,
        *,
        wait_s: float = 0.0,
    ) -> Future[Accepted]:
        """Log a mutation. The future resolves when it is durable, in order of calls.

        The mutation is applied soon after, in the order of seqnos. Sync callers write
        ``append(...).result()``.

        A mutation that is not resolved is resolved at its place in the log: it changes the vectors
        that match then, and the log has their ids. That may take seconds, during which writes of
        others are accepted and wait for it. For such a mutation this may wait even
        where `answers_at_once`.

        Args:
            address: Of the index.
            mutation: The whole write.
            wait_s: Seconds to wait for memory instead of raising `Overloaded`; may be infinite.

        Checks that need the index's state are made in the order of calls, so an error is raised
        here or set on the future:

        Raises:
            WrongDimensions: the vectors are not of the index's dimensions.
            AlreadyExists: the property has a metadata index of another type.
            MetadataIndexNotFound: a metadata index to delete does not exist.
            LimitExceeded: the index would hold too many vectors, namespaces or metadata
                indexes. Nothing is logged.
            Overloaded: too much is queued, still after `wait_s`. Nothing is logged.
            ResourceExhausted: the disk is full, or too many files are open. Nothing is logged.
            BadFilter: a scope's filter names a property without a metadata index.
            MetadataTooLarge: patched metadata would exceed the limit. Nothing is logged.
        """
        ...

    def wait_applied(self, address: IndexAddress, seqno: Seqno, timeout_s: float) -> bool:
        """Wait until a query sees the mutation; return whether it does by then.

        With a timeout of 0 this is about queries of this engine, else about those of all nodes.
        """
        ...

    def status(self, address: IndexAddress) -> Status:
        """Return the contents of the readable state, in numbers."""
        ...

    def storage(self, address: IndexAddress) -> IndexStorage:
        """Return the parts of the readable state, and the bytes of the index's files here."""
        ...

    def usage(self) -> EngineUsage:
        """Return the number of indexes and open ones over all accounts; opens none."""
        ...

    def query(self, address: IndexAddress, query: Query) -> QueryResult:
        """Return the nearest vectors that pass namespace and filter.

        Raises:
            BadQueryVector: the vector is not of the index's dimensions.

        An unknown ``vector_id`` gives no matches.
        """
        ...

    def prepare(self, address: IndexAddress, query: Query) -> Prepared[QueryResult]:
        """Prepare `query` on a snapshot that is taken now.

        This and `Prepared.finish` raise the errors of `query`.
        """
        ...

    def get(self, address: IndexAddress, ids: Sequence[str]) -> Sequence[StoredVector]:
        """Return the stored vectors among `ids`, in the order asked, each once."""
        ...

    def list(self, address: IndexAddress, count: int, cursor: str | None) -> Page:
        """Return one page of ids.

        Pages reached through a cursor all describe the index as it was when the first
        was read.

        Raises:
            BadCursor: the cursor is unknown, of another index, or expired.
            Overloaded: listings that nobody has finished hold as much memory as they may.
        """
        ...

    def list_vectors(
        self, address: IndexAddress, scan: Scan, count: int, cursor: str | None
    ) -> VectorPage:
        """Return one page of vectors with their content.

        Pages reached through a cursor all describe the index as it was when the first was read,
        which the engine keeps in this process: a shared engine's other nodes do not know the
        cursor. The scope is that of the first page.

        Raises:
            BadFilter: the filter names a property without a metadata index.
            BadCursor, Overloaded: as `list`.
        """
        ...

    def stream_vectors(
        self, address: IndexAddress, scan: Scan, count: int
    ) -> Iterator[Sequence[ListedVector]]:
        """Return an iterator over all vectors of a scan, up to `count` at a time, as they are now.

        Raises:
            BadFilter: the filter names a property without a metadata index.
        """
        ...

    def sample_vectors(
        self, address: IndexAddress, scope: Scope, count_max: int, part_max: int
    ) -> Iterator[VectorBatch]:
        """Return an iterator over vectors of a scope as they are now: all of them, or `count_max`
        from everywhere in it; up to `part_max` at a time. The same state gives the same ones.

        Raises:
            BadFilter: the filter names a property without a metadata index.
        """
        ...

    def count(self, address: IndexAddress, scope: Scope) -> int:
        """Return the number of vectors in a scope.

        Raises:
            BadFilter: the filter names a property without a metadata index.
        """
        ...

    def facet(
        self, address: IndexAddress, property_name: str, scope: Scope, values_max: int
    ) -> Facet:
        """Return the most frequent values of a property in a scope, with their counts.

        Raises:
            MetadataIndexNotFound: the property has no metadata index.
            BadFilter: the filter names a property without a metadata index.
            LimitExceeded: there are too many distinct values to count.
        """
        ...

    def compact(self, address: IndexAddress) -> None:
        """Do now what is otherwise done in the background: seal the memtable and merge.

        Raises:
            ResourceExhausted: the disk is full; it is done once there is room.
        """
        ...

    def close(self) -> None:
        """Stop background work and release files. Acknowledged mutations stay."""
        ...

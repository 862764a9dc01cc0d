"""Resolving mutations by this node's copy, while a transaction holds the end of the log.

The copy is brought to that end first, and no node can log anything until the transaction is over:
so what is resolved is what matches at the mutation's place in the log.
"""

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing

from vicinal.budget import Budget
from vicinal.engine import records, resolution
from vicinal.engine.blob_files import BlobFiles, BlobWriter
from vicinal.engine.copying import CopiedIndex
from vicinal.engine.shared.drafts import SharedDraft
from vicinal.engine.shared.uploads import BatchUpload
from vicinal.errors import BodyTooLarge, Overloaded, Unavailable
from vicinal.interruption import interruptible
from vicinal.limits import Limits
from vicinal.model import Accepted, Mutation, Seqno, UnresolvedMutation

RECORD_BYTES_MAX = 900_000_000  # as in `writer`
COPY_WAIT_S = 5.0  # for the copy to come to the end of the log, which is locked; ours


class CopyResolver:
    """Resolves one mutation; the bytes of its newest draft count as queued."""

    def __init__(self, resolve: Callable[[Seqno], SharedDraft], queue: Budget) -> None:
        self._resolve = resolve
        self._queue = queue
        self._held_bytes = 0

    def __call__(self, seqno: Seqno) -> SharedDraft:
        """Return the draft of the mutation that comes right after a seqno.

        Raises:
            Overloaded: too many bytes are queued.
            Error: see `resolved`.
        """
        self.release()
        draft = self._resolve(seqno)
        if not self._queue.acquire(draft.record.size):
            raise Overloaded(
                f"{self._queue.used} bytes of mutations are queued, "
                f"{self._queue.bound} are allowed",
                retry_after=1.0,
                queue="writes",
            )
        self._held_bytes = draft.record.size
        return draft

    def release(self, _: Future[Accepted] | None = None) -> None:
        """Count the bytes as queued no more."""
        held, self._held_bytes = self._held_bytes, 0
        self._queue.release(held)


def resolved(
    copy: CopiedIndex,
    mutation: UnresolvedMutation,
    seqno: Seqno,
    limits: Limits,
    blobs: BlobFiles,
) -> SharedDraft:
    """Return the draft of a mutation that comes right after a seqno, where the log ends.

    Raises:
        Unavailable: the copy does not come to the seqno in time.
        Error: as `resolution.resolve`.
    """
    if not copy.wait_applied(seqno, COPY_WAIT_S):
        raise Unavailable(
            f"this node's copy of index {copy.index.name!r} does not keep up", retry_after=1.0
        )
    dimensions = copy.index.config.dimensions
    # A closed writer removes its file; the values that are mapped stay.
    with closing(BlobWriter(blobs, dimensions)) as writer, interruptible(copy.check_readable):
        result = resolution.resolve(
            copy.reader.current(),
            mutation,
            limits,
            dimensions=dimensions,
            bytes_max=RECORD_BYTES_MAX,
            open_batch=lambda: writer,
        )
    return draft(result.mutation, result.vector_count)


def draft(
    mutation: Mutation, vector_count: int | None = None, upload: BatchUpload | None = None
) -> SharedDraft:
    """Return a mutation with its record; `upload` has its values.

    Raises:
        BodyTooLarge: the record is longer than the log takes.
    """
    record = records.encode(mutation)
    if record.size > RECORD_BYTES_MAX:
        raise BodyTooLarge(
            f"the mutation takes {record.size} bytes, the maximum is {RECORD_BYTES_MAX}"
        )
    return SharedDraft.of(mutation, record, vector_count, upload)

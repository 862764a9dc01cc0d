"""A mutation as it waits for its place in the log of the database: with its record, in parts."""

from collections.abc import Sequence
from dataclasses import dataclass

from vicinal.engine.records import LogRecord
from vicinal.engine.shared import log_records
from vicinal.engine.shared.uploads import BatchUpload
from vicinal.model import Mutation


@dataclass(frozen=True, slots=True, eq=False)
class SharedDraft:
    """A mutation with its record, in the parts that are logged. `vector_count` is the number of
    vectors that it changes, of one that was resolved. `upload` has the record's values, which
    `parts` and `checksum` are without then."""

    mutation: Mutation
    record: LogRecord
    parts: Sequence[bytes | memoryview]
    checksum: int
    vector_count: int | None = None
    upload: BatchUpload | None = None

    @classmethod
    def of(
        cls,
        mutation: Mutation,
        record: LogRecord,
        vector_count: int | None = None,
        upload: BatchUpload | None = None,
    ) -> "SharedDraft":
        """Cut a record; its memory must stay as it is while the draft is in use."""
        parts = log_records.cut(record if upload is None else LogRecord(record.header))
        return cls(mutation, record, parts, log_records.checksum(parts), vector_count, upload)

    @property
    def queued_bytes(self) -> int:
        """How much memory it takes while it waits."""
        return self.record.size - (0 if self.upload is None else self.record.values.nbytes)

    def settle(self, *, is_logged: bool) -> None:
        """Say that the mutation was acknowledged or refused."""
        if self.upload is not None:
            self.upload.settle(is_logged=is_logged)

    @property
    def is_in_row(self) -> bool:
        """Whether the record is in the row of its mutation, not in parts."""
        return len(self.parts) == 1 and self.upload is None

    @property
    def whole_checksum(self) -> int:
        """The CRC-32 of the whole record, once what is uploaded has been shipped."""
        return self.checksum if self.upload is None else self.upload.checksum(self.checksum)

"""The contents of an index in the database, for `engine.contents`; read without a copy of it."""

from collections.abc import Iterator

from vicinal.engine.shared.filling import BEFORE_ALL_ROWS, RowPosition, RowsSnapshot
from vicinal.errors import BadCursor, Corruption
from vicinal.model import CreateMetadataIndex, Upsert


class RowsContents:
    """Implements `engine.contents.Contents` over rows that are read in the order of seqnos.

    A cursor is the last row that was read. It holds for every later state, too: rows that have
    changed since are behind it.
    """

    def __init__(self, rows: RowsSnapshot) -> None:
        self.moment = f"{rows.position.seqno}:{rows.position.mutation_id}"
        self.vector_count = rows.vector_count
        self._rows = rows

    def mutations(self) -> Iterator[tuple[Upsert | CreateMetadataIndex, str | None]]:
        """See `engine.contents.Contents`.

        Raises:
            Unavailable: the connection is lost.
            Corruption: a row is not of this index.
        """
        try:
            for mutation in self._rows.mutations():
                assert isinstance(mutation, Upsert | CreateMetadataIndex)
                last = self._rows.last if isinstance(mutation, Upsert) else None
                yield mutation, None if last is None else f"{last.seqno}.{last.id.hex()}"
        except (UnicodeDecodeError, ValueError) as error:
            raise Corruption(f"the rows of the index cannot be read: {error}") from error


def position_of(cursor: str | None) -> RowPosition:
    """Return the row that a cursor names.

    Raises:
        BadCursor: it names none.
    """
    if cursor is None:
        return BEFORE_ALL_ROWS
    seqno, _, id_ = cursor.partition(".")
    try:
        return RowPosition(int(seqno), bytes.fromhex(id_))
    except ValueError as error:
        raise BadCursor(f"{cursor!r} is not a cursor of contents") from error

"""Parquet, Arrow and Feather, by pyarrow: an optional package (`pip install 'vicinal[files]'`).

Columns that play no part are not read. A batch's values are taken from Arrow's memory as they are.
"""

import datetime
from collections.abc import Iterator
from typing import Any

import numpy as np

from vicinal.errors import BadFile
from vicinal.readers import columnar
from vicinal.readers.base import ColumnNames, Position, RowBatch
from vicinal.readers.columnar import UNIT, TableColumns
from vicinal.readers.opening import FileForm, FileSource, needs_pyarrow

_BUFFER_BYTES = 1 << 20


class ArrowReader:
    """Reads a table by pyarrow.

    Args:
        source: The file.
        form: PARQUET, ARROW (which Feather is) or ARROW_STREAM.
        names: The meaning of columns.
        dimensions: The length of every vector; 0 for texts.

    Raises:
        BadFile: on creation, when pyarrow is missing.
    """

    unit = UNIT

    def __init__(
        self, source: FileSource, form: FileForm, names: ColumnNames, dimensions: int
    ) -> None:
        try:
            import pyarrow
            import pyarrow.ipc
            import pyarrow.parquet  # so that it is missing now, not later
        except ImportError:
            raise BadFile(needs_pyarrow(f"a file of {form.value}")) from None
        self._pyarrow = pyarrow
        self._source = source
        self._form = form
        self._names = names
        self._dimensions = dimensions

    def batches(self, start: Position, rows_max: int) -> Iterator[RowBatch]:
        """See `base.FileReader`."""
        try:
            yield from self._batches(start, rows_max)
        except (self._pyarrow.ArrowException, OSError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise BadFile(
                f"it is cut off or damaged, or no {self._form.value}: {reason}"
            ) from error

    def _batches(self, start: Position, rows_max: int) -> Iterator[RowBatch]:
        columns, count_all, parts = self._opened(rows_max)
        row = 0
        for part in parts:
            for offset in range(0, part.num_rows, rows_max):
                piece = part.slice(offset, min(rows_max, part.num_rows - offset))
                following = row + piece.num_rows
                if following > start.number:
                    piece = piece.slice(max(0, start.number - row))
                    data = {name: _column(piece, name, columns) for name in columns.names}
                    yield columnar.batch_of(
                        columns, data, piece.num_rows, self._names, self._dimensions,
                        following - piece.num_rows,
                        following / count_all if count_all else self._source.fraction,
                    )  # fmt: skip
                row = following

    def _opened(self, rows_max: int) -> tuple[TableColumns, int, Iterator[Any]]:
        """Return the columns, the number of rows (0 if it is not known), and batches of Arrow."""
        arrow = self._pyarrow
        if self._form is FileForm.PARQUET:
            file = arrow.parquet.ParquetFile(
                self._source.seekable(), buffer_size=_BUFFER_BYTES, pre_buffer=False
            )
            columns = columnar.table_columns(file.schema_arrow.names, self._names)
            wanted = columns.names
            batches = file.iter_batches(batch_size=rows_max, columns=wanted, use_threads=False)
            return columns, file.metadata.num_rows, batches
        if self._form is FileForm.ARROW:
            reader = arrow.ipc.open_file(self._source.seekable())
            columns = columnar.table_columns(reader.schema.names, self._names)
            count = reader.num_record_batches
            return columns, 0, (reader.get_batch(number) for number in range(count))
        stream = arrow.ipc.open_stream(_Readable(self._source))
        return columnar.table_columns(stream.schema.names, self._names), 0, iter(stream)


def _column(batch: Any, name: str, columns: TableColumns) -> Any:
    """Return a column: a matrix for vectors of one length, else Python's values."""
    import pyarrow

    column = batch.column(name)
    if isinstance(column.type, pyarrow.FixedShapeTensorType):
        column = column.storage
    if name in columns.vector and len(columns.vector) == 1:
        matrix = _matrix(column)
        if matrix is not None:
            return matrix
    try:
        return column.to_pylist()
    except (ValueError, OverflowError):  # nanoseconds, or a year that Python has no type for
        return [_fine_value(scalar) for scalar in column]


def _fine_value(scalar: Any) -> Any:
    """Return a value as Python has it, and as text a time that it has no type for."""
    import pyarrow

    try:
        return scalar.as_py()
    except (ValueError, OverflowError):
        span = datetime.timedelta(microseconds=scalar.value // 1_000)
        if pyarrow.types.is_time(scalar.type):
            time = (datetime.datetime(1, 1, 1, tzinfo=datetime.UTC) + span).time()
            return f"{time.isoformat(timespec='microseconds')}{scalar.value % 1_000:03}"
        if not pyarrow.types.is_timestamp(scalar.type):
            return span  # which has no form in JSON, and is named as such
    unit, zone = scalar.type.unit, scalar.type.tz
    if unit != "ns":
        return f"{np.datetime64(scalar.value, unit)}{'' if zone is None else '+00:00'}"
    rest = scalar.value % 1_000
    rounded = pyarrow.scalar(scalar.value // 1_000, pyarrow.timestamp("us", zone))
    text: str = rounded.as_py().isoformat(timespec="microseconds")
    end = text.index(".") + 7
    return f"{text[:end]}{rest:03}{text[end:]}"


def _matrix(column: Any) -> np.ndarray[Any, Any] | None:
    """Return lists of one length as a matrix; None where they differ or one has a null."""
    import pyarrow

    types = pyarrow.types
    if not (
        types.is_list(column.type)
        or types.is_large_list(column.type)
        or types.is_fixed_size_list(column.type)
    ):
        return None
    item = column.type.value_type
    if (
        not (types.is_floating(item) or types.is_integer(item))
        or column.null_count
        or not len(column)
    ):
        return None
    flat = column.flatten()
    if flat.null_count or len(flat) % len(column):
        return None
    width = len(flat) // len(column)
    if not types.is_fixed_size_list(column.type):
        offsets = column.offsets.to_numpy(zero_copy_only=False)
        if not np.array_equal(np.diff(offsets), np.full(len(column), width)):
            return None
    matrix: np.ndarray[Any, Any] = flat.to_numpy(zero_copy_only=False).reshape(len(column), width)
    return matrix


class _Readable:
    """A source as a file that pyarrow reads."""

    closed = False

    def __init__(self, source: FileSource) -> None:
        self.read = source.pull

    def close(self) -> None:
        """Nothing to close: the source is."""

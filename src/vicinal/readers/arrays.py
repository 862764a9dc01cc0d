"""Arrays of NumPy: ``.npy`` with a matrix or a table, ``.npz`` with an array for every column.

The values of a matrix go from the file to memory once. Nothing is mapped into memory: a file that
shrinks while it is mapped would end the process. Arrays of Python's objects are refused, as reading
them may run anything.
"""

import io
import lzma
import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from vicinal.errors import BadFile
from vicinal.readers import columnar
from vicinal.readers.base import USUAL_IDS, USUAL_VECTORS, ColumnNames, Position, RowBatch
from vicinal.readers.columnar import ROW_NUMBER, UNIT, TableColumns
from vicinal.readers.opening import FileSource, PulledFile

BinaryFile = io.RawIOBase | io.BufferedIOBase

_PART_BYTES = 1 << 20
_BATCH_BYTES_MAX = 32 << 20  # ours: of values in a batch, and of one row
_HEAD_BYTES_MAX = 1 << 20  # ours: NumPy reads a head whole before it looks at its length
_DAMAGED = (
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, lzma.LZMAError, EOFError, OSError,
    ValueError, NotImplementedError, RuntimeError,
)  # fmt: skip
"""Errors of the library for an archive that is damaged, encrypted or packed otherwise."""


@dataclass(frozen=True, slots=True)
class _Array:
    """An array in a file, at whose values `file` stands."""

    name: str
    file: BinaryFile
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_by_column: bool
    offset: int  # of the values

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape[1:])

    def rows(self, start: int, count: int) -> NDArray[Any]:
        """Return `count` rows after `start`, which are the next of the file.

        Raises:
            BadFile: the file ends before.
        """
        if self.is_by_column:
            return self._read_columns(start, count)
        values = np.empty(count * self.row_bytes, np.uint8)
        view = memoryview(values)  # type: ignore[arg-type]  # NumPy's arrays are buffers
        filled = 0
        while filled < len(view):
            read_count = self.file.readinto(view[filled : filled + _PART_BYTES])
            if not read_count:
                raise self._cut_off(start + filled // max(self.row_bytes, 1))
            filled += read_count
        return np.frombuffer(values, self.dtype).reshape(count, *self.shape[1:])

    def _read_columns(self, start: int, count: int) -> NDArray[Any]:
        rows, width = self.shape
        if self.file.seek(0, io.SEEK_END) < self.offset + rows * self.row_bytes:
            raise self._cut_off(start)
        values = np.empty((count, width), self.dtype)
        for column in range(width):
            index = column * rows + start
            self.file.seek(self.offset + index * self.dtype.itemsize)
            part = self.file.read(count * self.dtype.itemsize)
            if len(part) < count * self.dtype.itemsize:  # it has shrunk
                raise self._cut_off(start)
            values[:, column] = np.frombuffer(part, self.dtype)
        return values

    def _cut_off(self, row: int) -> BadFile:
        return BadFile(f"it is cut off in row {row + 1} of the {self.shape[0]:,} it should have")


class NpyReader:
    """Reads ``.npy``: a matrix with a vector in every row, or an array of records with fields.

    Args:
        source: The file.
        names: The meaning of fields. A matrix has no ids, so these are numbers of rows.
        dimensions: The length of every vector; 0 for texts.
    """

    unit = UNIT

    def __init__(self, source: FileSource, names: ColumnNames, dimensions: int) -> None:
        self._source = source
        self._names = names
        self._dimensions = dimensions

    def batches(self, start: Position, rows_max: int) -> Iterator[RowBatch]:
        """See `base.FileReader`."""
        source = self._source
        is_by_column = _opened("the array", io.BytesIO(source.start)).is_by_column
        is_moved_in = source.is_seekable or is_by_column
        file: BinaryFile = PulledFile(source.pull)
        if is_moved_in:
            file = cast(io.BufferedIOBase, source.seekable())
        array = _opened("the array", file)
        _check_readable(array)
        if source.is_seekable and source.size is not None:
            whole = array.offset + array.shape[0] * array.row_bytes
            if source.size > whole:
                raise BadFile(f"it goes on for {source.size - whole:,} bytes after its array")
        if array.dtype.fields is not None:
            columns = columnar.table_columns(array.dtype.names or (), self._names)
        else:
            columns = _matrix_columns(array, self._names, self._dimensions)
        if not array.is_by_column:
            _pass_rows(array, start.number, is_seekable=source.is_seekable)
        step = _rows_at_once(array.row_bytes, rows_max)
        for row in range(start.number, array.shape[0], step):
            count = min(step, array.shape[0] - row)
            part = array.rows(row, count)
            data = (
                {name: part[name] for name in columns.names}
                if part.dtype.fields is not None
                else {columns.vector[0]: part}
            )
            fraction = (row + count) / array.shape[0]
            yield columnar.batch_of(
                columns, data, count, self._names, self._dimensions, row, fraction
            )


class NpzReader:
    """Reads ``.npz``: one array a column, all of the same length; of vectors a matrix.

    Args:
        source: The file.
        names: The meaning of arrays. Without one of ids these are numbers of rows.
        dimensions: The length of every vector; 0 for texts.
    """

    unit = UNIT

    def __init__(self, source: FileSource, names: ColumnNames, dimensions: int) -> None:
        self._source = source
        self._names = names
        self._dimensions = dimensions

    def batches(self, start: Position, rows_max: int) -> Iterator[RowBatch]:
        """See `base.FileReader`."""
        try:
            with zipfile.ZipFile(self._source.seekable()) as archive:
                yield from self._batches(archive, start, rows_max)
        except _DAMAGED as error:
            raise BadFile(f"it is cut off or damaged, or no .npz: {error}") from error

    def _batches(
        self, archive: zipfile.ZipFile, start: Position, rows_max: int
    ) -> Iterator[RowBatch]:
        arrays = [
            _opened(name.removesuffix(".npy"), cast(io.BufferedIOBase, archive.open(name)))
            for name in archive.namelist()
            if name.endswith(".npy")
        ]
        if not arrays:
            raise BadFile("this archive has no arrays (.npy) in it")
        names = self._usual_names(arrays)
        columns = columnar.table_columns([array.name for array in arrays], names)
        used = [array for array in arrays if array.name in columns.names]
        self._refuse_misfits(used, columns)
        count_all = used[0].shape[0]
        for array in used:
            _pass_rows(array, start.number, is_seekable=False)
        step = _rows_at_once(max(array.row_bytes for array in used), rows_max)
        for row in range(start.number, count_all, step):
            count = min(step, count_all - row)
            data = {array.name: array.rows(row, count) for array in used}
            yield columnar.batch_of(
                columns, data, count, names, self._dimensions, row, (row + count) / count_all
            )

    def _usual_names(self, arrays: Sequence[_Array]) -> ColumnNames:
        """Return the names with what an archive may leave unsaid: ids, and the only matrix."""
        names = self._names
        there = {array.name for array in arrays}
        if names.id is None and not there & {*USUAL_IDS}:
            names = replace(names, id=ROW_NUMBER)
        matrices = [array.name for array in arrays if len(array.shape) == 2]
        if names.vector is None and len(matrices) == 1 and not there & {*USUAL_VECTORS}:
            names = replace(names, vector=matrices[0])
        return names

    def _refuse_misfits(self, arrays: Sequence[_Array], columns: TableColumns) -> None:
        lengths = {array.name: array.shape[0] if array.shape else 0 for array in arrays}
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"{name} {length:,}" for name, length in lengths.items())
            raise BadFile(f"its arrays differ in length: {listed}")
        for array in arrays:
            _check_readable(array)
            if array.is_by_column:
                raise BadFile(
                    f"array {array.name!r} is in Fortran order; np.ascontiguousarray changes that"
                )
            if array.name in columns.vector and len(columns.vector) == 1:
                _check_matrix(array, self._dimensions)
            elif len(array.shape) != 1:
                raise BadFile(f"array {array.name!r} has {len(array.shape)} dimensions; --ignore")


class _ArrayHead:
    """The head of an array, as NumPy reads it, but for one that is too long."""

    def __init__(self, file: BinaryFile) -> None:
        def pull(size: int = -1, /) -> bytes:
            if not 0 <= size <= _HEAD_BYTES_MAX:
                raise ValueError(f"a head of {size:,} bytes, max is {_HEAD_BYTES_MAX:,}")
            return file.read(size) or b""

        self.read = pull


def _opened(name: str, file: BinaryFile) -> _Array:
    try:
        shape, is_by_column, dtype = _read_head(_ArrayHead(file))
    except (ValueError, SyntaxError, tokenize.TokenError, EOFError, OSError) as error:
        raise BadFile(f"the head of {name} cannot be read: {error}") from error
    is_matrix = len(shape) == 2 and is_by_column
    offset = file.tell() if file.seekable() else 0
    return _Array(name, file, shape, dtype, is_matrix, offset)


def _read_head(file: _ArrayHead) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, whether it is in Fortran's order, and type."""
    version = npy.read_magic(file)
    if version == (1, 0):
        return npy.read_array_header_1_0(file)
    if version not in ((2, 0), (3, 0)):
        raise ValueError(f"version {version[0]}.{version[1]} of the form is not known")
    shape, is_by_column, dtype = npy.read_array_header_2_0(file)
    if version == (3, 0) and dtype.names is not None:  # which has names in UTF-8
        dtype.names = tuple(name.encode("latin1").decode() for name in dtype.names)
    return shape, is_by_column, dtype


def _check_readable(array: _Array) -> None:
    """Refuse an array that nothing can be read of.

    Raises:
        BadFile: it holds objects of Python's, has no rows or a length below 0, or too long rows.
    """
    if array.dtype.hasobject:
        raise BadFile(
            f"{array.name} holds Python objects, which are not read; save numbers or texts"
        )
    if any(length < 0 for length in array.shape):
        raise BadFile(f"{array.name} has the shape {array.shape}, which no array has")
    if not array.shape:
        raise BadFile(f"{array.name} has 0 dimensions; vectors are a matrix, one in a row")
    is_vectors = array.dtype.kind in "fiu" and len(array.shape) == 2  # whose length is told better
    if array.row_bytes > _BATCH_BYTES_MAX and not is_vectors:
        raise BadFile(
            f"{array.name} has a row of {array.row_bytes:,} bytes, max is {_BATCH_BYTES_MAX:,}"
        )


def _matrix_columns(array: _Array, names: ColumnNames, dimensions: int) -> TableColumns:
    for given, option in ((names.text, "--text"), (names.namespace, "--namespace")):
        if given is not None:
            raise BadFile(f"a matrix has no columns, so {option} means nothing here")
    if names.id not in (None, ROW_NUMBER):
        raise BadFile("a matrix has no ids, which become numbers of rows; .npz may hold both")
    _check_matrix(array, dimensions)
    return TableColumns(None, ("values",), None, None, ())


def _check_matrix(array: _Array, dimensions: int) -> None:
    if len(array.shape) != 2:
        raise BadFile(
            f"{array.name} has {len(array.shape)} dimensions; vectors are a matrix, one in a row"
        )
    if array.dtype.kind not in "fiu":
        raise BadFile(f"{array.name} is of {array.dtype}, and values are numbers")
    if array.shape[1] != dimensions and array.shape[0]:
        raise BadFile(f"row 1, values: expected {dimensions} dimensions, and got {array.shape[1]}")


def _rows_at_once(row_bytes: int, rows_max: int) -> int:
    return max(1, min(rows_max, _BATCH_BYTES_MAX // max(row_bytes, 1)))


def _pass_rows(array: _Array, count: int, *, is_seekable: bool) -> None:
    if is_seekable:
        array.file.seek(array.offset + count * array.row_bytes)
        return
    step = _rows_at_once(array.row_bytes, array.shape[0] or 1)
    for row in range(0, min(count, array.shape[0]), step):
        array.rows(row, min(step, count - row))

"""Python objects in the types of a JSON parser: vectors to be stored, and values within them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
from numpy.ma import MaskedArray  # at the start: loaded later it would hold memory for good
from numpy.typing import ArrayLike, NDArray

from vicinal.binding.arguments import Asking, encodable, iterated, kind
from vicinal.errors import BadRecord, InvalidInput
from vicinal.model import Floats

_MEMBERS = ("id", "values", "namespace", "metadata")
_DEPTH_MAX = 200  # the wire's rule is stricter; this ends objects that contain themselves
_VALUES_MAX = 100_000  # likewise: a few lists that contain each other unfold without end
_WHERE_CHARS = 80
_SIMPLE_MAX = 1 << 63  # of integers: they are written with few digits
_SIMPLE = frozenset({float, bool, type(None)})
_JSON_KINDS = "fiubU"  # kinds of NumPy types with a form in JSON; the wire refuses some of them


@dataclass(frozen=True, slots=True)
class Vector:
    """A stored vector; `values` is ``(dimensions,)`` float32 as it was written."""

    id: str
    values: Floats
    namespace: str = ""
    metadata: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Columns:
    """Many vectors as columns, the best form for arrays.

    `Vectorize.insert` and `Vectorize.upsert` check and copy the columns, so that the arrays may
    be changed after the call. The profile of limits bounds the vectors of a call, to 100,000 in
    ``open``; more vectors are loaded in a loop:

    >>> import numpy as np
    >>> import vicinal
    >>> rows = np.eye(3, dtype=np.float32)
    >>> with vicinal.open("data") as database:
    ...     docs = database.create_index("columns", dimensions=3, metric="cosine")
    ...     for start in range(0, len(rows), 2):
    ...         part = rows[start : start + 2]
    ...         ids = [str(start + row) for row in range(len(part))]
    ...         _ = docs.upsert(vicinal.Columns(ids, part), wait=True)
    ...     count = docs.describe().vector_count
    >>> count
    3

    Attributes:
        ids: One for every row: a list, or an array of strings.
        values: ``(n, dimensions)``, integers or floats of any size; they are stored as float32.
            An array of float32 in C order is the fastest. Booleans, complex numbers, objects and
            masked arrays are refused.
        namespaces: One for every row, or None for none.
        metadata: One for every row, or None for none.
    """

    ids: Sequence[str]
    values: ArrayLike
    namespaces: Sequence[str | None] | None = None
    metadata: Sequence[Mapping[str, Any] | None] | None = None


Vectors: TypeAlias = Columns | Iterable[Vector | Mapping[str, Any]]
"""Vectors to store: columns, or records as a Worker writes them, of ``id``, ``values`` and
perhaps ``namespace`` and ``metadata``."""


def records(vectors: object) -> Iterator[dict[str, Any]]:
    """Yield records in the types of a JSON parser, but with arrays of values.

    Members without a meaning are left out.

    Raises:
        BadRecord: the argument is neither columns nor records, or has no form in JSON.
    """
    if isinstance(vectors, Mapping | str):
        raise BadRecord(f"vectors: expected a sequence of records, got {kind(vectors)}")
    rows = _rows(vectors) if isinstance(vectors, Columns) else vectors
    for position, record in enumerate(iterated(rows, "vectors", BadRecord)):
        yield _record(record, f"vectors[{position}]")


def _record(record: object, where: str) -> dict[str, Any]:
    with Asking(where, BadRecord):
        if isinstance(record, Vector):
            members: Mapping[str, Any] = {name: getattr(record, name) for name in _MEMBERS}
        elif isinstance(record, Mapping):
            members = record
        else:
            raise BadRecord(f"{where}: expected a record or Vector, got {type(record).__name__}")
        return {
            name: numbers(members[name], f"{where}.{name}", BadRecord)
            if name == "values"
            else plain(members[name], f"{where}.{name}", BadRecord)
            for name in _MEMBERS
            if name in members
        }


def _rows(columns: Columns) -> Iterator[Mapping[str, Any]]:
    values = array(columns.values, "columns: values", BadRecord)
    by_name = {"ids": columns.ids, "namespaces": columns.namespaces, "metadata": columns.metadata}
    lengths = {
        name: _length(column, name)
        for name, column in by_name.items()
        if column is not None or name == "ids"
    }
    count = len(values) if values.ndim else 0
    # Before any column is read, as columns may be endless.
    if any(length != count for length in lengths.values()):
        counts = [f"{lengths.pop('ids')} ids", f"{count} rows of values"]
        counts += [f"{length} {name}" for name, length in lengths.items()]
        raise BadRecord(f"columns differ in length: {', '.join(counts)}")
    if values.ndim != 2 and values.shape != (0,):
        raise BadRecord(
            f"columns: values: expected an array of two dimensions, got one of {values.ndim}"
        )
    ids, namespaces, documents = (_column(by_name[name], name, count) for name in by_name)
    for id_, row, namespace, document in zip(ids, values, namespaces, documents, strict=True):
        yield {"id": id_, "values": row, "namespace": namespace, "metadata": document}


def _length(value: object, name: str) -> int:
    if isinstance(value, str | bytes | bytearray | Mapping | AbstractSet) or not isinstance(
        value, Sized
    ):
        raise BadRecord(f"columns: {name}: expected a sequence, got {kind(value)}")
    with Asking(f"columns: {name}", BadRecord):
        return len(value)


def _column(value: object, name: str, count: int) -> list[object]:
    if value is None:
        return [None] * count
    with Asking(f"columns: {name}", BadRecord):
        items = list(islice(iterated(value, f"columns: {name}", BadRecord), count + 1))
    if len(items) != count:
        raise BadRecord(f"columns: {name}: says that it has {count} items, and has not")
    return items


def numbers(value: object, where: str, error: type[InvalidInput]) -> object:
    """Return numbers as an array of one dimension, and any other value in the types of JSON.

    The wire's reader then refuses the other values with a reason.

    Raises:
        InvalidInput: an `error`: the value has no form in JSON.
    """
    if type(value) is np.ndarray and value.ndim == 1 and value.dtype.kind in "fiu":
        return value  # the usual case, without 20 microseconds of checks
    if value is None or isinstance(value, bool | int | float | str | Mapping):
        return value if not isinstance(value, Mapping) else {}
    if isinstance(value, list | tuple):
        with Asking(where, error):
            return [_python(item) for item in value]
    values = array(value, where, error)
    return values if values.ndim == 1 and values.dtype.kind in "fiu" else values.tolist()


def array(value: object, where: str, error: type[InvalidInput]) -> NDArray[Any]:
    """Return a value as an array.

    Raises:
        InvalidInput: an `error`: the value is no array, or its items have no form in JSON.
    """
    with Asking(where, error):
        parts = list(value) if isinstance(value, list | tuple) else []
    for part in (value, *parts):
        if isinstance(part, bytes | bytearray | str | Mapping | AbstractSet):
            raise error(f"{where}: expected an array of numbers, got {kind(part)}")
        if isinstance(part, MaskedArray):
            raise error(f"{where}: a masked array; fill it first")
    try:
        values = np.asarray(value)
    except Exception as raised:  # methods of the object are called, and may raise any exception
        raise error(f"{where}: values are not one array: {raised}") from None
    if values.dtype.kind == "O" and values.ndim == 0:
        raise error(f"{where}: expected an array of numbers, got {kind(value)}")
    if values.dtype.kind not in _JSON_KINDS:
        raise error(f"{where}: expected an array of numbers, got one of {values.dtype}")
    return values


def plain(value: object, where: str, error: type[InvalidInput]) -> Any:
    """Return `value` in the types of a JSON parser.

    Raises:
        InvalidInput: an `error`: a value within it has no form in JSON.
    """
    if value is None:
        return None
    if type(value) is str:  # as most are, and nothing of theirs is called
        return encodable(value, where, error)
    with Asking(where, error):
        if type(value) is dict:
            value = dict(value)  # before it is looked at, as other threads may change it
            if _is_simple(value):
                return value
        return _Copier(error).copy(value, where, _DEPTH_MAX)


def _is_simple(value: dict[Any, Any]) -> bool:
    """Tell whether an object is like most metadata: of scalars that need no questions."""
    return all(
        type(key) is str
        and key.isascii()
        and (
            (type(member) is int and -_SIMPLE_MAX < member < _SIMPLE_MAX)
            or (type(member) is str and member.isascii())
            or type(member) in _SIMPLE
        )
        for key, member in value.items()
    )


def _python(value: object) -> object:
    """Return Python's scalar for a NumPy scalar that has a form in JSON, else `value`."""
    has_form = isinstance(value, np.generic) and value.dtype.kind in _JSON_KINDS
    return value.item() if has_form else value  # type: ignore[attr-defined]  # of np.generic


class _Copier:
    """A copier of a value into Python's own types exactly, with a bound on the values within."""

    def __init__(self, error: type[InvalidInput]) -> None:
        self._error = error
        self._count = 0

    def copy(self, value: object, where: str, depth: int) -> Any:
        self._count += 1
        if self._count > _VALUES_MAX:
            raise self._error(f"{where}: more than {_VALUES_MAX:,} values")
        value = _python(value)
        match value:
            case None | bool():
                return value
            case int():
                return self._integer(value, where)
            case float():
                return float.__float__(value)
            case str():
                return encodable(str.__str__(value), where, self._error)
        if depth == 0:
            raise self._error(f"{where}: nested too deeply")
        if isinstance(value, Mapping):
            return {
                self._key(key, where): self.copy(member, f"{where}.{key}"[:_WHERE_CHARS], depth - 1)
                for key, member in value.items()
            }
        if isinstance(value, list | tuple):
            return [
                self.copy(item, f"{where}[{position}]"[:_WHERE_CHARS], depth - 1)
                for position, item in enumerate(value)
            ]
        raise self._error(f"{where}: {type(value).__name__} has no form in JSON")

    def _key(self, key: object, where: str) -> str:
        if not isinstance(key, str):
            raise self._error(f"{where}: key {key!r:.80} is {type(key).__name__}, not a string")
        return encodable(str.__str__(key), where, self._error)

    def _integer(self, value: int, where: str) -> int:
        exact = int.__index__(value)
        try:
            str(exact)
        except ValueError:  # more digits than Python writes; a body of JSON has no more either
            raise self._error(f"{where}: an integer of {exact.bit_length()} bits") from None
        return exact

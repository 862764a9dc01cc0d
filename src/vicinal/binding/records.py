"""Python objects as the wire's readers take them: vectors, and values as JSON has them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
from numpy.ma import MaskedArray  # at the start: loaded later it would hold memory for good
from numpy.typing import ArrayLike, NDArray

from vicinal.binding.arguments import asking, iterated, kind
from vicinal.errors import BadRecord, InvalidInput
from vicinal.model import Floats

_MEMBERS = ("id", "values", "namespace", "metadata")
_DEPTH_MAX = 200  # the wire's rule is stricter; this only ends objects that hold themselves
_VALUES_MAX = 100_000  # likewise: a few lists that hold each other can unfold without end
_WHERE_CHARS = 80
_JSON_KINDS = "fiubU"  # of NumPy's types, those with a form in JSON; the wire's rules say the rest


@dataclass(frozen=True, slots=True)
class Vector:
    """A stored vector; `values` is ``(dimensions,)`` float32 as it was given."""

    id: str
    values: Floats
    namespace: str = ""
    metadata: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Columns:
    """Many vectors, column by column: what fits arrays best.

    The columns are looked at when they are given to `Vectorize.insert` or `Vectorize.upsert`,
    which copy what they keep, so that the arrays may be changed as soon as those return. A call
    takes as many vectors as the profile of limits allows, 100,000 in ``open``; more are loaded
    in a loop:

    >>> import numpy as np
    >>> import vicinal
    >>> rows = np.eye(3, dtype=np.float32)
    >>> with vicinal.open("data") as database:
    ...     docs = database.create_index("columns", dimensions=3, metric="cosine")
    ...     for start in range(0, len(rows), 2):
    ...         part = rows[start : start + 2]
    ...         ids = [str(start + place) for place in range(len(part))]
    ...         _ = docs.upsert(vicinal.Columns(ids, part), wait=True)
    ...     count = docs.describe().vector_count
    >>> count
    3

    Attributes:
        ids: One a row: a list, or an array of strings.
        values: ``(n, dimensions)``, integers or floats of any size; they are stored as float32.
            An array of float32 in C order is the fastest. Booleans, complex numbers, objects and
            masked arrays are refused.
        namespaces: One a row, or None for none.
        metadata: One a row, or None for none.
    """

    ids: Sequence[str]
    values: ArrayLike
    namespaces: Sequence[str | None] | None = None
    metadata: Sequence[Mapping[str, Any] | None] | None = None


Vectors: TypeAlias = Columns | Iterable[Vector | Mapping[str, Any]]
"""What can be stored: columns, or records as a Worker writes them: ``id``, ``values`` and
perhaps ``namespace`` and ``metadata``."""


def records(vectors: object) -> Iterator[dict[str, Any]]:
    """Yield records as if they had been parsed from JSON, but for values, which are arrays.

    Members that mean nothing are left out, whatever they hold.

    Raises:
        BadRecord: something is neither columns nor records, or has no form in JSON.
    """
    if isinstance(vectors, Mapping | str):
        raise BadRecord(f"vectors: expected a sequence of records, got {kind(vectors)}")
    rows = _rows(vectors) if isinstance(vectors, Columns) else vectors
    for place, record in enumerate(iterated(rows, "vectors", BadRecord)):
        yield _record(record, f"vectors[{place}]")


def _record(record: object, where: str) -> dict[str, Any]:
    with asking(where, BadRecord):
        if isinstance(record, Vector):
            given: Mapping[str, Any] = {name: getattr(record, name) for name in _MEMBERS}
        elif isinstance(record, Mapping):
            given = record
        else:
            raise BadRecord(f"{where}: expected a record or Vector, got {type(record).__name__}")
        return {
            name: numbers(given[name], f"{where}.{name}", BadRecord)
            if name == "values"
            else plain(given[name], f"{where}.{name}", BadRecord)
            for name in _MEMBERS
            if name in given
        }


def _rows(columns: Columns) -> Iterator[Mapping[str, Any]]:
    values = array(columns.values, "columns: values", BadRecord)
    given = {"ids": columns.ids, "namespaces": columns.namespaces, "metadata": columns.metadata}
    lengths = {
        name: _length(column, name)
        for name, column in given.items()
        if column is not None or name == "ids"
    }
    count = len(values) if values.ndim else 0
    if any(length != count for length in lengths.values()):  # before they are read: some never end
        said = [f"{lengths.pop('ids')} ids", f"{count} rows of values"]
        said += [f"{length} {name}" for name, length in lengths.items()]
        raise BadRecord(f"columns differ in length: {', '.join(said)}")
    if values.ndim != 2 and values.shape != (0,):
        raise BadRecord(
            f"columns: values: expected an array of two dimensions, got one of {values.ndim}"
        )
    ids, namespaces, documents = (_column(given[name], name, count) for name in given)
    for id_, row, namespace, document in zip(ids, values, namespaces, documents, strict=True):
        yield {"id": id_, "values": row, "namespace": namespace, "metadata": document}


def _length(value: object, name: str) -> int:
    if isinstance(value, str | bytes | bytearray | Mapping | AbstractSet) or not isinstance(
        value, Sized
    ):
        raise BadRecord(f"columns: {name}: expected a sequence, got {kind(value)}")
    with asking(f"columns: {name}", BadRecord):
        return len(value)


def _column(value: object, name: str, count: int) -> list[object]:
    if value is None:
        return [None] * count
    with asking(f"columns: {name}", BadRecord):
        found = list(islice(iterated(value, f"columns: {name}", BadRecord), count + 1))
    if len(found) != count:
        raise BadRecord(f"columns: {name}: says that it has {count} items, and has not")
    return found


def numbers(value: object, where: str, error: type[InvalidInput]) -> object:
    """Return numbers as an array of one dimension; what is not that, as JSON would have it.

    The wire's reader then says what is wrong with it.

    Raises:
        InvalidInput: an `error`: no reader of JSON could have met it.
    """
    if type(value) is np.ndarray and value.ndim == 1 and value.dtype.kind in "fiu":
        return value  # what comes most often, without 20 microseconds of questions
    if value is None or isinstance(value, bool | int | float | str | Mapping):
        return value if not isinstance(value, Mapping) else {}
    if isinstance(value, list | tuple):
        with asking(where, error):
            return [_python(each) for each in value]
    found = array(value, where, error)
    return found if found.ndim == 1 and found.dtype.kind in "fiu" else found.tolist()


def array(value: object, where: str, error: type[InvalidInput]) -> NDArray[Any]:
    """Return an array of what has the form of one.

    Raises:
        InvalidInput: an `error`: it has not, or its items have no form in JSON.
    """
    with asking(where, error):
        parts = list(value) if isinstance(value, list | tuple) else []
    for each in (value, *parts):
        if isinstance(each, bytes | bytearray | str | Mapping | AbstractSet):
            raise error(f"{where}: expected an array of numbers, got {kind(each)}")
        if isinstance(each, MaskedArray):
            raise error(f"{where}: a masked array; fill it first")
    try:
        found = np.asarray(value)
    except Exception as raised:  # the object is asked for it, and may raise whatever it likes
        raise error(f"{where}: values are not one array: {raised}") from None
    if found.dtype.kind == "O" and found.ndim == 0:
        raise error(f"{where}: expected an array of numbers, got {kind(value)}")
    if found.dtype.kind not in _JSON_KINDS:
        raise error(f"{where}: expected an array of numbers, got one of {found.dtype}")
    return found


def plain(value: object, where: str, error: type[InvalidInput]) -> Any:
    """Return `value` as a JSON parser would have returned it.

    Raises:
        InvalidInput: an `error`: it holds something that JSON does not have.
    """
    with asking(where, error):
        return _Copier(error).copy(value, where, _DEPTH_MAX)


def _python(value: object) -> object:
    """Return Python's own scalar for NumPy's, where it has a form in JSON."""
    has_form = isinstance(value, np.generic) and value.dtype.kind in _JSON_KINDS
    return value.item() if has_form else value  # type: ignore[attr-defined]  # as was asked


class _Copier:
    """Copies a value, in Python's own types exactly, and counts what is in it."""

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
                return self._text(value, where)
        if depth == 0:
            raise self._error(f"{where}: nested too deeply")
        if isinstance(value, Mapping):
            return {
                self._key(key, where): self.copy(each, f"{where}.{key}"[:_WHERE_CHARS], depth - 1)
                for key, each in value.items()
            }
        if isinstance(value, list | tuple):
            return [
                self.copy(each, f"{where}[{place}]"[:_WHERE_CHARS], depth - 1)
                for place, each in enumerate(value)
            ]
        raise self._error(f"{where}: {type(value).__name__} has no form in JSON")

    def _key(self, key: object, where: str) -> str:
        if not isinstance(key, str):
            raise self._error(f"{where}: key {key!r:.80} is {type(key).__name__}, not a string")
        return self._text(key, where)

    def _text(self, value: str, where: str) -> str:
        found = str.__str__(value)
        try:
            found.encode()
        except UnicodeEncodeError:
            raise self._error(f"{where}: half of a surrogate pair, which is no character") from None
        return found

    def _integer(self, value: int, where: str) -> int:
        found = int.__index__(value)
        try:
            str(found)
        except ValueError:  # more digits than Python writes; a body of JSON has no more either
            raise self._error(f"{where}: an integer of {found.bit_length()} bits") from None
        return found

"""Python objects as the wire's readers take them: vectors, and values as JSON has them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from vicinal.errors import BadRecord, InvalidInput
from vicinal.model import Floats

_DEPTH_MAX = 200  # the wire's rule is stricter; this only ends objects that hold themselves


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

    Attributes:
        ids: One a row.
        values: ``(n, dimensions)``, any numeric type.
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


def records(vectors: Vectors) -> Iterator[dict[str, Any]]:
    """Yield records as if they had been parsed from JSON, but for values, which are arrays."""
    for place, record in enumerate(_rows(vectors) if isinstance(vectors, Columns) else vectors):
        where = f"vectors[{place}]"
        if isinstance(record, Vector):
            given: Mapping[str, Any] = {
                "id": record.id,
                "values": record.values,
                "namespace": record.namespace,
                "metadata": record.metadata,
            }
        elif isinstance(record, Mapping):
            given = record
        else:
            raise BadRecord(f"{where}: expected a record or Vector, got {type(record).__name__}")
        yield {
            name: numbers(value) if name == "values" else plain(value, f"{where}.{name}", BadRecord)
            for name, value in given.items()
        }


def _rows(columns: Columns) -> Iterator[Mapping[str, Any]]:
    try:
        values = np.asarray(columns.values)
    except ValueError as error:
        raise BadRecord(f"columns: values are not one array: {error}") from None
    count = len(columns.ids)
    namespaces = columns.namespaces if columns.namespaces is not None else [None] * count
    documents = columns.metadata if columns.metadata is not None else [None] * count
    lengths = (len(values) if values.ndim else 0, len(namespaces), len(documents))
    if any(length != count for length in lengths):
        raise BadRecord(
            f"columns differ in length: {count} ids, {lengths[0]} rows of values, "
            f"{lengths[1]} namespaces, {lengths[2]} metadata"
        )
    for place, id_ in enumerate(columns.ids):
        yield {
            "id": id_,
            "values": values[place],
            "namespace": namespaces[place],
            "metadata": documents[place],
        }


def numbers(value: object) -> object:
    """Return numbers as an array of one dimension; what is not that, as JSON would have it.

    The wire's reader then says what is wrong with it.
    """
    if isinstance(value, list | tuple):
        return [each.item() if isinstance(each, np.generic) else each for each in value]
    array = np.asarray(value)
    return array if array.ndim == 1 and array.dtype.kind in "fiu" else array.tolist()


def plain(value: object, where: str, error: type[InvalidInput], depth: int = _DEPTH_MAX) -> Any:
    """Return `value` as a JSON parser would have returned it.

    Raises:
        InvalidInput: an `error`: it holds something that JSON does not have.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise error(f"{where}: half of a surrogate pair, which is no character") from None
        return value
    if depth == 0:
        raise error(f"{where[:80]}: nested too deeply")
    if isinstance(value, Mapping):
        return {
            _key(key, where, error): plain(each, f"{where}.{key}", error, depth - 1)
            for key, each in value.items()
        }
    if isinstance(value, list | tuple):
        return [
            plain(each, f"{where}[{place}]", error, depth - 1) for place, each in enumerate(value)
        ]
    raise error(f"{where}: {type(value).__name__} has no form in JSON")


def _key(key: object, where: str, error: type[InvalidInput]) -> str:
    if not isinstance(key, str):
        raise error(f"{where}: key {key!r} is {type(key).__name__}, not a string")
    text: str = plain(key, where, error, 0)
    return text

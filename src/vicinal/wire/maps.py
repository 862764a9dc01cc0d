"""Maps of vectors on the wire: what is asked for, and the points as raw float32 (an extension).

    {"count": 2, "totalCount": 2, "layout": "axes", "ids": ["a", "b"], ...}\\n
    <values: x and y of each point, little-endian float32>
    <values of a property, where one was named>
    <scores, where a vector was given>

The first line is filled up with spaces, so that the values begin at a multiple of four bytes.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np

from vicinal import errors, metadata
from vicinal.filters.parse import broken_key_rule
from vicinal.limits import Limits
from vicinal.model import Floats, Scope
from vicinal.wire import schemas
from vicinal.wire.requests import FAILED, Body, checked_query, decode
from vicinal.wire.scopes import checked_scope

CONTENT_TYPE = "application/vnd.vicinal.map"

POINTS_MAX = {"axes": 100_000, "neighbors": 5_000}
"""Ours: a layout by neighbours compares every point with every other."""
_POINTS_DEFAULT = {"axes": 20_000, "neighbors": 2_000}
CATEGORIES_MAX = 11  # ours: colours that people tell apart
_CATEGORY_CHARS_MAX = 120

_FLOAT = np.dtype("<f4")
_GREATEST = float(np.finfo(np.float32).max)

PointValue = str | float | None
"""A value of metadata as a map has it, of bounded length (`point_value`)."""


@dataclass(frozen=True, slots=True)
class MapParameters:
    """The vectors to place, at most `count_max` of them, and by what; `property_name` and `vector`
    are None if not given."""

    scope: Scope
    count_max: int
    layout: Literal["axes", "neighbors"]
    property_name: str | None
    vector: Floats | None


@dataclass(frozen=True, slots=True)
class PlacedVectors:
    """A map: positions ``(n, 2)`` of vectors, with a value of their metadata each, with scores
    ``(n,)`` and the query's position ``(2,)``; these are None where nothing was asked for."""

    ids: Sequence[str]
    total_count: int
    explained: tuple[float, float]
    positions: Floats
    values: Sequence[PointValue] | None = None
    scores: Floats | None = None
    query: Floats | None = None


def parameters(body: Body, dimensions: int, limits: Limits) -> MapParameters:
    """Read the body of a map; an empty one is of all vectors.

    Raises:
        BadParameter: count is not in the range of the layout.
        BadQueryVector: the vector is not of the index's dimensions.
        BadBody, NamespaceTooLong, IdTooLong, BadFilter: as for any scope; `BadBody` also for a
            property that no metadata can have.
    """
    request = decode(body or b"{}", schemas.MapRequest)
    layout = request.layout or "axes"
    count = _POINTS_DEFAULT[layout] if request.count is None else request.count
    if not 1 <= count <= POINTS_MAX[layout]:
        raise errors.BadParameter(
            f"count must be an integer from 1 to {POINTS_MAX[layout]} for the layout {layout!r}, "
            f"got {str(count)[:40]}"
        )
    name = request.property_name
    broken = None if name is None else broken_key_rule(name, limits.property_name_chars_max)
    if broken is not None:
        raise errors.BadBody(f"{FAILED}propertyName: {metadata.shown(name or '')} {broken}")
    vector = None
    if request.vector is not None:
        query = checked_query(schemas.QueryRequest(), request.vector, dimensions, limits)
        vector = query.vector
    return MapParameters(checked_scope(request, limits), count, layout, name, vector)


def point_value(written: bytes | None) -> PointValue:
    """Return what a map has of a value of metadata, which is JSON, or None for none: a number, or
    text of bounded length, as there are many points and a value may be as long as metadata."""
    if written is None or written == b"null":
        return None
    if written[:1] == b'"':
        return _cut(str(msgspec.json.decode(written)))
    if written[:1] in b"[{tf":
        return _cut(written[: 4 * _CATEGORY_CHARS_MAX + 4].decode(errors="ignore"))
    number = msgspec.json.decode(written)
    return number if metadata.is_float64(number) else _cut(written.decode())


def placed(wanted: MapParameters, shown: PlacedVectors) -> bytes:
    """Write a map."""
    columns = [shown.positions.astype(_FLOAT)]
    categories = None
    if shown.values is not None:
        categories, numbers = _column(shown.values)
        columns.append(numbers)
    if shown.scores is not None:
        columns.append(np.clip(shown.scores, -_GREATEST, _GREATEST).astype(_FLOAT))
    head = msgspec.json.encode(
        schemas.MapHeadSchema(
            len(shown.ids),
            shown.total_count,
            wanted.layout,
            list(shown.explained),
            list(shown.ids),
            shown.values is not None,
            categories,
            None if shown.query is None else shown.query.tolist(),
        )
    )
    padding = b" " * (-(len(head) + 1) % _FLOAT.itemsize)
    return b"".join((head, padding, b"\n", *(column.tobytes() for column in columns)))


def _column(values: Sequence[PointValue]) -> tuple[list[str] | None, Floats]:
    """Return numbers for the values of a property: themselves, or places among the categories.

    Numbers stay themselves if all values are numbers, and there are more of them than colours.
    """
    there = [value for value in values if value is not None]
    are_numbers = not any(isinstance(value, str) for value in there)
    if are_numbers and len(set(there)) > CATEGORIES_MAX:
        wide = np.array([np.nan if value is None else float(value) for value in values])
        return None, np.clip(wide, -_GREATEST, _GREATEST).astype(_FLOAT)
    labels = [value if isinstance(value, str | None) else _cut(str(value)) for value in values]
    ranked = Counter(label for label in labels if label is not None).most_common(CATEGORIES_MAX)
    numbers = {label: number for number, (label, _) in enumerate(ranked)}
    codes = [np.nan if label is None else numbers.get(label, -1) for label in labels]
    return list(numbers), np.array(codes, _FLOAT)


def _cut(text: str) -> str:
    return text if len(text) <= _CATEGORY_CHARS_MAX else f"{text[: _CATEGORY_CHARS_MAX - 3]}..."

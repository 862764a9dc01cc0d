"""Reading the vectors of a snapshot by what is known of them: counts, facets and their content.

A scope selects rows view by view, as a query does, but for the prefix of ids, which is compared
with the ids of the rows that the rest has left.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import repeat

import numpy as np

from vicinal import interruption, metadata
from vicinal.engine.snapshot import Snapshot
from vicinal.errors import BadFilter, LimitExceeded, MetadataIndexNotFound
from vicinal.filters.nodes import Scalar
from vicinal.model import (
    Facet,
    FacetValue,
    IndexType,
    ListedVector,
    Ordinals,
    Scan,
    Scope,
    VectorBatch,
)
from vicinal.segment.base import View
from vicinal.segment.columns import values_of

FACET_VALUES_MAX = 1_000_000  # distinct values that are counted at one time; ours

SelectedRows = Sequence[tuple[View, Ordinals]]
"""The views of a snapshot with the rows, ascending, that a scope selects in them."""


def select(snapshot: Snapshot, scope: Scope) -> SelectedRows:
    """Return the rows of a scope.

    Raises:
        BadFilter: the filter names a property that has no metadata index.
    """
    check_indexed(snapshot, scope)
    return [(view, _rows(view, scope)) for view in interruption.parts(snapshot.views)]


def check_indexed(snapshot: Snapshot, scope: Scope) -> None:
    """Refuse a filter that could say nothing about some vectors.

    Raises:
        BadFilter: it names a property that has no metadata index.
    """
    for name in snapshot.unindexed(scope.filter):
        raise BadFilter(
            f"filter on {metadata.shown(name)}: the property has no metadata index; "
            "create one with backfill first"
        )


def count(snapshot: Snapshot, scope: Scope) -> int:
    """Return the number of vectors in a scope.

    Raises:
        BadFilter: as `select`.
    """
    check_indexed(snapshot, scope)
    if scope.id_prefix:
        return sum(len(rows) for _, rows in select(snapshot, scope))
    return sum(view.select(scope.namespace, scope.filter).count for view in snapshot.views)


def facet(snapshot: Snapshot, property_name: str, scope: Scope, values_max: int) -> Facet:
    """Return the values of a property that the most vectors of a scope have, with their counts.

    Raises:
        MetadataIndexNotFound: the property has no metadata index.
        BadFilter: as `select`.
        LimitExceeded: the vectors have more than `FACET_VALUES_MAX` distinct values.
    """
    index = next((i for i in snapshot.metadata_indexes if i.property_name == property_name), None)
    if index is None:
        raise MetadataIndexNotFound(
            f"the index has no metadata index on {metadata.shown(property_name)}"
        )
    if index.index_type is IndexType.TEXT:
        raise MetadataIndexNotFound(
            f"the metadata index on {metadata.shown(property_name)} is of type text, "
            "which has words and no values"
        )
    counts: Counter[Scalar] = Counter()
    vector_count = 0
    for view, rows in interruption.parts(select(snapshot, scope)):
        vector_count += len(rows)
        column = values_of(view.columns[property_name])
        if column is not None:
            for value, value_count in column.counts(rows):
                counts[value] += value_count
        if len(counts) > FACET_VALUES_MAX:
            raise LimitExceeded(
                f"property {metadata.shown(property_name)} has more than {FACET_VALUES_MAX} "
                "distinct values there"
            )
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return Facet(
        property_name,
        index.index_type,
        vector_count,
        sum(counts.values()),
        len(counts),
        tuple(FacetValue(value, value_count) for value, value_count in ranked[:values_max]),
    )


def load(view: View, rows: Ordinals, scan: Scan) -> list[ListedVector]:
    """Return vectors with the parts of them that a scan wants."""
    return [
        ListedVector(*columns)
        for columns in zip(
            view.ids(rows),
            view.namespaces(rows),
            view.values(rows) if scan.return_values else repeat(None),
            view.metadata(rows) if scan.return_metadata else repeat(None),
            strict=False,
        )
    ]


def stream(snapshot: Snapshot, scan: Scan, count: int) -> Iterator[list[ListedVector]]:
    """Yield all vectors of a scan, up to `count` at a time; the rows are selected at once.

    Raises:
        BadFilter: as `select`.
    """
    return _parts(select(snapshot, scan.scope), scan, count)


def _parts(selected: SelectedRows, scan: Scan, count: int) -> Iterator[list[ListedVector]]:
    for view, rows in selected:
        for first in range(0, len(rows), count):
            yield load(view, rows[first : first + count], scan)


def sample(
    snapshot: Snapshot, scope: Scope, count_max: int, part_max: int
) -> Iterator[VectorBatch]:
    """Yield vectors of a scope, all of them or `count_max` from everywhere in it, `part_max` at
    a time; the rows are selected at once.

    Raises:
        BadFilter: as `select`.
    """
    selected = select(snapshot, scope)
    ends = np.cumsum([len(rows) for _, rows in selected], dtype=np.int64)
    numbers = _spread(int(ends[-1]) if selected else 0, count_max)
    parts = []
    for (view, rows), end in zip(selected, ends.tolist(), strict=True):
        of_view = rows[numbers[(numbers >= end - len(rows)) & (numbers < end)] - (end - len(rows))]
        parts += [
            (view, of_view[first : first + part_max]) for first in range(0, len(of_view), part_max)
        ]
    return (_batch(view, rows) for view, rows in parts)


def _spread(total: int, count_max: int) -> Ordinals:
    """Return numbers below `total`, ascending: all, or one from each of `count_max` equal parts."""
    if total <= count_max:
        return np.arange(total)
    bounds = np.arange(count_max + 1) * total // count_max
    chance = np.random.default_rng(0).random(count_max)
    return bounds[:-1] + (chance * np.diff(bounds)).astype(np.int64)


def _batch(view: View, rows: Ordinals) -> VectorBatch:
    return VectorBatch(
        view.ids(rows), view.values(rows), view.namespaces(rows), view.metadata(rows)
    )


def _rows(view: View, scope: Scope) -> Ordinals:
    selection = view.select(scope.namespace, scope.filter)
    if selection.is_all:
        rows: Ordinals = np.arange(selection.count)
    else:
        listed = selection.listed().rows
        assert listed is not None
        rows = np.sort(listed)
    return view.with_prefix(rows, scope.id_prefix) if scope.id_prefix else rows

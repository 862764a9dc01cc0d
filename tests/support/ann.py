"""Every implementation of the AnnIndex seam, and the plain data its suite searches."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.ann import exact, quantizer
from vicinal.ann.base import AnnIndex, Candidates, Selection
from vicinal.ann.binary import BinaryIndex
from vicinal.ann.entries import Entries, entries_of
from vicinal.ann.exact import ExactIndex
from vicinal.ann.graph import CodeGraph, build_neighbours
from vicinal.ann.graph_kind import GAPS, GraphKind
from vicinal.ann.quantizer import QuantizerParameters
from vicinal.model import Effort, Floats, Mask, Metric, Ordinals
from vicinal.native.library import library


@dataclass(frozen=True, slots=True)
class Builder:
    """One index under the suite.

    Args:
        name: Shown in the names of tests.
        build: Makes the index over ``(n, d)`` values.
        is_exact: Whether it proposes every row that is among the nearest or ties with one.
        dimensions_min: Fewer than these it does not order well enough to be kept.
    """

    name: str
    build: Callable[[Floats, Metric], AnnIndex]
    is_exact: bool
    dimensions_min: int = 1


def exact_index(values: Floats, metric: Metric) -> ExactIndex:
    values = np.ascontiguousarray(values, np.float32)
    return ExactIndex(values, exact.norms(values), metric)


def binary_index(values: Floats, metric: Metric, *, is_compiled: bool = True) -> BinaryIndex:
    """Return the codes of rows however few they are, with margins as for easy data."""
    scale = float(exact.norms(values).max()) or 1.0
    scale = scale if metric is Metric.DOT_PRODUCT else 1.0
    parameters = QuantizerParameters(512, scale, ((20, 20), (40, 40), (60, 60)), (200, 800))
    codes = quantizer.encode(np.ascontiguousarray(values, np.float32), metric, parameters)
    return BinaryIndex(codes, exact_index(values, metric), is_compiled=is_compiled)


def small_graph_kind(rows_min: int) -> GraphKind:
    """Return the kind for few rows, in which only short walks pay, and ten are many."""
    breadths_min = {Effort.LOW: 100, Effort.STANDARD: 560, Effort.HIGH: 800}
    return GraphKind(rows_min, breadths_min, (GAPS[0], replace(GAPS[1], beyond=1)))


def one_list(rows: Sequence[int] | NDArray[Any]) -> Entries:
    """Return these rows as entries in one list, as graphs of earlier versions have them."""
    return Entries(np.array(rows, np.uint32), np.zeros(1, np.uint32))


def candidates(
    index: AnnIndex,
    query: Floats,
    k: int,
    allowed: Mask | None = None,
    effort: Effort = Effort.STANDARD,
) -> Candidates:
    """Search the rows under a mask, or all."""
    selection = Selection(index.row_count) if allowed is None else Selection.of_mask(allowed)
    return index.prepare(query, k, selection, effort).run()


def candidates_among(index: AnnIndex, query: Floats, k: int, rows: Ordinals) -> Candidates:
    """Search these distinct rows."""
    return index.prepare(query, k, Selection.of_rows(rows), Effort.STANDARD).run()


def graph_index(values: Floats, metric: Metric, *, is_compiled: bool = True) -> BinaryIndex:
    """Return the codes of `binary_index` with a graph, which every search without a list uses."""
    plain = binary_index(values, metric)
    neighbours = build_neighbours(plain.codes.codes)
    assert neighbours is not None
    breadths = ((200, 400), (300, 600), (400, 800))
    entries = entries_of(plain.codes.codes, neighbours)
    graph = CodeGraph(neighbours, entries, breadths, expanded_max=10**6)
    return BinaryIndex(plain.codes, plain.exact, graph, is_compiled=is_compiled)


BUILDERS = [
    Builder("exact", exact_index, is_exact=True),
    Builder("binary", binary_index, is_exact=False, dimensions_min=31),
    Builder(
        "binary in Python",
        partial(binary_index, is_compiled=False),
        is_exact=False,
        dimensions_min=31,
    ),
]
if library() is not None:  # which builds graphs
    BUILDERS += [
        Builder("graph", graph_index, is_exact=False, dimensions_min=31),
        Builder(
            "graph in Python",
            partial(graph_index, is_compiled=False),
            is_exact=False,
            dimensions_min=31,
        ),
    ]


def row_of_points(count: int) -> Floats:
    """Return ``(0, 0), (1, 0), (2, 0), …``: the nearest to any place are plain to the eye."""
    values = np.zeros((count, 2), np.float32)
    values[:, 0] = np.arange(count)
    return values


def true_distances(values: Floats, query: Floats, metric: Metric) -> NDArray[np.float64]:
    """Return the distances by the textbook: smaller is nearer.

    Written apart from `vicinal.distance`, which it checks. Squares and products of any two
    float32 numbers fit a float64.
    """
    rows, wide_query = values.astype(np.float64), query.astype(np.float64)
    if metric is Metric.EUCLIDEAN:
        return np.array([np.linalg.norm(row - wide_query) for row in rows])
    dots = [float(row @ wide_query) for row in rows]
    if metric is Metric.DOT_PRODUCT:
        return np.negative(dots)
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(wide_query)
    return np.array(
        [-dot / length if length else 0.0 for dot, length in zip(dots, lengths, strict=True)]
    )

"""Maps of an index for the dashboard: vectors of a scope as points in two dimensions.

A map takes seconds of a processor and holds a sample of the vectors. One is made at a time, in a
thread of its own, a few wait, and others are answered 429; so queries keep their threads. One whose
client has gone, or that a server would wait for as it stops, is given up.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from vicinal import interruption, metadata
from vicinal.distance import distances, score
from vicinal.engine.base import Engine
from vicinal.errors import (
    BadBody,
    BadFilter,
    BadParameter,
    BadQueryVector,
    BodyTooLarge,
    EmptyFilterValue,
    IdTooLong,
    NamespaceTooLong,
    Overloaded,
)
from vicinal.maps import axes, neighbors
from vicinal.model import Floats, IndexAddress, Metric, VectorBatch
from vicinal.server.api.paths import INDEX
from vicinal.server.api.request import ApiRequest
from vicinal.server.api.routing import RouteTable, json_body
from vicinal.server.concurrency import unless_disconnected
from vicinal.server.http.response import Response
from vicinal.tokens import Permission
from vicinal.wire import maps, schemas
from vicinal.wire.maps import MapParameters, PlacedVectors

ROUTES = RouteTable()

FIT_BYTES = 32 << 20  # ours: of the values that axes are fitted to
PART_BYTES = 8 << 20  # ours: of values that are projected at one time
PART_ROWS = 2_048  # ours: at most, as their metadata is held, too
_ANCHORS = 5  # nearest points that a query is placed among


@ROUTES.add(
    "POST",
    f"{INDEX}/vectors/map",
    Permission.READ,
    json_body,
    request=schemas.MapRequest,
    response=schemas.MapHeadSchema,
    errors=(
        BadBody,
        BadParameter,
        BadQueryVector,
        NamespaceTooLong,
        IdTooLong,
        BadFilter,
        EmptyFilterValue,
        BodyTooLarge,
        Overloaded,
    ),
    response_type=maps.CONTENT_TYPE,
)
async def map_vectors(request: ApiRequest) -> Response:
    """Place vectors of a scope in two dimensions, as raw float32 (an extension)."""
    services, address, config = request.services, request.address, request.named_index.config

    wanted = await request.run_on_body(
        lambda: maps.parameters(request.body, config.dimensions, services.limits)
    )

    def answer() -> bytes:
        made = _Map(services.engine, address, config.dimensions, config.metric, wanted)
        return maps.placed(wanted, made.make())

    body = await unless_disconnected(request.receive, services.map_workers.run(answer))
    return Response(body, content_type=maps.CONTENT_TYPE.encode())


@dataclass(slots=True)
class _Columns:
    """The parts of the vectors that are kept; `rows` only for a layout by neighbours."""

    ids: list[str] = field(default_factory=list)
    values: list[maps.PointValue] = field(default_factory=list)
    positions: list[Floats] = field(default_factory=list)
    scores: list[Floats] = field(default_factory=list)
    rows: list[Floats] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Map:
    """The making of one map."""

    engine: Engine
    address: IndexAddress
    dimensions: int
    metric: Metric
    wanted: MapParameters

    def make(self) -> PlacedVectors:
        """Read the vectors and place them."""
        wanted = self.wanted
        fit_max = max(256, FIT_BYTES // (4 * self.dimensions))
        seen = [batch.values for batch in self._sample(min(wanted.count_max, fit_max))]
        view = axes.fit(axes.comparable(_joined(seen, self.dimensions), self.metric))
        columns = _Columns()
        for batch in self._sample(wanted.count_max):
            self._add(columns, batch, view)
        positions = _joined(columns.positions, 2)
        query = None if wanted.vector is None else view.project(self._comparable(wanted.vector))[0]
        if wanted.layout == "neighbors":
            positions, query = self._by_neighbors(columns, positions, query)
        positions, query = _bounded(positions, query)
        return PlacedVectors(
            columns.ids,
            max(self.engine.count(self.address, wanted.scope), len(columns.ids)),
            view.explained,
            positions,
            None if wanted.property_name is None else columns.values,
            None if wanted.vector is None else _joined(columns.scores, 0),
            query,
        )

    def _sample(self, count_max: int) -> Iterator[VectorBatch]:
        part_max = max(1, min(PART_ROWS, PART_BYTES // (4 * self.dimensions)))
        return interruption.parts(
            self.engine.sample_vectors(self.address, self.wanted.scope, count_max, part_max)
        )

    def _comparable(self, vector: Floats) -> Floats:
        return axes.comparable(vector[None, :], self.metric)

    def _add(self, columns: _Columns, batch: VectorBatch, view: axes.Axes) -> None:
        wanted = self.wanted
        rows = axes.comparable(batch.values, self.metric)
        columns.ids += batch.ids
        columns.positions.append(view.project(rows))
        if wanted.layout == "neighbors":
            columns.rows.append(rows)
        if wanted.vector is not None:
            exact = distances(batch.values, wanted.vector, self.metric)
            sign = score(1.0, self.metric)
            columns.scores.append(exact * np.float32(sign))
        if wanted.property_name is not None:
            path = wanted.property_name.split(".")
            columns.values += [
                maps.point_value(metadata.written_at(blob, path)) for blob in batch.metadata
            ]

    def _by_neighbors(
        self, columns: _Columns, positions: Floats, query: Floats | None
    ) -> tuple[Floats, Floats | None]:
        count = min(neighbors.NEIGHBORS, len(positions) - 1)
        if count < 1:
            return positions, query
        rows = _joined(columns.rows, self.dimensions)
        placed = neighbors.layout(positions, *neighbors.nearest(rows, count))
        if self.wanted.vector is None:
            return placed, None
        gaps = distances(rows, self._comparable(self.wanted.vector)[0], Metric.EUCLIDEAN)
        anchors = np.argsort(gaps, kind="stable")[:_ANCHORS]
        return placed, neighbors.between(placed[anchors], gaps[anchors])


def _joined(parts: Sequence[Floats], dimensions: int) -> Floats:
    """Return arrays in one, of this width where there are none; 0 for one dimension."""
    if parts:
        return np.concatenate(parts)
    return np.empty((0, dimensions) if dimensions else 0, np.float32)


def _bounded(positions: Floats, query: Floats | None) -> tuple[Floats, Floats | None]:
    """Return positions in a square from -1 to 1."""
    width = np.float32(np.abs(positions).max(initial=0.0) or 1.0)
    return positions / width, None if query is None else query / width

"""The map route at the ends of float32 and of what may be asked for."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.asgi import INDEXES, application, call
from tests.support.engines import Record, create, insert
from tests.support.model_engine import ModelEngine
from vicinal.model import Metric
from vicinal.server.app import App

MAP = f"{INDEXES}/docs/vectors/map"

HUGE = 3.4e38
TINY = 1e-45

ROWS: dict[str, list[list[float]]] = {
    "one": [[HUGE, HUGE]],
    "the same": [[1, 1]] * 300,
    "all zero": [[0, 0]] * 20,
    "as far apart as can be": [[HUGE, -HUGE], [-HUGE, HUGE], [HUGE, HUGE]] * 7,
    "nearly zero": [[TINY, 0], [0, TINY], [TINY, TINY]] * 7,
    "huge and nearly zero": [[HUGE, 0], [0, TINY], [TINY, -HUGE]] * 7,
}


def finite(answer_body: bytes) -> dict[str, Any]:
    """Return the head of a map whose positions are finite and in the square."""
    line, _, rest = answer_body.partition(b"\n")
    head: dict[str, Any] = json.loads(line)
    positions = np.frombuffer(rest, "<f4")[: 2 * head["count"]]
    assert np.isfinite(positions).all()
    assert (np.abs(positions) <= 1).all()
    assert np.isfinite(head["explained"]).all()
    assert np.isfinite(head["query"]).all()
    return head


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("layout", ["axes", "neighbors"])
@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("dimensions", [1, 2])
@pytest.mark.parametrize("name", ROWS)
def test_any_rows_have_a_map_of_finite_places(
    tmp_path: Path, name: str, dimensions: int, metric: Metric, layout: str
) -> None:
    engine = ModelEngine()
    create(engine, dimensions=dimensions, metric=metric)
    rows = [row[:dimensions] for row in ROWS[name]]
    insert(engine, *[Record(f"v{n}", row) for n, row in enumerate(rows)])
    app = application(tmp_path, engine=engine)

    answer = call(app, "POST", MAP, {"layout": layout, "vector": rows[0]})

    assert answer.status == 200, answer.body
    assert finite(answer.body)["count"] == len(rows)


@pytest.mark.parametrize(
    "count", ["0", "-1", "100001", "1.5", "true", '"9"', "NaN", "1e400", "9" * 400, "[]"]
)
def test_a_number_of_points_that_cannot_be_is_refused(app: App, count: str) -> None:
    answer = call(app, "POST", MAP, b'{"count":%b}' % count.encode())

    assert answer.status == 400, answer.body

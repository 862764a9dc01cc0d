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
    assert np.isfinite(np.frombuffer(rest, "<f4")).all()  # the scores, too
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


LONG = "x" * 9_000

VALUES: dict[str, tuple[object, str | None]] = {
    "text": ("red", "red"),
    "no text": ("", ""),
    "a long text": (LONG, f"{LONG[:117]}..."),
    "markup": ("<img src=x onerror=alert(1)>", "<img src=x onerror=alert(1)>"),
    "text of many bytes": ("\N{ROCKET}" * 200, "\N{ROCKET}" * 117 + "..."),
    "an array": ([1, "a", None], '[1,"a",null]'),
    "a long array": ([1] * 4_000, f"[{'1,' * 58}..."),
    "an object": ({"a": {"b": 1}}, '{"a":{"b":1}}'),
    "true": (True, "true"),
    "null": (None, None),
    "a number": (2.5, "2.5"),
    "a great integer": (10**30, "1" + "0" * 30),
    "the greatest integer": (10**308, "1" + "0" * 116 + "..."),
}


@pytest.mark.parametrize("name", VALUES)
def test_any_value_of_a_property_is_a_category_of_some_length_at_most(
    app: App, engine: ModelEngine, name: str
) -> None:
    value, label = VALUES[name]
    insert(engine, Record("v", [1, 1], metadata={"deep": {"k": value}}))

    answer = call(app, "POST", MAP, {"propertyName": "deep.k"})

    assert answer.status == 200, answer.body
    line, _, rest = answer.body.partition(b"\n")
    assert json.loads(line)["categories"] == ([] if label is None else [label])
    assert np.isnan(np.frombuffer(rest, "<f4")[2:]).tolist() == [label is None]


def test_numbers_of_any_size_colour_a_map(app: App, engine: ModelEngine) -> None:
    numbers = [0, -1, 10**30, -(10**308), 1e-320, 1.5, *range(2, 12)]
    insert(engine, *[Record(f"v{n}", [n, 1], metadata={"k": k}) for n, k in enumerate(numbers)])

    answer = call(app, "POST", MAP, {"propertyName": "k"})

    line, _, rest = answer.body.partition(b"\n")
    head = json.loads(line)
    assert head["categories"] is None
    values = np.frombuffer(rest, "<f4")[2 * len(numbers) :]
    assert np.isfinite(values).all()
    shown = dict(zip(head["ids"], values.tolist(), strict=True))
    in_order = sorted(range(len(numbers)), key=numbers.__getitem__)
    assert [shown[f"v{n}"] for n in in_order] == sorted(values.tolist())


@pytest.mark.parametrize("path", ["k.length", "k.0", "text.k", "k.__class__", "__proto__", "none"])
def test_a_path_that_leads_to_nothing_has_no_values(
    app: App, engine: ModelEngine, path: str
) -> None:
    insert(engine, Record("v", [1, 1], metadata={"k": [1], "text": "k"}))

    answer = call(app, "POST", MAP, {"propertyName": path})

    assert json.loads(answer.body.partition(b"\n")[0])["categories"] == []

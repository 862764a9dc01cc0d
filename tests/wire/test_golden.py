"""Every golden exchange comes out as its file says, on every engine; see `golden.py`."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.engines import BUILDERS, Implementation
from tests.wire import golden
from vicinal.engine.base import Engine
from vicinal.limits import Limits
from vicinal.model import IndexAddress

EVIDENCE = ("SEED", "DOC", "SCHEMA", "CODE", "TEST", "OBS", "ours")


IMPLEMENTATIONS = [each for each in BUILDERS if not each.is_new_at_opening]  # each opens once

EngineOf = Callable[[Implementation, Limits], Engine]


@pytest.fixture(scope="module")
def engine_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineOf]:
    """The one engine of each implementation and limits: opening one costs more than an exchange."""
    opened: dict[tuple[str, Limits], Engine] = {}
    with ExitStack() as closing:

        def engine(implementation: Implementation, limits: Limits) -> Engine:
            key = implementation.name, limits
            if key not in opened:
                opened[key] = implementation.build(tmp_path_factory.mktemp("engine"), limits)
                closing.callback(opened[key].close)
            return opened[key]

        yield engine


def empty(engine: Engine) -> None:
    """Delete what an exchange has left in an engine."""
    for account in golden.ACCOUNTS:
        for index in engine.list_indexes(account):
            engine.delete_index(IndexAddress(account, index.name))
    if not engine.is_shared:  # which counts a little later
        assert engine.usage().index_count == 0, f"an index of no account in {golden.ACCOUNTS}"


@pytest.mark.parametrize("path", golden.exchanges(), ids=lambda path: path.stem)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS, ids=lambda each: each.name)
def test_an_exchange_comes_out_as_its_file_says(
    implementation: Implementation, path: Path, engine_of: EngineOf, memory_path: Path
) -> None:
    exchange = golden.read(path)
    engine = engine_of(implementation, golden.limits_of(exchange))
    try:
        golden.replay(exchange, engine, memory_path)
    finally:
        empty(engine)


@pytest.mark.parametrize("path", golden.exchanges(), ids=lambda path: path.stem)
def test_an_exchange_says_where_it_is_known_from_and_what_it_shows(path: Path) -> None:
    exchange = golden.read(path)

    assert exchange["source"].startswith(EVIDENCE)
    assert len(exchange["why"]) > 10


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        ({"a": 1}, {}),
        ({}, {"a": 1}),
        ({"a": 1}, {"a": 1.0}),
        ({"a": 1}, {"a": True}),
        ({"a": None}, {}),
        ([1, 2], [1]),
        ([1, 2], [2, 1]),
        ({"a": [{"b": "x"}]}, {"a": [{"b": "y"}]}),
        (None, "<uuid>"),
        ("A" * 36, "<uuid>"),
        ("2026-01-01T00:00:00Z", "<time>"),
        ("2026-13-01T00:00:00.000000Z", "<time>"),
        ("", "<any string>"),
        (5, "<any string>"),
        ("other words", "<begins with> words"),
        (5, "<begins with> 5"),
    ],
)
def test_the_comparison_sees_a_difference(got: object, expected: object) -> None:
    assert golden.differences(got, expected)


def test_the_comparison_takes_equal_values_and_what_placeholders_stand_for() -> None:
    got = {
        "id": "152d3851-146f-4b39-8497-bc11a0e70e74",
        "at": "2026-11-21T04:48:13.652885Z",
        "list": [1, 1.0, None, "x"],
        "text": "words, and more words",
    }
    expected = {**got, "id": "<uuid>", "at": "<time>", "text": "<begins with> words, "}

    assert golden.differences(got, expected) == []

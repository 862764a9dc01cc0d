"""Sizes are asked in turn, each at the least effort that finds enough, and the medians compared."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks import over_sizes
from benchmarks.contender import VICINAL, Measured, Process, Setting, Task
from benchmarks.data import Vectors, exact
from benchmarks.measure import Timing
from benchmarks.over_sizes import ROUNDS, Built

COUNT = 6
SIZES = (30, 60)


def run(recall: float, cpu_ms: float) -> Measured:
    return Measured({}, recall, Timing(1, cpu_ms, cpu_ms, cpu_ms, 1.0))


@pytest.fixture
def built(tmp_path: Path) -> list[Built]:
    """Databases of two sizes that are closed."""
    random = np.random.RandomState(5)
    databases = []
    for size in SIZES:
        rows, queries = tmp_path / f"rows{size}.npy", tmp_path / f"queries{size}.npy"
        np.save(rows, random.standard_normal((size, 8)).astype(np.float32))
        np.save(queries, random.standard_normal((COUNT, 8)).astype(np.float32))
        vectors = Vectors(str(size), rows, queries, "cosine", "")
        with Process(VICINAL, tmp_path / "log.txt") as process:
            process.open(tmp_path / str(size), vectors)
            process.insert(vectors, 0, size)
            process.build()
            process.close()
        task = Task(vectors, exact(vectors.values, vectors.queries, 10, vectors.metric))
        databases.append(Built(tmp_path / str(size), task))
    return databases


def test_sizes_are_measured_in_turn_once_their_rows_are_read(
    built: list[Built], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, str]] = []
    times: Iterator[float] = iter([1.0, 10.0, 5.0, 50.0, 3.0, 30.0, 2.0, 20.0, 4.0, 40.0])

    def timed(_: Process, task: Task, setting: Setting, *, count: int, **__: object) -> Measured:
        assert count in (COUNT, 1_000)  # 1,000 to choose a setting
        size = len(task.vectors.values)
        asked.append((size, setting["effort"]))
        is_round = len(asked) > before_rounds
        return run(0.98 if setting["effort"] == "low" else 1.0, next(times) if is_round else 0.0)

    before_rounds = 2 * len(["to read", "standard", "low"])
    monkeypatch.setattr(Process, "query", timed)

    found = over_sizes.measured(built, 0.99, tmp_path / "log.txt", count=COUNT)

    assert [each for each in asked if each[1] == "high"] == [(30, "high"), (60, "high")]
    assert asked[-2 * ROUNDS :] == [(30, "standard"), (60, "standard")] * ROUNDS
    assert {size: each.timing.cpu_ms for size, each in found.items()} == {30: 3.0, 60: 30.0}


def test_what_is_found_is_what_is_there(built: list[Built], tmp_path: Path) -> None:
    found = over_sizes.measured(built, 1.01, tmp_path / "log.txt", count=COUNT)

    for each in found.values():
        assert each.setting == {"effort": "high"}  # where no effort finds as much
        assert (each.recall, each.timing.count) == (1.0, COUNT)
        assert each.timing.cpu_ms > 0


def test_growth_is_of_the_most_rows_to_the_fewest_where_both_find_enough() -> None:
    assert over_sizes.growth({10: run(0.99, 2.0), 1: run(1.0, 1.0), 5: run(0.0, 9.0)}, 0.99) == 2.0
    assert over_sizes.growth({1: run(1.0, 1.0), 10: run(0.98, 2.0)}, 0.99) is None
    assert over_sizes.growth({1: run(0.98, 1.0), 10: run(1.0, 2.0)}, 0.99) is None

"""A test of rows passes the same numbers in C and in NumPy, however many intervals it has."""

import numpy as np
import pytest

from vicinal.ann import base
from vicinal.ann.base import RowTest

LEAST, MOST = np.iinfo(np.int32).min, np.iinfo(np.int32).max
SEED = 11


@pytest.mark.parametrize("row_count", [0, 1, 4_095, 4_096, 10_001])
@pytest.mark.parametrize("interval_count", [0, 1, 2, 15, 100, 101, 400])
def test_every_number_in_an_interval_passes(
    row_count: int, interval_count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(SEED + interval_count)
    bounds = np.sort(random.choice(1_000, 2 * interval_count, replace=False)) - 1
    if interval_count > 1:
        bounds[0], bounds[-1] = LEAST, MOST
    intervals = bounds.astype(np.int32).reshape(-1, 2)[random.permutation(interval_count)]
    numbers = random.integers(-2, 1_002, row_count).astype(np.int32)
    numbers[: row_count // 100] = random.choice([LEAST, MOST, MOST - 1], row_count // 100)
    passing = np.zeros(row_count, np.bool_)
    for start, stop in intervals.tolist():
        passing |= (start <= numbers) & (numbers < stop)

    masks = [RowTest(numbers, intervals).mask()]
    monkeypatch.setattr(base, "library", lambda: None)
    masks.append(RowTest(numbers, intervals).mask())

    assert all(np.array_equal(mask, passing) for mask in masks)

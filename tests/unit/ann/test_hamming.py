"""Codes near a query's code: all within a limit, the wanted number or a few more, no row that
is not allowed, and the same whether rows fit in one chunk or not."""

import numpy as np
import pytest
from numpy.typing import NDArray

from vicinal.ann import hamming
from vicinal.ann.hamming import Bits, Codes, Near

SEED = 7
BITS = 512


def codes_near(code: Bits, count: int, random: np.random.Generator) -> Bits:
    """Return codes that differ from a code in any number of bits."""
    flips = random.random((count, BITS)) < random.random((count, 1)) / 2
    return np.packbits(np.unpackbits(code) ^ flips, axis=1)


def distances_of(codes: Bits, code: Bits) -> NDArray[np.int64]:
    counts: NDArray[np.int64] = np.unpackbits(codes ^ code, axis=1).sum(axis=1, dtype=np.int64)
    return counts


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(SEED)


@pytest.fixture
def code(random: np.random.Generator) -> Bits:
    return random.integers(0, 256, BITS // 8, np.uint8)


def test_distances_are_numbers_of_bits_that_differ(code: Bits, random: np.random.Generator) -> None:
    codes = codes_near(code, 1_000, random)

    assert hamming.distances(codes, code).tolist() == distances_of(codes, code).tolist()


@pytest.mark.parametrize("chunk_rows", [1, 999, 5_000, 1 << 17])
@pytest.mark.parametrize("limit", [-1, 0, 60, 150, BITS])
def test_all_allowed_rows_within_a_limit_are_found_chunk_by_chunk(
    code: Bits,
    random: np.random.Generator,
    chunk_rows: int,
    limit: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hamming, "_CHUNK_ROWS", chunk_rows)
    count = 300 if chunk_rows == 1 else 5_000
    codes = codes_near(code, count, random)
    distances = distances_of(codes, code)
    allowed = random.random(count) < 0.5
    numbers = random.permutation(count)

    everything = Codes(codes, code).within(limit)
    masked = Codes(codes, code, allowed=allowed, count=int(allowed.sum())).within(limit)
    numbered = Codes(codes, code, rows=numbers).within(limit)

    near = np.flatnonzero(distances <= limit)
    assert everything.rows.tolist() == near.tolist()
    assert everything.hammings.tolist() == distances[near].tolist()
    assert everything.limit == limit
    assert masked.rows.tolist() == [row for row in near.tolist() if allowed[row]]
    assert numbered.rows.tolist() == numbers[near].tolist()


@pytest.mark.parametrize("share", [1.0, 0.5, 0.01])
@pytest.mark.parametrize("wanted", [1, 40, 500, 5_000])
def test_about_as_many_rows_as_are_wanted_are_near_and_never_too_few(
    code: Bits, random: np.random.Generator, share: float, wanted: int
) -> None:
    codes = codes_near(code, 20_000, random)
    allowed = random.random(20_000) < share
    searched = Codes(codes, code, allowed=allowed, count=int(allowed.sum()))
    at_least = max(1, wanted // 4)

    near = searched.nearest(wanted, at_least)

    assert len(near.rows) >= min(at_least, int(allowed.sum()))
    assert allowed[near.rows].all()
    assert near.rows.tolist() == searched.within(near.limit).rows.tolist()
    if share == 1.0:
        assert len(near.rows) <= 3 * wanted + 100


def test_rows_that_the_sample_says_nothing_of_are_found_all_the_same(
    code: Bits, random: np.random.Generator
) -> None:
    """Every second row, say, while the sample has none but the others."""
    codes = codes_near(code, 8 * 2_048, random)
    allowed = np.arange(len(codes)) % 8 == 3

    near = Codes(codes, code, allowed=allowed, count=2_048).nearest(40, 40)

    assert len(near.rows) >= 40
    assert allowed[near.rows].all()


def test_more_rows_are_looked_for_where_near_ones_are_rarer_than_the_sample_says(
    code: Bits, random: np.random.Generator
) -> None:
    codes = codes_near(code, 8 * 2_048, random)
    codes[::8] = code

    near = Codes(codes, code).nearest(10, 4_000)

    assert len(near.rows) >= 4_000


def test_near_rows_are_cut_by_distance_and_by_number() -> None:
    near = Near(np.arange(10, 16), np.array([5, 1, 3, 9, 3, 7], np.int32), 9)

    assert near.count_within(3) == 3
    assert [each.tolist() for each in near.between(1, 5)] == [[10, 12, 14], [5, 3, 3]]
    assert [near.distance_of(count) for count in (1, 2, 3, 6, 7)] == [1, 3, 3, 9, 9]
    assert sorted(near.first(4)[0].tolist()) == [10, 11, 12, 14]
    assert sorted(near.first(4)[1].tolist()) == [1, 3, 3, 5]
    assert near.first(9)[0].tolist() == near.rows.tolist()

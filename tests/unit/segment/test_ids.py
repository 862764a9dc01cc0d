"""An id is found by its hash and told apart in full, whatever else has the same hash."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vicinal.segment import ids
from vicinal.segment.ids import Hashes, IdTable, hashes

IDS = st.text(st.sampled_from("aé\U0001f600\0 "), max_size=4)


def find(table: IdTable, wanted: Sequence[str], hash_: Callable[..., Hashes] = hashes) -> list[int]:
    return [int(row) for row in table.find(wanted, hash_(wanted))]


@given(st.lists(IDS, unique=True), st.lists(IDS))
def test_ids_are_found_at_their_rows_and_others_nowhere(
    stored: list[str], wanted: list[str]
) -> None:
    table = IdTable(IdTable.arrays(stored))

    expected = [stored.index(each) if each in stored else -1 for each in wanted]

    assert len(table) == len(stored)
    assert [table[row] for row in range(len(stored))] == stored
    assert find(table, wanted) == expected


def hashed_by_length(wanted: Sequence[str]) -> Hashes:
    return np.array([len(each) for each in wanted], np.uint64)


def test_ids_with_one_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = ["b", "yy", "a", "xxx", "zz", "c", ""]
    monkeypatch.setattr(ids, "hashes", hashed_by_length)
    table = IdTable(IdTable.arrays(stored))

    found = find(table, [*stored, "d", "ww", "vvvv"], hashed_by_length)

    assert found == [0, 1, 2, 3, 4, 5, 6, -1, -1, -1]


def test_a_hash_is_the_same_in_every_process_and_version() -> None:
    # Hashes are stored: another function would lose every vector of an older folder.
    assert hashes(["", "a", "é"]).tolist() == [
        0xB4B2797457A0A6E4,
        0x2F42665B399EF840,
        0x2F19F3EF8BBF1ACB,
    ]


def test_there_may_be_no_ids_at_all() -> None:
    table = IdTable(IdTable.arrays([]))

    assert find(table, ["a"]) == [-1]
    assert find(table, []) == []

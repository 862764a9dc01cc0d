"""Rows of byte strings are gathered as they are, however they fall into chunks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vicinal.segment import binary_column
from vicinal.segment.binary_column import BinaryColumn, gathered, gathered_offsets

STRINGS = st.lists(st.binary(max_size=12), max_size=20)


def test_byte_strings_lie_one_after_another() -> None:
    laid = BinaryColumn.of([b"ab", b"", b"c"])

    assert laid.offsets.tolist() == [0, 2, 2, 3]
    assert laid.data.tobytes() == b"abc"
    assert [laid[row] for row in range(len(laid))] == [b"ab", b"", b"c"]


@given(parts=st.lists(st.tuples(STRINGS, st.randoms(use_true_random=False)), max_size=4))
@pytest.mark.parametrize("chunk_bytes", [1, 7, 1 << 20])
def test_gathered_rows_are_the_rows(
    chunk_bytes: int, parts: list[tuple[list[bytes], object]]
) -> None:
    chosen = []
    expected: list[bytes] = []
    for strings, random in parts:
        rows = [row for row in range(len(strings)) if random.random() < 0.6]  # type: ignore[attr-defined]  # hypothesis types it as object
        chosen.append((BinaryColumn.of(strings), np.array(rows, np.int64)))
        expected += [strings[row] for row in rows]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(binary_column, "CHUNK_BYTES", chunk_bytes)
        result = gathered(chosen)
        sizes = [len(chunk) for each, rows in chosen for chunk in each.chunks(rows)]

    assert [result[row] for row in range(len(result))] == expected
    assert result.offsets.tolist() == gathered_offsets(chosen).tolist()
    assert sum(sizes) == len(result.data)
    assert max(sizes, default=0) <= max(chunk_bytes, 12)

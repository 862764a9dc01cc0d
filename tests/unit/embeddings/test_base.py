"""What every backend refuses, and what length its vectors have."""

import numpy as np
import pytest

from vicinal.embeddings.base import check_texts, unit_rows
from vicinal.errors import BadEmbeddingInput


def test_no_texts_are_refused() -> None:
    with pytest.raises(BadEmbeddingInput, match="0 texts"):
        check_texts([])


@pytest.mark.parametrize("surrogate", [0xD800, 0xDFFF])
def test_a_lone_surrogate_is_refused_naming_the_text_and_the_character(surrogate: int) -> None:
    with pytest.raises(BadEmbeddingInput, match=f"text 2 .*character 3 .*U\\+{surrogate:X}"):
        check_texts(["fine", "", f"abc{chr(surrogate)}d"])


def test_any_other_text_is_taken() -> None:
    check_texts(["", " ", "\x00", "\U0001f999", "\uffff"])


def test_rows_are_scaled_to_length_1_and_zeros_stay_zeros() -> None:
    rows = np.array([[3.0, 4.0], [0.0, 0.0], [1e-30, 0.0], [3e38, 3e38]], dtype=np.float32)

    scaled = unit_rows(rows)

    assert scaled.dtype == np.float32
    assert scaled == pytest.approx(
        np.array([[0.6, 0.8], [0.0, 0.0], [1.0, 0.0], [0.5**0.5, 0.5**0.5]])
    )

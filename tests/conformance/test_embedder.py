"""Every Embedder passes this file. To add one, add it to the fixture.

The remote one asks a real HTTP service that has the local one behind it.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.support.embedded_texts import TEXTS
from tests.support.embedding_service import Answer, Asked, embedding_service
from tests.support.model_files import DATA, TINY
from vicinal.embeddings.base import Embedder
from vicinal.embeddings.local import LocalEmbedder
from vicinal.embeddings.models import SearchPaths
from vicinal.embeddings.remote import RemoteEmbedder
from vicinal.errors import BadEmbeddingInput, ModelNotFound

MODEL = "@cf/baai/bge-base-en-v1.5"
OTHER_NAME = "@test/the-same-again"
REFERENCE = np.load(DATA / "reference.npz")["tiny_mean"]


@pytest.fixture(params=["local", "remote"])
def embedder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Embedder]:
    search_paths = SearchPaths(tmp_path, tmp_path, {MODEL: TINY, OTHER_NAME: TINY})
    local = LocalEmbedder(search_paths, threads=1, queue_max=10_000, fetch=None)

    def answer(asked: Asked) -> Answer:
        made = local.embed(OTHER_NAME, asked.body["input"])
        rows = [
            {"object": "embedding", "index": place, "embedding": row.tolist()}
            for place, row in enumerate(made.values * 3)
        ]
        usage = {"prompt_tokens": made.token_count, "total_tokens": made.token_count}
        return Answer({"object": "list", "data": rows[::-1], "model": "x", "usage": usage})

    if request.param == "local":
        yield local
    else:
        with embedding_service(answer) as service:
            # A name without published dimensions, as the tiny model has others than bge.
            remote = RemoteEmbedder(service.url, models={OTHER_NAME: "tiny"})
            yield remote
            remote.close()
    local.close()


def test_there_is_one_vector_of_length_1_a_text_in_their_order(embedder: Embedder) -> None:
    made = embedder.embed(OTHER_NAME, TEXTS)

    assert made.values.dtype == np.float32
    assert np.abs(made.values - REFERENCE).max() < 1e-6


def test_the_names_are_those_of_the_models(embedder: Embedder) -> None:
    assert list(embedder.names()) == [each.name for each in embedder.models()]


def test_tokens_are_counted_without_padding(embedder: Embedder) -> None:
    assert embedder.embed(OTHER_NAME, ["a b c", "a", ""]).token_count == 5 + 3 + 2


def test_many_texts_of_all_lengths_come_back_in_order(embedder: Embedder) -> None:
    search_paths = [place % len(TEXTS) for place in range(0, 7 * 250, 7)]

    made = embedder.embed(OTHER_NAME, [TEXTS[place] for place in search_paths])

    assert np.abs(made.values - REFERENCE[search_paths]).max() < 1e-6


def test_calls_from_many_threads_do_not_mix(embedder: Embedder) -> None:
    def one(place: int) -> float:
        texts = [TEXTS[place], TEXTS[-place]]
        made = embedder.embed(OTHER_NAME, texts)
        return float(np.abs(made.values - REFERENCE[[place, -place]]).max())

    with ThreadPoolExecutor(8) as pool:
        differences = list(pool.map(one, list(range(len(TEXTS))) * 5))

    assert max(differences) < 1e-6


def test_a_model_that_is_loaded_beforehand_answers_the_same(embedder: Embedder) -> None:
    embedder.preload(OTHER_NAME)

    assert np.abs(embedder.embed(OTHER_NAME, TEXTS[:3]).values - REFERENCE[:3]).max() < 1e-6
    info = {each.name: each for each in embedder.models()}[OTHER_NAME]
    assert info.dimensions == 32
    assert info.is_available


def test_an_unknown_model_is_refused_with_the_known_ones(embedder: Embedder) -> None:
    with pytest.raises(ModelNotFound, match=f"'@cf/no/such'.*{OTHER_NAME}"):
        embedder.embed("@cf/no/such", ["a"])
    with pytest.raises(ModelNotFound, match="'@cf/no/such'"):
        embedder.preload("@cf/no/such")


def test_bad_texts_are_refused_and_the_place_named(embedder: Embedder) -> None:
    with pytest.raises(BadEmbeddingInput, match="0 texts"):
        embedder.embed(OTHER_NAME, [])
    with pytest.raises(BadEmbeddingInput, match="text 1 "):
        embedder.embed(OTHER_NAME, ["fine", "\ud83e"])


def test_no_name_is_listed_twice(embedder: Embedder) -> None:
    names = [each.name for each in embedder.models()]

    assert len(names) == len(set(names))
    assert OTHER_NAME in names

"""Words, vectors, or both are searched for in process."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vicinal
from vicinal.binding import Vectorize
from vicinal.errors import BadBody, BadRanking, InvalidInput
from vicinal.ranking import Highlight, RankedScore

X = [1.0, 0.0, 0.0]


@pytest.fixture
def docs(tmp_path: Path) -> Iterator[Vectorize]:
    with vicinal.open(tmp_path) as database:
        index = database.create_index("docs", dimensions=3, metric="cosine")
        index.create_metadata_index("text", "text", language="english")
        index.create_metadata_index("url", "string")
        index.upsert(
            [
                {"id": "a", "values": X, "metadata": {"text": "Foxes run", "url": "u"}},
                {"id": "b", "values": [0, 1, 0], "metadata": {"text": "a fox", "url": "u"}},
                {"id": "c", "values": [0, 0, 1], "metadata": {"text": "dogs", "url": "v"}},
            ],
            wait=True,
        )
        yield index


def ids(matches: Any) -> list[str]:
    return [match.id for match in matches.matches]


def test_words_are_found(docs: Vectorize) -> None:
    found = docs.search("running fox", return_highlights=True, return_metadata=True)

    assert ids(found) == ["a", "b"]
    assert found.matches[0].highlights == (Highlight("text", 0, 5), Highlight("text", 6, 9))
    assert found.matches[0].metadata == {"text": "Foxes run", "url": "u"}


def test_words_and_a_vector_are_found(docs: Vectorize) -> None:
    found = docs.search(
        "dog", vector=np.array(X), return_scores=True, weights={"text": float(np.float32(2))},
        fusion="ranks", text_share=0.5,
    )  # fmt: skip

    assert ids(found) == ["c", "a", "b"]
    scores = found.matches[0].scores
    assert scores is not None
    assert scores.vector == RankedScore(0.0, 3)
    assert scores.text is not None
    assert scores.text.rank == 1
    assert ids(docs.search("dog", vector_id="a")) == ["c", "a", "b"]


def test_a_vector_alone_can_be_diverse_or_in_groups(docs: Vectorize) -> None:
    assert ids(docs.search(vector=X, group_by={"property": "url"})) == ["a", "c"]
    assert ids(docs.search(vector=X, mmr={"lambda": 0.5}, top_k=2)) == ["a", "b"]


def test_bad_arguments_are_refused(docs: Vectorize) -> None:
    calls: list[tuple[str, dict[str, Any]]] = [
        ("text: must have words", {"text": " "}),
        ("text: expected a string", {"text": 5}),
        ("got neither", {}),
        ("fusion 'sum' is none of ranks, scores", {"text": "a", "fusion": "sum"}),
        ("textShare: must be from 0 to 1", {"text": "a", "text_share": 2}),
        ("has no form in JSON", {"text": "a", "weights": {"text": object()}}),
        ("textWeights", {"text": "a", "weights": 5}),
        ("mmr", {"vector": X, "mmr": 5}),
        ("return_scores: expected a boolean", {"vector": X, "return_scores": 1}),
    ]
    for complaint, arguments in calls:
        with pytest.raises(InvalidInput, match=complaint):
            docs.search(**arguments)
    with pytest.raises(BadBody, match="hybrid: needs text"):
        docs.search(vector=X, fusion="ranks")
    with pytest.raises(BadRanking, match="no text index"):
        docs.search("a", weights={"url": 1.0})
    with pytest.raises(TypeError, match="no argument 'rerank'"):
        docs.search("a", rerank=1)  # type: ignore[call-arg]  # which is the mistake

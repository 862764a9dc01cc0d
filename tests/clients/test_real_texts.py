"""Real texts, embedded, imported, filtered and found over HTTP: twenty thousand vectors.

What comes back is compared with brute force over the vectors that were sent: the same ids
and scores, for every query, with and without filters. `make test` embeds two thousand texts and
makes the other vectors from theirs; `make test-clients` embeds as many texts as there are vectors.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest

from tests.support.docstrings import Docstring, docstrings
from tests.support.server import in_process
from vicinal.model import Floats, Mask

MODEL = "@hf/sentence-transformers/all-minilm-l6-v2"
STORED, ASKED = 20_000, 60
SEED = 5
JITTER = np.float32(0.45)


@dataclass(frozen=True, slots=True)
class Library:
    """An index of the stored texts, and what is needed to check its answers.

    Attributes:
        client: Asks the server.
        stored: The text of each row.
        values: What was stored.
        queries: What to ask.
        scores: ``(queries, rows)``: how near they are, by brute force.
    """

    client: httpx.Client
    stored: list[Docstring]
    values: Floats
    queries: Floats
    scores: Floats

    @property
    def packages(self) -> list[str]:
        """The packages that the texts are of, those with most texts first."""
        return [name for name, _ in Counter(text.package for text in self.stored).most_common()]

    def post(self, path: str, body: object) -> Any:
        answer = self.client.post(f"/vectorize/v2/indexes{path}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["result"]

    def nearest(self, query: int, allowed: Mask) -> list[tuple[str, float]]:
        """Return the ten nearest allowed texts by brute force, as (id, score)."""
        rows = np.flatnonzero(allowed)
        scores = self.scores[query, rows]
        tenth = np.sort(scores)[-10:].min()
        near = [(f"v{row}", float(self.scores[query, row])) for row in rows[scores >= tenth]]
        return sorted(near, key=lambda each: (-each[1], each[0]))[:10]


def cosines(queries: Floats, rows: Floats) -> Floats:
    """Return the cosines ``(q, n)``, in float64 and rounded once."""
    wide, asked = rows.astype(np.float64), queries.astype(np.float64)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    return (asked @ wide.T).astype(np.float32)


def embed(client: httpx.Client, texts: list[str]) -> Floats:
    """Embed over HTTP, two requests at a time."""

    def run(start: int) -> list[list[float]]:
        answer = client.post(f"/ai/run/{MODEL}", json={"text": texts[start : start + 100]})
        assert answer.status_code == 200, answer.text
        rows: list[list[float]] = answer.json()["result"]["data"]
        return rows

    with ThreadPoolExecutor(2) as pool:
        batches = list(pool.map(run, range(0, len(texts), 100)))
    return np.array([row for batch in batches for row in batch], np.float32)


def multiplied(values: Floats, random: np.random.Generator) -> tuple[Floats, list[int]]:
    """Return `STORED` rows that begin with `values`, and which of `values` each is made from.

    Those made lie where texts lie: each is a text's, moved by a part of the way between two others.
    """
    made = STORED - len(values)
    near, there, here = random.integers(0, len(values), (3, made))
    moved = values[near] + JITTER * (values[there] - values[here])
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    return np.concatenate([values, moved]), [*range(len(values)), *near.tolist()]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(2_000, id="2,000 texts"),
        pytest.param(STORED, id="20,000 texts", marks=pytest.mark.clients),
    ],
)
def library(
    request: pytest.FixtureRequest, minilm: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Library]:
    count: int = request.param
    texts = docstrings(count + ASKED)
    random = np.random.default_rng(SEED)
    order = random.permutation(len(texts)).tolist()
    texts = [texts[at] for at in order]
    folder: Path = tmp_path_factory.mktemp("library")
    with in_process(folder) as running:
        client = httpx.Client(
            base_url=f"{running.base_url}/accounts/{running.account}",
            headers={"authorization": f"Bearer {running.token}", "prefer": "wait=60"},
            timeout=120,
        )
        with client:
            vectors = embed(client, [each.text for each in texts])
            values, sources = multiplied(vectors[:count], random)
            stored = [texts[each] for each in sources]
            queries = vectors[count:]
            library = Library(client, stored, values, queries, cosines(queries, values))
            config = {"dimensions": vectors.shape[1], "metric": "cosine"}
            library.post("", {"name": "library", "config": config})
            for name, type_ in (
                ("package", "string"),
                ("is_standard", "boolean"),
                ("place.line", "number"),
            ):
                library.post(
                    "/library/metadata_index/create", {"propertyName": name, "indexType": type_}
                )
            for start in range(0, STORED, 5_000):
                lines = [record(library, row) for row in range(start, start + 5_000)]
                answer = client.post(
                    "/vectorize/v2/indexes/library/upsert", content=b"\n".join(lines)
                )
                assert answer.status_code == 200, answer.text
            yield library


def record(library: Library, row: int) -> bytes:
    text = library.stored[row]
    metadata = {
        "text": text.text,
        "package": text.package,
        "is_standard": text.is_standard,
        "place": {"line": text.line},
    }
    return msgspec.json.encode(
        {
            "id": f"v{row}",
            "values": library.values[row].tolist(),
            "namespace": text.kind,
            "metadata": metadata,
        }
    )


def check(library: Library, members: dict[str, Any], allowed: list[bool]) -> None:
    """Every query finds just what brute force finds among the allowed texts."""
    mask = np.array(allowed)
    assert mask.any()
    missing = 0
    for place, query in enumerate(library.queries):
        found = library.post("/library/query", {"vector": query.tolist(), "topK": 10, **members})
        expected = library.nearest(place, mask)
        assert found["count"] == len(expected)
        scores = [match["score"] for match in found["matches"]]
        assert scores == pytest.approx([score for _, score in expected], abs=2e-6)
        missing += len(
            {vector_id for vector_id, _ in expected} - {match["id"] for match in found["matches"]}
        )
    # Two texts whose scores differ in the last digit may change places at the end.
    assert missing <= 1


def test_every_query_finds_what_brute_force_finds(library: Library) -> None:
    assert library.client.get("/vectorize/v2/indexes/library/info").json()["result"][
        "vectorCount"
    ] == len(library.stored)

    check(library, {}, [True] * STORED)


def test_a_namespace_finds_what_brute_force_finds_in_it(library: Library) -> None:
    check(library, {"namespace": "class"}, [text.kind == "class" for text in library.stored])


@pytest.mark.parametrize("kind", ["half", "range", "narrow", "several", "all but"])
def test_a_filter_finds_what_brute_force_finds_behind_it(library: Library, kind: str) -> None:
    common, fewer, few, *_ = library.packages[1::5]
    filters: dict[str, tuple[dict[str, Any], Callable[[Docstring], bool]]] = {
        "half": ({"is_standard": True}, lambda text: text.is_standard),
        "range": (
            {"place.line": {"$gte": 100, "$lt": 200}},
            lambda text: 100 <= text.line < 200,
        ),
        "narrow": ({"package": few}, lambda text: text.package == few),
        "several": (
            {"package": {"$in": [fewer, few]}, "place.line": {"$lt": 300}},
            lambda text: text.package in (fewer, few) and text.line < 300,
        ),
        "all but": ({"package": {"$ne": common}}, lambda text: text.package != common),
    }
    filter_, passes = filters[kind]

    check(library, {"filter": filter_}, [passes(text) for text in library.stored])


def test_a_text_is_found_by_what_it_means(library: Library) -> None:
    (query,) = embed(library.client, ["parse a JSON document"])

    found = library.post(
        "/library/query", {"vector": query.tolist(), "topK": 5, "returnMetadata": "all"}
    )

    texts = [match["metadata"]["text"] for match in found["matches"]]
    assert any("json" in text.lower() for text in texts), texts

"""Twenty thousand real texts, embedded, imported, filtered and found over HTTP.

What comes back is compared with brute force over the vectors that were sent: the same ids
and scores, for every query, with and without filters.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.support.docstrings import Docstring, docstrings
from tests.support.server import in_process
from vicinal.model import Floats, Mask

MODEL = "@hf/sentence-transformers/all-minilm-l6-v2"
STORED, ASKED = 20_000, 60
SEED = 5


@dataclass(frozen=True, slots=True)
class Library:
    """An index of the stored texts, and what is needed to check its answers."""

    client: httpx.Client
    stored: list[Docstring]
    values: Floats
    queries: Floats

    def post(self, path: str, body: object) -> Any:
        answer = self.client.post(f"/vectorize/v2/indexes{path}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["result"]

    def nearest(self, query: Floats, allowed: Mask) -> list[Any]:
        """Return the ten nearest allowed texts by brute force, as (id, score)."""
        rows = np.flatnonzero(allowed)
        wide = self.values[rows].astype(np.float64)
        wide_query = query.astype(np.float64)
        scores = wide @ wide_query / np.linalg.norm(wide, axis=1) / np.linalg.norm(wide_query)
        scores = scores.astype(np.float32)
        order = sorted(range(len(rows)), key=lambda at: (-scores[at], f"v{rows[at]}"))[:10]
        return [(f"v{rows[at]}", float(scores[at])) for at in order]


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


@pytest.fixture(scope="module")
def library(minilm: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    texts = docstrings(STORED + ASKED)
    order = np.random.default_rng(SEED).permutation(len(texts)).tolist()
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
            library = Library(client, texts[:STORED], vectors[:STORED], vectors[STORED:])
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
                    "/vectorize/v2/indexes/library/upsert", content="\n".join(lines)
                )
                assert answer.status_code == 200, answer.text
            yield library


def record(library: Library, row: int) -> str:
    text = library.stored[row]
    metadata = {
        "text": text.text,
        "package": text.package,
        "is_standard": text.is_standard,
        "place": {"line": text.line},
    }
    return json.dumps(
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
    for query in library.queries:
        found = library.post("/library/query", {"vector": query.tolist(), "topK": 10, **members})
        expected = library.nearest(query, mask)
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


@pytest.mark.parametrize(
    ("filter_", "passes"),
    [
        ({"is_standard": True}, lambda text: text.is_standard),
        ({"place.line": {"$gte": 100, "$lt": 200}}, lambda text: 100 <= text.line < 200),
        ({"package": "asyncio"}, lambda text: text.package == "asyncio"),
        (
            {"package": {"$in": ["email", "json"]}, "place.line": {"$lt": 300}},
            lambda text: text.package in ("email", "json") and text.line < 300,
        ),
        ({"package": {"$ne": "email"}}, lambda text: text.package != "email"),
    ],
    ids=["half", "range", "narrow", "several", "all but"],
)
def test_a_filter_finds_what_brute_force_finds_behind_it(
    library: Library, filter_: dict[str, Any], passes: Any
) -> None:
    check(library, {"filter": filter_}, [passes(text) for text in library.stored])


def test_a_text_is_found_by_what_it_means(library: Library) -> None:
    (query,) = embed(library.client, ["parse a JSON document"])

    found = library.post(
        "/library/query", {"vector": query.tolist(), "topK": 5, "returnMetadata": "all"}
    )

    texts = [match["metadata"]["text"] for match in found["matches"]]
    assert any("json" in text.lower() for text in texts), texts

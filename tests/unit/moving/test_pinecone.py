"""Copies from Pinecone, of which this is an imitation: its API as it is documented."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from tests.unit.moving.conftest import Commands, contents_of, folder_engine
from vicinal.moving import patience

COUNT = 230


class Imitation(ThreadingHTTPServer):
    """Two namespaces of one index, an index of sparse vectors, and a refusal now and then."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.url = f"http://127.0.0.1:{self.server_port}"
        values = np.random.default_rng(3).standard_normal((COUNT, 3)).astype(np.float32)
        self.vectors: dict[str, dict[str, dict[str, Any]]] = {"": {}, "films": {}}
        for number, row in enumerate(values.tolist()):
            vector = {"id": f"v{number:03}", "values": row, "metadata": {"n": number, "t": ["x"]}}
            self.vectors["films" if number % 3 else ""][f"v{number:03}"] = vector
        self.asked: list[str] = []
        self.is_slow = False

    def answer(self, path: str, query: dict[str, list[str]]) -> dict[str, Any]:
        namespace = query.get("namespace", [""])[0]
        vectors = self.vectors.get(namespace, {})
        if path == "/indexes":
            dense = {"name": "dense", "dimension": 3, "metric": "dotproduct", "host": self.url}
            sparse = {
                "name": "sparse",
                "metric": "dotproduct",
                "host": "h",
                "vector_type": "sparse",
            }
            return {"indexes": [dense, sparse]}
        if path == "/describe_index_stats":
            counts = {name: {"vectorCount": len(part)} for name, part in self.vectors.items()}
            return {"namespaces": counts, "totalVectorCount": COUNT, "dimension": 3}
        if path == "/vectors/list":
            first, limit = int(query.get("paginationToken", ["0"])[0]), int(query["limit"][0])
            ids = sorted(vectors)[first : first + limit]
            page: dict[str, Any] = {"vectors": [{"id": id_} for id_ in ids]}
            if first + limit < len(vectors):
                page["pagination"] = {"next": str(first + limit)}
            return page
        assert path == "/vectors/fetch"
        return {"vectors": {id_: vectors[id_] for id_ in query["ids"]}, "namespace": namespace}


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Imitation

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.server.asked.append(parts.path)
        if self.headers["api-key"] != "key":
            self.reply(401, {"error": "no"})
        elif self.server.is_slow and len(self.server.asked) % 2:
            self.reply(429, {"error": "slow down"})
        else:
            self.reply(200, self.server.answer(parts.path, parse_qs(parts.query)))

    def reply(self, status: int, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        if status == 429:
            self.send_header("retry-after", "3")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def pinecone() -> Iterator[Imitation]:
    imitation = Imitation()
    thread = threading.Thread(target=imitation.serve_forever)
    thread.start()
    yield imitation
    imitation.shutdown()
    thread.join()
    imitation.server_close()


def expected(pinecone: Imitation) -> dict[str, tuple[bytes, str, bytes]]:
    return {
        vector["id"]: (
            np.array(vector["values"], np.float32).tobytes(),
            namespace,
            json.dumps(vector["metadata"], separators=(",", ":")).encode(),
        )
        for namespace, vectors in pinecone.vectors.items()
        for vector in vectors.values()
    }


def test_all_namespaces_are_copied_and_429_is_waited_out(
    pinecone: Imitation, tmp_path: Path, copy: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(patience, "pause", pauses.append)
    pinecone.is_slow = True
    words = (f"pinecone:{pinecone.url}", tmp_path / "data", "--source-token", "key")

    said = copy.fails(*words)
    copy.ok(*words, "--leave-out", "--to-account", "acme")

    assert "index local/sparse: 'sparse' has sparse vectors" in said
    assert set(pauses) == {3.0}
    with folder_engine(tmp_path / "data") as engine:
        found = contents_of(engine)
    assert list(found) == ["acme/dense"]
    assert found["acme/dense"]["config"].metric.value == "dot-product"
    assert found["acme/dense"]["vectors"] == expected(pinecone)


def test_a_source_that_gives_fewer_vectors_than_it_said_is_named(
    pinecone: Imitation, tmp_path: Path, copy: Commands
) -> None:
    pinecone.vectors[""].pop("v000")
    words = (f"pinecone:{pinecone.url}", tmp_path / "data", "--source-token", "key", "--leave-out")

    result = copy.run(*words)

    assert result.exit_code == 0, result.output
    assert "the source said that it has 230 vectors, and 229 were read" in result.stderr


def test_an_interrupted_copy_goes_on_in_the_middle_of_a_namespace(
    pinecone: Imitation, tmp_path: Path, copy: Commands
) -> None:
    words = (
        f"pinecone:{pinecone.url}", tmp_path / "data", "--index", "dense", "--source-token", "key",
    )  # fmt: skip
    copy.killed_at(4, *words, after=True)
    pinecone.asked.clear()

    copy.ok(*words)

    # Two small pages of `films` were read: the rest of it is one page, not two.
    assert pinecone.asked.count("/vectors/fetch") == 2
    with folder_engine(tmp_path / "data") as engine:
        assert contents_of(engine)["local/dense"]["vectors"] == expected(pinecone)


def test_a_wrong_key_is_said(pinecone: Imitation, tmp_path: Path, copy: Commands) -> None:
    said = copy.fails(f"pinecone:{pinecone.url}", tmp_path / "data", "--source-token", "wrong")

    assert "is the key good?" in said


def test_other_products_are_not_written(tmp_path: Path, copy: Commands) -> None:
    (tmp_path / "data").mkdir()
    with folder_engine(tmp_path / "data"):
        pass

    assert "pinecone can be read, and is not written" in copy.fails(tmp_path / "data", "pinecone:")

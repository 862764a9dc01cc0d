"""The retrievers of examples/retrievers find texts by words alone, and by their meaning as well."""

import importlib
import importlib.util
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support import shell
from tests.support.asgi import application
from tests.support.commands import Commands
from tests.support.embedder import TINY
from tests.support.inline import open_inline
from tests.support.server import in_thread

FOLDER = shell.ROOT / "examples" / "retrievers"
NOTES = {
    "one": ([0, 1, 0, 0], "handshake fails with ERR_SSL 1.2.3"),
    "two": ([0, 0, 1, 0], "a quick fox"),
    "three": ([1, 0, 0, 0], "nothing of that"),
}


def module(monkeypatch: pytest.MonkeyPatch, name: str, needed: str) -> Any:
    """Return a module of the example, as its users import it."""
    if importlib.util.find_spec(needed.partition(".")[0]) is None:
        pytest.skip(f"THE RETRIEVER IS NOT TESTED: {needed} is not installed here")
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module(name)


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Some notes in an index of a server."""
    with closing(open_inline(tmp_path / "engine")) as engine:
        app = application(tmp_path, engine=engine, tokens=["secret"])
        with in_thread(app, token="secret") as server:
            notes = Commands(server)
            notes.ok(
                *("index", "create", "notes", "--dimensions", "4", "--metric", "cosine"),
                *("--model", TINY, "--metadata-index", "text:text:english"),
            )
            lines = "\n".join(
                f'{{"id":"{name}","values":{vector},"metadata":{{"text":"{text}","year":1990}}}}'
                for name, (vector, text) in NOTES.items()
            )
            notes.ok("import", "-", "notes", "--wait", stdin=lines)
            searching = module(monkeypatch, "searching", "json")
            url = f"{server.origin}/client/v4"
            yield searching.Texts(url, server.account, server.token, "notes")


@pytest.mark.parametrize("is_hybrid", [False, True])
def test_texts_are_found_without_a_framework(texts: Any, *, is_hybrid: bool) -> None:
    found = texts.search("err_ssl 1.2.3", 2, is_hybrid=is_hybrid)

    assert found[0]["id"] == "one"
    assert len(found) == (2 if is_hybrid else 1)


def test_langchain_gets_documents(texts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    retriever = module(monkeypatch, "langchain_retriever", "langchain_core").HybridRetriever

    hybrid = retriever(texts=texts, count=2).invoke("ERR_SSL")
    (by_words,) = retriever(texts=texts, is_hybrid=False).invoke("failing handshakes")

    assert len(hybrid) == 2
    assert hybrid[0].id == by_words.id == "one"
    assert by_words.page_content == NOTES["one"][1]
    assert by_words.metadata["year"] == 1990
    assert by_words.metadata["score"] > 0


def test_llama_index_gets_nodes(texts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    retriever = module(monkeypatch, "llama_index_retriever", "llama_index.core").HybridRetriever

    hybrid = retriever(texts, 2).retrieve("ERR_SSL")
    (by_words,) = retriever(texts, is_hybrid=False).retrieve("failing handshakes")

    assert len(hybrid) == 2
    assert hybrid[0].node_id == by_words.node_id == "one"
    assert by_words.text == NOTES["one"][1]
    assert by_words.metadata == {"year": 1990}
    assert by_words.score > 0

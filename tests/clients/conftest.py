"""One server for all tests of clients, on the embedded engine, with two tokens."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.embedder import DIMENSIONS, TINY, TinyEmbedder
from tests.support.server import Running, in_thread
from vicinal.d1 import Databases
from vicinal.engine.embedded import EmbeddedEngine, EngineOptions
from vicinal.limits import Limits
from vicinal.server.app import build
from vicinal.server.calls import ServerConfig
from vicinal.tokens import Permission, Tokens


@dataclass(frozen=True, slots=True)
class Served:
    """A server and what its clients need to know.

    Attributes:
        running: Its token may write.
        reader: A token that may only read.
        model: A text-embedding model it has, which makes vectors of `model_dimensions`.
    """

    running: Running
    reader: str
    model: str
    model_dimensions: int


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    tokens = Tokens(folder / "tokens.db")
    _, writer = tokens.create("writer", Permission.WRITE)
    _, reader = tokens.create("reader", Permission.READ)
    engine = EmbeddedEngine.open(folder / "data", EngineOptions(Limits()))
    app = build(engine, TinyEmbedder(), tokens, Databases(folder / "d1"), ServerConfig())
    with in_thread(app, token=writer) as running:
        yield Served(running, reader, TINY, DIMENSIONS)
    engine.close()
    tokens.close()


@pytest.fixture
def name() -> str:
    """A name that no other test uses."""
    return f"test-{uuid.uuid4().hex[:12]}"

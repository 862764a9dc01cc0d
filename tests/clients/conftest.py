"""One server for all tests of clients: a process of its own, with a model and two tokens."""

import json
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest

from tests.support.generation_service import generation_service, streaming
from tests.support.model_files import TINY, tiny_folder
from tests.support.server import Running, in_process
from vicinal.tokens import Permission, Tokens

MODEL = "@cf/test/tiny"
CHAT_MODEL = "@cf/meta/llama-3.1-8b-instruct"
SAID = ("An orange", " cloud", ".")
"""What the model for text says, in pieces, whatever it is asked."""


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
    dimensions = json.loads((TINY / "config.json").read_text())["hidden_size"]
    models = f"{MODEL}={tiny_folder(folder / 'model')}"
    with (
        generation_service(streaming(SAID)) as service,
        in_process(
            folder,
            arguments=(
                *("--model-folders", models),
                *("--generation-url", service.url, "--generation-models", f"{CHAT_MODEL}=tiny"),
            ),
        ) as running,
    ):
        with closing(Tokens(folder / "data" / "tokens.db")) as tokens:
            _, reader = tokens.create("reader", Permission.READ)
        yield Served(running, reader, MODEL, dimensions)


@pytest.fixture
def name() -> str:
    """A name that no other test uses."""
    return f"test-{uuid.uuid4().hex[:12]}"

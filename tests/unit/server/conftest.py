"""A server on a dict with one index, for the tests of this folder that name it."""

from pathlib import Path

import pytest

from tests.support.asgi import application
from tests.support.engines import create
from tests.support.model_engine import ModelEngine
from vicinal.server.app import App


@pytest.fixture
def engine() -> ModelEngine:
    engine = ModelEngine()
    create(engine)
    return engine


@pytest.fixture
def app(engine: ModelEngine, tmp_path: Path) -> App:
    return application(tmp_path, engine=engine)

"""A server on a dict for the commands to talk to."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.asgi import application
from tests.support.commands import Commands, Recorder
from tests.support.server import in_thread


@pytest.fixture
def engine() -> Recorder:
    return Recorder()


@pytest.fixture
def vicinal(
    tmp_path: Path, engine: Recorder, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Commands]:
    """The command line beside a running server, in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "server").mkdir()
    app = application(tmp_path / "server", engine=engine, tokens=["secret"])
    with in_thread(app, token="secret") as server:
        yield Commands(server)

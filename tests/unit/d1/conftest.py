"""Databases that end their processes with the test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from vicinal.d1 import Databases


@pytest.fixture
def databases(tmp_path: Path) -> Iterator[Databases]:
    databases = Databases(tmp_path / "d1")
    yield databases
    databases.stop()
    assert databases.processes() == []

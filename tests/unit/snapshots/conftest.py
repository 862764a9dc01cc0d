"""A data folder to take snapshots of."""

from contextlib import closing
from pathlib import Path

import pytest

from tests.support.engines import create, upsert
from tests.support.inline import open_inline
from tests.support.snapshots import points
from vicinal.engine.embedded import EngineOptions

OPTIONS = EngineOptions(memtable_rows_max=20)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    with closing(open_inline(folder, OPTIONS)) as engine:
        create(engine)
        upsert(engine, *points(0, 50))
    return folder

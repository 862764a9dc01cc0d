"""Opening brings back the last state, removes only what is known to be a stray, or says why not."""

import sqlite3
from pathlib import Path

import pytest

from tests.support.engines import DOCS, Record, apply, create, found, upsert, vector
from tests.support.inline import open_inline
from vicinal.engine.embedded import EngineOptions
from vicinal.engine.recovery import microseconds, moment
from vicinal.errors import Corruption
from vicinal.model import CreateMetadataIndex, Delete, IndexType, MetadataIndex, Query

COLOR = MetadataIndex("color", IndexType.STRING)


def left_closed(folder: Path) -> Path:
    """Leave a closed index with a segment, a column, tombstones and a log; return its folder."""
    engine = open_inline(folder, EngineOptions(tail_rows_max=4, merges=False))
    create(engine)
    apply(engine, CreateMetadataIndex(COLOR))
    upsert(engine, *(Record(f"v{n}", [n, 0], metadata={"color": "red"}) for n in range(4)))
    upsert(engine, Record("v1", [10, 0]), Record("v9", [9, 0]))
    apply(engine, Delete(["v2"]))
    engine.close()
    (index,) = (folder / "indexes").iterdir()
    return index


def nearest(folder: Path) -> list[str]:
    engine = open_inline(folder, EngineOptions(merges=False))
    try:
        return found(engine, Query(top_k=100, vector=vector(0, 0)))
    finally:
        engine.close()


def test_opening_again_and_again_changes_nothing(tmp_path: Path) -> None:
    left_closed(tmp_path)

    for _ in range(3):
        assert nearest(tmp_path) == ["v0", "v3", "v9", "v1"]


def test_strays_among_the_segments_are_removed(tmp_path: Path) -> None:
    segments = left_closed(tmp_path) / "segments"
    (segment,) = segments.iterdir()
    named = sorted(path.name for path in segment.iterdir())
    (segments / "00000099").mkdir()
    (segments / "00000100.tmp").mkdir()
    (segments / "00000100.tmp" / "values").touch()
    (segments / "a file").touch()
    (segment / "column-9.tmp").touch()
    (segment / "column-9").touch()
    (segment / "a folder").mkdir()

    assert nearest(tmp_path) == ["v0", "v3", "v9", "v1"]
    assert [path.name for path in segments.iterdir()] == [segment.name]
    assert sorted(path.name for path in segment.iterdir()) == named


def test_nothing_is_removed_while_anything_is_damaged(tmp_path: Path) -> None:
    # The stray may be a segment of just those mutations that are damaged in the log.
    index = left_closed(tmp_path)
    stray = index / "segments" / "00000099"
    stray.mkdir()
    connection = sqlite3.connect(index / "index.db")
    with connection:
        connection.execute("UPDATE mutation SET payload = x'00' WHERE seqno = 4")
    before = connection.execute("SELECT count(*) FROM mutation").fetchone()
    connection.close()

    with pytest.raises(Corruption, match=r"mutation 4 in .*index\.db fails its checksum"):
        nearest(tmp_path)

    assert stray.exists()
    connection = sqlite3.connect(index / "index.db")
    assert connection.execute("SELECT count(*) FROM mutation").fetchone() == before
    connection.close()


def test_a_crash_before_trimming_leaves_mutations_that_are_not_applied_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("vicinal.engine.log.Log.trim", lambda _: None)
        index = left_closed(tmp_path)
    count = "SELECT count(*) FROM mutation"
    connection = sqlite3.connect(index / "index.db")
    assert connection.execute(count).fetchone() == (4,)
    connection.close()

    assert nearest(tmp_path) == ["v0", "v3", "v9", "v1"]

    connection = sqlite3.connect(index / "index.db")
    assert connection.execute(count).fetchone()[0] < 4
    connection.close()


def test_the_last_mutation_and_its_time_survive_sealing_and_opening(tmp_path: Path) -> None:
    engine = open_inline(tmp_path)
    create(engine)
    upsert(engine, Record("a", [1, 1]))
    engine.maintain(DOCS)
    status = engine.status(DOCS)
    engine.close()

    engine = open_inline(tmp_path)

    assert engine.status(DOCS) == status
    engine.close()


def test_a_time_is_kept_to_the_microsecond() -> None:
    for kept in (0, 1, 1_700_000_000_000_001, 1_999_999_999_999_999, 4_102_444_800_123_457):
        assert microseconds(moment(kept)) == kept

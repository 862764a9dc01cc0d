"""Opening brings back the last state, removes only what is known to be a stray, or says why not."""

import json
import math
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.engines import DOCS, Record, apply, create, found, upsert, vector
from tests.support.inline import open_inline
from vicinal.engine.embedded import EngineOptions
from vicinal.engine.records import LogRecord
from vicinal.engine.recovery import microseconds, moment
from vicinal.errors import Corruption
from vicinal.model import (
    CreateMetadataIndex,
    Delete,
    IndexAddress,
    IndexType,
    MetadataIndex,
    Query,
)
from vicinal.storage.files import write
from vicinal.storage.sqlite import checksum

OTHER = IndexAddress("acme", "other")
COLOR = MetadataIndex("color", IndexType.STRING)


def left_closed(folder: Path) -> Path:
    """Leave a closed index with a segment, a column, tombstones and a log; return its folder."""
    engine = open_inline(folder, EngineOptions(memtable_rows_max=4, merges=False))
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


# What is whole and does not belong here


def logged(index: Path, header: object, values: list[float]) -> None:
    """Write a mutation into the log of a closed index, with the checksum that it should have."""
    payload = bytes(LogRecord(msgspec.msgpack.encode(header), np.array(values, "<f4")))
    with closing(sqlite3.connect(index / "index.db")) as connection, connection:
        (last,) = connection.execute("SELECT max(seqno) FROM mutation").fetchone()
        fields = (last + 1, "an id", 0, len(payload), payload, None, None)
        connection.execute(
            "INSERT INTO mutation VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*fields, checksum(*fields))
        )


def vectors(dimensions: int, ids: list[str], **members: list[object]) -> list[object]:
    namespaces = members.get("namespaces", [""] * len(ids))
    return ["vectors", True, dimensions, ids, namespaces, members.get("metadata", [b""] * len(ids))]


@pytest.mark.parametrize(
    ("header", "values"),
    [
        (vectors(3, ["x"]), [1, 2, 3]),
        (vectors(1, ["x"]), [1]),
        (vectors(768, ["x"]), [0.5] * 768),
        (vectors(2, ["x"]), [1, 2, 3]),
        (vectors(2, ["x", "y"]), [1, 2]),
        (vectors(2, ["x"]), []),
        (vectors(0, ["x"]), []),
        (vectors(-2, ["x"]), [1, 2]),
        (vectors(2, ["x"], namespaces=[]), [1, 2]),
        (vectors(2, ["x"], metadata=[b"", b""]), [1, 2]),
        (vectors(2, ["x"], metadata=["a text"]), [1, 2]),
        (vectors(2, ["x"]), [1, math.nan]),
        (vectors(2, ["x"]), [math.inf, 1]),
        (["unheard of", 1], []),
        ({"a": "map"}, []),
        (7, []),
    ],
)
def test_a_mutation_that_passes_its_checksum_and_is_none_of_this_index_costs_this_index(
    tmp_path: Path, header: object, values: list[float]
) -> None:
    index = left_closed(tmp_path)
    logged(index, header, values)
    engine = open_inline(tmp_path, EngineOptions(merges=False))
    create(engine, OTHER)

    for _ in range(2):
        with pytest.raises(Corruption, match=r"mutation 5 .*"):
            found(engine, Query(top_k=100, vector=vector(0, 0)))
    upsert(engine, Record("a", [1, 2]), address=OTHER)

    assert found(engine, Query(top_k=1, vector=vector(0, 0)), OTHER) == ["a"]
    engine.close()


@pytest.mark.parametrize("raw", [b"", b"\x01", b"\xff\xff\xff\xff", b"\x01\0\0\0\x07\0"])
def test_a_payload_that_passes_its_checksum_and_is_none_costs_this_index(
    tmp_path: Path, raw: bytes
) -> None:
    index = left_closed(tmp_path)
    with closing(sqlite3.connect(index / "index.db")) as connection, connection:
        fields = (5, "an id", 0, len(raw), raw, None, None)
        connection.execute(
            "INSERT INTO mutation VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*fields, checksum(*fields))
        )

    with pytest.raises(Corruption, match="mutation 5"):
        nearest(tmp_path)


def rewritten(index: Path, component: str, arrays: dict[str, NDArray[Any]]) -> None:
    """Put other arrays into a component of a closed index's segment, and into its manifest."""
    (segment,) = (index / "segments").iterdir()
    (segment / component).unlink()
    seal = write(segment / component, component, arrays)
    with closing(sqlite3.connect(index / "index.db")) as connection, connection:
        (document,) = connection.execute("SELECT document FROM manifest").fetchone()
        manifest = json.loads(document)
        manifest["segments"][0]["components"][component] = {
            "size": seal.size,
            "checksum": seal.checksum,
        }
        document = json.dumps(manifest).encode()
        connection.execute(
            "UPDATE manifest SET document = ?, checksum = ?", (document, checksum(document))
        )


def floats(*shape: int) -> NDArray[np.float32]:
    return np.ones(shape, np.float32)


def strings(**changed: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Return the arrays of a column of four rows that all have the string "red", but for some."""
    return {
        "codes": np.zeros(4, np.int32),
        "order": np.arange(4, dtype=np.uint32),
        "starts": np.array([0, 4], np.uint32),
        "key_offsets": np.array([0, 3], np.uint64),
        "key_bytes": np.frombuffer(b"red", np.uint8),
        **changed,
    }


def test_a_component_that_is_written_again_as_it_was_is_taken(tmp_path: Path) -> None:
    index = left_closed(tmp_path)
    rewritten(index, "column-1", strings())

    assert nearest(tmp_path) == ["v0", "v3", "v9", "v1"]


@pytest.mark.parametrize(
    ("component", "arrays"),
    [
        ("values", {"values": floats(4, 768), "norms": floats(4)}),
        ("values", {"values": floats(4, 1), "norms": floats(4)}),
        ("values", {"values": floats(3, 2), "norms": floats(3)}),
        ("values", {"values": floats(4, 2), "norms": floats(3)}),
        ("values", {"values": floats(8), "norms": floats(4)}),
        ("values", {"values": np.ones((4, 2)), "norms": floats(4)}),
        ("values", {"norms": floats(4)}),
        ("ids", {"offsets": np.zeros(3, np.uint64), "bytes": np.zeros(0, np.uint8)}),
        ("metadata", {"offsets": np.zeros(4, np.uint64), "bytes": np.zeros(0, np.uint8)}),
        ("metadata", {"offsets": np.zeros(5, np.int32), "bytes": np.zeros(0, np.uint8)}),
        ("namespaces", {"codes": np.zeros(3, np.int32)}),
        ("column-1", {"codes": np.zeros(5, np.int32)}),
        ("column-1", strings(starts=np.zeros(0, np.uint32))),
        ("column-1", strings(starts=np.zeros(1, np.uint32))),
        ("column-1", strings(key_offsets=np.zeros(0, np.uint64))),
        ("column-1", strings(key_offsets=np.zeros(2, np.float64))),
        ("column-1", strings(key_offsets=np.zeros((1, 2), np.uint64))),
        ("column-1", strings(key_bytes=np.zeros(3, np.float64))),
        ("column-1", strings(keys=np.zeros(1)) | {"key_offsets": np.zeros(0, np.uint64)}),
        ("namespaces", strings(starts=np.zeros(3, np.uint32))),
    ],
)
def test_a_component_that_is_whole_and_none_of_this_segment_costs_this_index(
    tmp_path: Path, component: str, arrays: dict[str, NDArray[Any]]
) -> None:
    index = left_closed(tmp_path)
    rewritten(index, component, arrays)

    with pytest.raises(Corruption, match="segment"):
        nearest(tmp_path)


def test_values_that_no_segment_can_have_are_said_to_be_of_this_index(tmp_path: Path) -> None:
    index = left_closed(tmp_path)
    no_text: dict[str, NDArray[Any]] = {
        "offsets": np.arange(5, dtype=np.uint64),
        "bytes": np.full(4, 0xFF, np.uint8),
        "hashes": np.zeros(4, np.uint64),
        "rows": np.arange(4, dtype=np.uint32),
    }
    rewritten(index, "ids", no_text)
    with closing(open_inline(tmp_path, EngineOptions(merges=False))) as engine:
        create(engine, OTHER)
        upsert(engine, Record("a", [1, 2]), address=OTHER)

        for _ in range(2):
            with pytest.raises(Corruption, match="index 'docs' cannot be read"):
                engine.list(DOCS, 100, None)
            with pytest.raises(Corruption, match="index 'docs' cannot be read"):
                engine.query(DOCS, Query(top_k=9, vector=vector(0, 0)))

        assert found(engine, Query(top_k=1, vector=vector(0, 0)), OTHER) == ["a"]


def test_a_crash_before_truncation_leaves_mutations_that_are_not_applied_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("vicinal.engine.log.Log.truncate", lambda _: None)
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
    engine.compact(DOCS)
    status = engine.status(DOCS)
    engine.close()

    engine = open_inline(tmp_path)

    assert engine.status(DOCS) == status
    engine.close()


def test_a_time_is_kept_to_the_microsecond() -> None:
    for kept in (0, 1, 1_700_000_000_000_001, 1_999_999_999_999_999, 4_102_444_800_123_457):
        assert microseconds(moment(kept)) == kept

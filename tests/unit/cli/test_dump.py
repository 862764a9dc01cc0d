"""``vicinal dump`` shows what is in the files, changes nothing, and names what is damaged."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import vicinal
from vicinal.cli import main
from vicinal.engine.embedded import EmbeddedEngine
from vicinal.engine.options import EngineOptions
from vicinal.model import IndexAddress


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder: an index with a segment of 30 rows, two of them dead, and a log."""
    monkeypatch.chdir(tmp_path)
    data = Path("data")
    with vicinal.open(data) as database:
        docs = database.create_index("docs", dimensions=5, metric="dot-product")
        docs.create_metadata_index("k", "string")
        ids = [f"v{number}" for number in range(30)]
        rows = np.arange(150, dtype=np.float32).reshape(30, 5)
        docs.upsert(vicinal.Columns(ids, rows, ["n"] * 30, [{"k": "[bold]"}] * 30), wait=True)
    compact(data)
    with vicinal.open(data) as database:
        database.index("docs").delete_by_ids(["v1", "v3"], wait=True)
    compact(data)
    with vicinal.open(data) as database:
        docs = database.index("docs")
        docs.insert([{"id": id_, "values": [1] * 5} for id_ in "abcd"])
        docs.delete_by_ids(["v0"])
        docs.create_metadata_index("x.y", "number", backfill=True)
        docs.delete_metadata_index("x.y", wait=True)
    return data


def compact(data: Path) -> None:
    """Seal what is not sealed, without merging."""
    engine = EmbeddedEngine.open(data, EngineOptions(merges=False))
    engine.compact(IndexAddress("local", "docs"))
    engine.close()


def index_of(data: Path) -> Path:
    (found,) = (data / "indexes").iterdir()
    return found


def segment_of(data: Path) -> Path:
    (found,) = (index_of(data) / "segments").iterdir()
    return found


def dump(path: Path, *options: str) -> str:
    result = CliRunner().invoke(main, ["dump", str(path), *options])
    assert result.exit_code == 0, result.output
    return result.stdout


def complaint(path: Path) -> str:
    result = CliRunner().invoke(main, ["dump", str(path)])
    assert result.exit_code in (1, 2), result.output
    assert isinstance(result.exception, SystemExit)
    return result.stderr


def row(shown: str, start: str) -> list[str]:
    """Return the words of the line that begins so."""
    (found,) = [line.split() for line in shown.splitlines() if line.split()[:1] == [start]]
    return found


def test_a_data_folder_shows_its_catalog(folder: Path) -> None:
    shown = row(dump(folder), "local")

    assert shown[:4] == ["local", "docs", "5", "dot-product"]
    assert shown[-1] == str(index_of(folder))


def test_the_folder_of_an_index_shows_manifest_segments_and_log(folder: Path) -> None:
    shown = dump(index_of(folder))

    assert "metadata indexes        1 k (string)" in shown
    assert row(shown, "1")[:3] == ["1", "30", "2"]
    assert row(shown, "1")[4:] == ["values,", "ids,", "metadata,", "namespaces,", "column-1"]
    _, _, log = shown.partition("\nlog: 4 mutations that no segment holds\n")
    endings = [" ".join(line.split()[4:]) for line in log.splitlines()[1:]]
    assert endings == [
        "insert 4 vectors: a, b, c, ...",
        "delete 1 ids: v0",
        "create metadata index x.y (number), with backfill",
        "drop metadata index x.y",
    ]


def test_the_folder_of_a_segment_shows_its_arrays_and_rows(folder: Path) -> None:
    shown = dump(segment_of(folder), "--rows", "2")

    assert "every checksum holds" in shown
    assert "values float32[30, 5], norms float32[30]" in shown
    _, _, rows = shown.partition("\nrows: 30, 2 of them dead\n")
    assert [line.split() for line in rows.splitlines()] == [
        ["row", "state", "id", "namespace", "values", "metadata"],
        ["0", "v0", "n", "0,", "1,", "2,", "3,", "...", '{"k":"[bold]"}'],
        ["1", "dead", "v1", "n", "5,", "6,", "7,", "8,", "...", '{"k":"[bold]"}'],
    ]


def test_dumping_changes_nothing(folder: Path) -> None:
    for path in (folder, index_of(folder), segment_of(folder)):
        dump(path)

    with vicinal.open(folder) as database:
        docs = database.index("docs")
        docs.delete_by_ids([], wait=True)
        assert docs.describe().vector_count == 30 - 3 + 4
        assert docs.get_by_ids(["v1", "v0"]) == []


@pytest.mark.parametrize("component", ["values", "ids", "metadata", "namespaces", "column-1"])
def test_a_damaged_component_is_named(folder: Path, component: str) -> None:
    path = segment_of(folder) / component
    content = bytearray(path.read_bytes())
    content[20] ^= 1
    path.write_bytes(content)

    assert str(path) in complaint(segment_of(folder))


def test_a_damaged_log_is_named(folder: Path) -> None:
    path = index_of(folder) / "index.db"
    path.write_bytes(path.read_bytes()[:100])

    assert str(path) in complaint(index_of(folder))


def test_files_that_a_server_has_are_left_alone(folder: Path) -> None:
    with vicinal.open(folder) as database:
        database.index("docs").describe()

        for path in (folder, index_of(folder), segment_of(folder)):
            assert "stop that first" in complaint(path)


def test_a_folder_of_something_else_is_one_sentence(folder: Path) -> None:
    assert "neither a data folder" in complaint(folder / "indexes")
    stray = index_of(folder) / "segments" / "00000099"
    stray.mkdir()
    assert "names no segment 00000099: it is a stray" in complaint(stray)
    assert "does not exist" in complaint(folder / "absent")


def test_all_three_are_json_with_numbers_as_numbers(folder: Path) -> None:
    catalog, index, segment = (
        json.loads(dump(path, "--json")) for path in (folder, index_of(folder), segment_of(folder))
    )

    assert [entry["index"] for entry in catalog["indexes"]] == ["docs"]
    assert [(row["number"], row["rows"], row["dead"]) for row in index["segments"]] == [(1, 30, 2)]
    assert [row["seqno"] for row in index["log"]] == sorted(row["seqno"] for row in index["log"])
    assert len(index["log"]) == 4
    assert {row["component"] for row in segment["components"]} >= {"values", "ids"}
    assert [row["row"] for row in segment["rows"]] == list(range(20))

"""``vicinal verify`` and ``vicinal doctor --deep`` say which account, index, file and block is bad,
change nothing, and work beside a server that has the folder open."""

import json
import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.support.engines import DOCS, Record, apply, create, upsert
from tests.support.inline import open_inline
from vicinal.cli import main
from vicinal.d1 import Databases
from vicinal.d1.messages import Statement
from vicinal.engine import blob_files
from vicinal.engine.embedded import EmbeddedEngine, EngineOptions
from vicinal.engine.log import FILE_NAME
from vicinal.model import CreateMetadataIndex, Delete, IndexAddress, IndexType, MetadataIndex
from vicinal.snapshots.store import Store
from vicinal.tokens import Permission, Tokens

OTHER = IndexAddress("umbrella", "faq")


def points(first: int, last: int) -> list[Record]:
    return [
        Record(
            f"v{n}",
            [n, 1.0],
            f"space-{n % 2}",
            {"color": ["red", "blue"][n % 2], "body": f"fox {n}"},
        )
        for n in range(first, last)
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder at rest, with every kind of file."""
    folder = tmp_path_factory.mktemp("whole") / "data"
    engine = open_inline(folder, EngineOptions(memtable_rows_max=20))
    create(engine)
    create(engine, OTHER)
    apply(engine, CreateMetadataIndex(MetadataIndex("color", IndexType.STRING)))
    apply(engine, CreateMetadataIndex(MetadataIndex("body", IndexType.TEXT)))
    upsert(engine, *points(0, 40))
    apply(engine, Delete(["v1", "v2"]))
    engine.compact(DOCS)
    upsert(engine, *points(30, 33))
    upsert(engine, *points(0, 3), address=OTHER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blob_files, "FILE_BYTES_MIN", 300)
        upsert(engine, *points(50, 62))
    engine.close()
    databases = Databases(folder / "d1")
    databases.execute("acme", "texts", [Statement("CREATE TABLE t(x)"), Statement(FILL)])
    databases.stop()
    with closing(Tokens(folder / "tokens.db")) as tokens:
        tokens.create("laptop", Permission.WRITE)
    return folder


FILL = "INSERT INTO t SELECT hex(randomblob(40)) FROM json_each('[1,2,3,4,5,6,7,8]')"


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "data"))


def verify(path: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["verify", str(path), *options])


def flip(path: Path, at: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 0x40
    path.write_bytes(raw)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def the_one(folder: Path, pattern: str) -> Path:
    return min(folder.glob(pattern))


def test_a_whole_folder_passes_and_nothing_in_it_changes(folder: Path) -> None:
    before = contents(folder)

    result = verify(folder, "--json")

    assert result.exit_code == 0, result.output
    names = [subject["name"] for subject in json.loads(result.stdout)["subjects"]]
    assert names == ["catalog", "index acme/docs", "index umbrella/faq", "tokens",
                     "database acme/texts"]  # fmt: skip
    assert contents(folder) == before


@pytest.mark.parametrize("component", ["values", "ids", "metadata", "namespaces", "column-1"])
def test_each_byte_of_a_segment_is_looked_at(folder: Path, component: str) -> None:
    path = the_one(folder, f"indexes/*/segments/*/{component}")
    for at in {0, 9, path.stat().st_size // 2, path.stat().st_size - 1}:
        flip(path, at)

        result = verify(folder)

        assert result.exit_code == 1
        assert "index acme/docs" in result.stdout
        assert str(path.relative_to(folder)) in result.stdout
        flip(path, at)
    assert verify(folder).exit_code == 0


def test_every_damaged_block_is_named_by_its_bytes(folder: Path) -> None:
    path = the_one(folder, "indexes/*/blobs/*")
    size = path.stat().st_size
    flip(path, 20)

    (damage,) = json.loads(verify(folder, "--json").stdout)["damages"]

    assert damage["subject"] == "index acme/docs"
    assert damage["file"] == str(path.relative_to(folder))
    assert damage["problem"].startswith("is damaged between bytes 0 and ")
    assert int(damage["problem"].split()[-1]) < size


@pytest.mark.parametrize("column", ["mutation_id", "payload", "checksum"])
def test_a_damaged_row_of_the_log_is_named(folder: Path, column: str) -> None:
    path = the_one(folder, f"indexes/*/{FILE_NAME}")
    value = "x'00'" if column == "payload" else "'7'" if column == "mutation_id" else "7"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            f"UPDATE mutation SET {column} = {value} "
            "WHERE seqno = (SELECT max(seqno) FROM mutation)"
        )

    result = verify(folder)

    assert result.exit_code == 1
    assert str(path.relative_to(folder)) in result.stdout
    assert "fails its checksum" in result.stdout


def test_a_missing_segment_and_a_missing_index_are_named(folder: Path) -> None:
    segment = the_one(folder, "indexes/*/segments/*")
    shutil.rmtree(segment)

    assert f"{segment.relative_to(folder)}/values: is missing" in verify(folder).stdout

    shutil.rmtree(segment.parents[1])
    assert f"{segment.parents[1].relative_to(folder)}: is missing" in verify(folder).stdout


@pytest.mark.parametrize(
    ("name", "subject"),
    [("catalog.db", "catalog"), ("tokens.db", "tokens"), ("d1/acme/texts.sqlite", "database")],
)
def test_a_damaged_database_is_named(folder: Path, name: str, subject: str) -> None:
    raw = (folder / name).read_bytes()
    (folder / name).write_bytes(raw[:4096] + b"\xff" * (len(raw) - 4096))

    result = verify(folder)

    assert result.exit_code == 1
    assert any(line.startswith(subject) and name in line for line in result.stdout.splitlines())


def test_damage_of_one_index_does_not_hide_that_of_another(folder: Path) -> None:
    logs = sorted(folder.glob(f"indexes/*/{FILE_NAME}"))
    for log in logs:
        raw = log.read_bytes()
        log.write_bytes(raw[: len(raw) // 2] + b"\xff" * (len(raw) - len(raw) // 2))

    damages = json.loads(verify(folder, "--json").stdout)["damages"]

    assert {damage["subject"] for damage in damages} == {"index acme/docs", "index umbrella/faq"}


def test_a_folder_that_is_served_is_read_at_one_moment_while_it_seals_and_merges(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "data"
    options = EngineOptions(memtable_rows_max=100, memtables_max=1_000, idle_s=0.05)
    with closing(EmbeddedEngine.open(folder, options)) as engine:
        create(engine)
        is_over = threading.Event()

        def write() -> None:
            number = 0
            while not is_over.is_set():
                upsert(engine, *points(number, number + 30))
                number += 30

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(4):
                result = verify(folder)
                assert result.exit_code == 0, result.output
                assert "a server has" in result.stderr
        finally:
            is_over.set()
            writer.join()


def test_doctor_reads_the_contents_when_it_is_asked_to(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VICINAL_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    flip(the_one(folder, "indexes/*/segments/*/ids"), 100)

    plain = CliRunner().invoke(main, ["doctor", "--data", str(folder), "--port", "0"])
    deep = CliRunner().invoke(main, ["doctor", "--data", str(folder), "--port", "0", "--deep"])

    assert plain.exit_code == 0, plain.output
    assert deep.exit_code == 1
    assert "contents of index acme/docs" in deep.stdout
    assert "ids is damaged between bytes 0 and" in deep.stdout


def test_another_folder_is_refused(tmp_path: Path) -> None:
    result = verify(tmp_path)

    assert result.exit_code == 1
    assert "is no data folder" in result.output


@pytest.mark.parametrize("words", [["verify"], ["snapshot", "verify"]])
def test_a_folder_without_snapshots_does_not_pass(tmp_path: Path, words: list[str]) -> None:
    Store.create(tmp_path / "store")  # as an attempt that was killed leaves it

    result = CliRunner().invoke(main, [*words, str(tmp_path / "store")])

    assert result.exit_code == 1
    assert f"{tmp_path / 'store'} has no snapshots" in result.stderr

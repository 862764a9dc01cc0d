"""``vicinal snapshot`` backs up a server that serves: to a folder, a file or a pipe, and back."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.support.asgi import application
from tests.support.engines import DOCS, create, upsert
from tests.support.server import Running, in_thread
from tests.support.snapshots import contents, points
from vicinal.cli import main
from vicinal.engine.embedded import EmbeddedEngine
from vicinal.model import IndexAddress
from vicinal.snapshots.service import Snapshots


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[EmbeddedEngine]:
    with closing(EmbeddedEngine.open(tmp_path / "data")) as engine:
        create(engine)
        upsert(engine, *points(0, 30))
        yield engine


@pytest.fixture
def server(engine: EmbeddedEngine, tmp_path: Path) -> Iterator[Running]:
    snapshots = Snapshots(engine, tmp_path / "data", tmp_path / "own", "1")
    app = application(tmp_path / "data", engine=engine, snapshots=snapshots)
    with in_thread(app) as running:
        yield running


def run(*words: object, server: Running | None = None) -> Result:
    url = [] if server is None else ["--url", server.origin]
    return CliRunner().invoke(main, ["snapshot", *map(str, words), *url])


def answer(*words: object, server: Running | None = None) -> str:
    result = run(*words, server=server)
    assert result.exit_code == 0, result.output
    return result.stdout


def in_folder(data: Path) -> object:
    with closing(EmbeddedEngine.open(data)) as engine:
        return contents(engine)


def test_the_server_keeps_snapshots_in_its_own_folder(
    server: Running, engine: EmbeddedEngine, tmp_path: Path
) -> None:
    made = json.loads(answer("create", "--json", server=server))

    assert made["id"] in answer("list", server=server)
    assert run("verify", server=server).exit_code == 0
    assert answer("restore", "--suffix", "-old", server=server) == "acme/docs-old\n"
    assert contents(engine, IndexAddress("acme", "docs-old")) == contents(engine)
    answer("restore", tmp_path / "own", "--data", tmp_path / "new")
    assert in_folder(tmp_path / "new") == contents(engine)
    assert made["id"] in answer("delete", "--snapshot", made["id"], server=server)
    assert json.loads(answer("list", "--json", server=server)) == []


def test_a_folder_receives_snapshots_and_what_it_has_is_not_sent_again(
    server: Running, engine: EmbeddedEngine, tmp_path: Path
) -> None:
    engine.compact(DOCS)
    store = tmp_path / "mine"
    first = json.loads(answer("create", store, "--json", server=server))
    upsert(engine, *points(5, 6, "blue"))
    second = json.loads(answer("create", store, "--json", server=server))

    assert second["written_bytes"] < first["written_bytes"]
    listed = json.loads(answer("list", store, "--json"))
    assert [each["id"] for each in listed] == sorted([first["id"], second["id"]])
    assert run("verify", store).exit_code == 0
    answer("restore", store, "--snapshot", second["id"], "--data", tmp_path / "new")
    assert in_folder(tmp_path / "new") == contents(engine)
    answer("delete", store, "--snapshot", first["id"])
    assert run("verify", store, "--snapshot", second["id"]).exit_code == 0
    assert run("verify", store, "--snapshot", first["id"]).exit_code == 1


def test_a_file_holds_one_and_damage_of_it_is_named(
    server: Running, engine: EmbeddedEngine, tmp_path: Path
) -> None:
    path = tmp_path / "all.tar.zst"
    answer("create", path, server=server)

    assert run("verify", path).exit_code == 0
    assert CliRunner().invoke(main, ["verify", str(path)]).exit_code == 0
    answer("restore", path, "--data", tmp_path / "new")
    assert in_folder(tmp_path / "new") == contents(engine)
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    result = CliRunner().invoke(main, ["verify", str(path)])
    assert result.exit_code == 1
    assert "all.tar.zst" in result.stdout
    assert run("restore", path, "--data", tmp_path / "other").exit_code == 1
    assert sorted(tmp_path.glob("other*")) == []


def test_a_pipe_takes_one(server: Running, engine: EmbeddedEngine, tmp_path: Path) -> None:
    words = ["-m", "vicinal", "snapshot", "create", "-", "--url", server.origin]
    ended = subprocess.run([sys.executable, *words], capture_output=True, check=True, timeout=120)
    (tmp_path / "a.tar.zst").write_bytes(ended.stdout)

    answer("restore", tmp_path / "a.tar.zst", "--data", tmp_path / "new")

    assert in_folder(tmp_path / "new") == contents(engine)


def test_a_folder_at_rest_is_read_without_a_server(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with closing(EmbeddedEngine.open(data)) as engine:
        create(engine)
        upsert(engine, *points(0, 30))
        expected = contents(engine)
    for destination in ("store", "a.tar.zst"):
        answer("create", tmp_path / destination, "--data", data)

        assert CliRunner().invoke(main, ["verify", str(tmp_path / destination)]).exit_code == 0
        answer("restore", tmp_path / destination, "--data", tmp_path / f"from-{destination}")
        assert in_folder(tmp_path / f"from-{destination}") == expected
    (snapshot,) = (tmp_path / "store" / "snapshots").iterdir()
    assert CliRunner().invoke(main, ["verify", str(snapshot)]).exit_code == 0


def test_a_snapshot_without_a_damaged_index_says_so_and_fails(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with closing(EmbeddedEngine.open(data)) as engine:
        create(engine)
        upsert(engine, *points(0, 30))
        engine.compact(DOCS)
    path = next(data.glob("indexes/*/segments/*/ids"))
    path.write_bytes(path.read_bytes()[:-1] + b"?")

    result = run("create", tmp_path / "store", "--data", data)

    assert result.exit_code == 1
    assert "index acme/docs" in result.stderr
    assert "ids" in result.stderr


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["restore", "x"], "give either --data"),
        (["restore", "--data", "new"], "needs SOURCE"),
        (["restore", "x", "--suffix", "-a"], "server's own folder"),
        (["restore", "--suffix", "-a", "--index", "docs"], "ACCOUNT/NAME"),
        (["list", "nothing"], "no folder of snapshots"),
        (["create", "x", "--data", "."], "is no data folder"),
        (["create", "--data", "."], "needs DESTINATION"),
        (["list", "--url", "http://127.0.0.1:1"], "Is a server running"),
    ],
)
def test_a_command_that_cannot_be_says_why(
    words: list[str], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["snapshot", *words])

    assert result.exit_code in (1, 2)
    assert text in result.output
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_a_node_is_refused_by_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "node" / "copies").mkdir(parents=True)

    result = run("create", tmp_path / "store", "--data", tmp_path / "node")

    assert result.exit_code == 1
    assert "pg_basebackup" in result.output
    assert [path.name for path in (tmp_path / "node").iterdir()] == ["copies"]


def test_a_damaged_snapshot_does_not_hide_the_others(server: Running, tmp_path: Path) -> None:
    ids = [json.loads(answer("create", tmp_path / "store", "--json", server=server))["id"]
           for _ in range(2)]  # fmt: skip
    (tmp_path / "store" / "snapshots" / ids[0] / "manifest").write_bytes(b"{}")

    result = run("list", tmp_path / "store")

    assert result.exit_code == 0
    assert ids[1] in result.stdout
    assert ids[0] in result.stderr


def test_a_folder_that_is_served_cannot_be_read_at_rest(server: Running, tmp_path: Path) -> None:
    result = run("create", tmp_path / "store", "--data", tmp_path / "data")

    assert result.exit_code == 1
    assert "in use by another process" in result.output


def test_a_folder_that_is_not_empty_is_left_as_it_is(server: Running, tmp_path: Path) -> None:
    answer("create", tmp_path / "store", server=server)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("years")

    result = run("restore", tmp_path / "store", "--data", tmp_path / "full")

    assert result.exit_code == 1
    assert "it holds thesis.tex" in result.output
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.tex"]


def damage(path: Path, at: int = 70) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize("destination", ["a.tar.zst", "-"])
def test_a_streamed_snapshot_without_a_damaged_index_says_so_and_fails(
    server: Running, engine: EmbeddedEngine, tmp_path: Path, destination: str
) -> None:
    engine.compact(DOCS)
    damage(next((tmp_path / "data").glob("indexes/*/segments/*/values")))
    file = destination if destination == "-" else tmp_path / destination

    result = run("create", file, server=server)

    assert result.exit_code == 1
    assert "it is without index acme/docs: " in result.stderr
    assert "1 parts are missing in the snapshot" in result.stderr
    if destination != "-":
        assert run("verify", file).exit_code == 0, "what could be read is there"


def test_a_streamed_snapshot_is_described_as_any_other(server: Running, tmp_path: Path) -> None:
    result = run("create", tmp_path / "a.tar.zst", server=server)
    described = json.loads(answer("create", tmp_path / "b.tar.zst", "--json", server=server))

    assert " 1 indexes and 0 SQL databases of " in result.stderr
    assert [index["name"] for index in described["indexes"]] == ["docs"]
    assert f"snapshot {described['id']}" in answer(
        "restore", tmp_path / "b.tar.zst", "--data", tmp_path / "new"
    )


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz", "a.zst", "a.TAR.ZST", "a.zip"])
@pytest.mark.parametrize("is_served", [True, False])
def test_a_name_of_another_kind_of_file_makes_no_folder(
    server: Running, tmp_path: Path, name: str, is_served: bool
) -> None:
    source = {"server": server} if is_served else {}
    flags = [] if is_served else ["--data", tmp_path / "data"]

    result = run("create", tmp_path / name, *flags, **source)

    assert result.exit_code == 2
    assert f"{name}: a snapshot is a file whose name ends in .tar.zst, or a folder" in result.stderr
    assert not (tmp_path / name).exists()


def test_a_folder_that_is_there_may_have_any_name(server: Running, tmp_path: Path) -> None:
    (tmp_path / "a.zip").mkdir()

    answer("create", tmp_path / "a.zip", server=server)

    assert answer("list", tmp_path / "a.zip")


def test_damage_is_named_by_the_file_that_the_user_has(
    server: Running, engine: EmbeddedEngine, tmp_path: Path
) -> None:
    engine.compact(DOCS)
    answer("create", tmp_path / "store", server=server)
    answer("create", tmp_path / "a.tar.zst", server=server)
    values = next((tmp_path / "store" / "shared").glob("*/*values*"))
    damage(values)
    stream = tmp_path / "a.tar.zst"
    (tmp_path / "half.tar.zst").write_bytes(stream.read_bytes()[: stream.stat().st_size // 2])

    of_store = run("restore", tmp_path / "store", "--data", tmp_path / "new")
    of_half = run("restore", tmp_path / "half.tar.zst", "--data", tmp_path / "new")
    verified = run("verify", tmp_path / "half.tar.zst")

    assert of_store.exit_code == of_half.exit_code == verified.exit_code == 1
    assert f"{values} is damaged between bytes 0 and " in of_store.stderr
    assert f"{tmp_path / 'half.tar.zst'}: the stream is damaged" in of_half.stderr
    assert f"{tmp_path / 'half.tar.zst'}: 1 blocks or rows are damaged" in verified.stderr

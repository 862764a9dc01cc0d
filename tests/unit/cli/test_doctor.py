"""``vicinal doctor`` finds what would keep a server from working, and changes nothing."""

import importlib.metadata
import json
import os
import socket
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import vicinal
from tests.support.model_files import tiny_folder
from tests.support.ports import free_port
from tests.support.server import in_process
from vicinal.cli import doctor, main
from vicinal.errors import Corruption
from vicinal.tokens import Permission, Tokens
from vicinal.wire import lines

MINILM = "@hf/sentence-transformers/all-minilm-l6-v2"


@pytest.fixture(autouse=True)
def _empty_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No data, no model and no configuration."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VICINAL_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


def examine(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(
        main, ["doctor", "--port", str(free_port()), *arguments], env=environment
    )


def verdict(result: Result, subject: str) -> str:
    """Return verdict and findings about a subject, which a space follows."""
    (line,) = [line for line in result.stdout.splitlines() if line.startswith(f"{subject} ")]
    return line.removeprefix(subject).strip()


def test_an_empty_machine_can_serve_and_nothing_is_made() -> None:
    result = examine()

    assert result.exit_code == 0
    assert verdict(result, "data folder").startswith("ok")
    assert verdict(result, "port").endswith("is free")
    assert verdict(result, "tokens").startswith("ok       none")
    assert list(Path().iterdir()) == []


def test_an_index_whose_entry_cannot_be_read_is_named_and_nothing_is_changed(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    with vicinal.open(data) as database:
        for name in ("docs", "faq"):
            database.create_index(name, dimensions=2, metric="cosine")
    with closing(sqlite3.connect(data / "catalog.db")) as connection, connection:
        connection.execute("UPDATE \"index\" SET document = x'7b7d' WHERE name = 'faq'")
    before = (data / "catalog.db").read_bytes()

    result = examine("--data", str(data))

    assert result.exit_code == 0
    assert "fails its checksum; the other indexes are served" in verdict(result, "index local/faq")
    assert "local/docs" not in result.stdout
    assert (data / "catalog.db").read_bytes() == before
    with vicinal.open(data) as database:
        assert database.index("docs").describe().vector_count == 0
        with pytest.raises(Corruption, match="entry of index 'faq'"):
            database.index("faq")
        database.delete_index("faq")
        database.create_index("faq", dimensions=3, metric="cosine")
    assert "index local" not in examine("--data", str(data)).stdout


def test_what_is_compiled_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "library", object)
    monkeypatch.setattr(lines, "is_built", lambda: True)
    assert verdict(examine(), "compiled search").startswith("ok")
    assert verdict(examine(), "compiled reading").startswith("ok")

    monkeypatch.setattr(doctor, "library", lambda: None)
    monkeypatch.setattr(lines, "is_built", lambda: False)
    assert verdict(examine(), "compiled search").startswith("warning  not built")
    assert verdict(examine(), "compiled reading").startswith("warning  not built")


def test_a_model_that_is_not_here_is_a_warning_with_the_way_to_get_it() -> None:
    expected = f"warning  not here; vicinal model pull {MINILM}"

    assert verdict(examine(), f"model {MINILM}") == expected


def test_a_damaged_model_is_a_problem() -> None:
    folder = tiny_folder(Path("models/all-minilm-l6-v2"))
    assert verdict(examine(), f"model {MINILM}").startswith("ok       ready")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])

    result = examine()

    assert result.exit_code == 1
    assert "checks found a problem" in result.stderr
    assert verdict(result, f"model {MINILM}").startswith("problem")


def test_a_port_in_use_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "ANSWER_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as other:
        result = CliRunner().invoke(main, ["doctor", "--port", str(other.getsockname()[1])])

    assert result.exit_code == 1
    assert verdict(result, "port").startswith("problem")


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_data_folder_that_cannot_be_is_a_problem(name: str) -> None:
    Path("file").touch()

    result = examine("--data", name)

    assert result.exit_code == 1
    assert "file is not a folder" in verdict(result, "data folder")


def test_a_public_address_needs_a_token() -> None:
    without = examine(VICINAL_HOST="0.0.0.0")
    given = examine(VICINAL_HOST="0.0.0.0", VICINAL_TOKEN="hush")
    Path("data").mkdir()
    tokens = Tokens(Path("data/tokens.db"))
    tokens.create("a", Permission.READ)
    tokens.close()
    stored = examine("--data", "data", VICINAL_HOST="0.0.0.0")

    assert verdict(without, "tokens").startswith("problem")
    assert verdict(given, "tokens").startswith("ok")
    assert verdict(stored, "tokens") == "ok       1; every request needs one"
    assert "hush" not in given.stdout


def test_that_requests_need_a_token_which_nobody_has_is_said() -> None:
    Path("data").mkdir()
    tokens = Tokens(Path("data/tokens.db"))
    tokens.revoke(tokens.create("a", Permission.READ)[0].id)
    tokens.close()
    revoked = examine("--data", "data")
    elsewhere = examine("--data", "data", VICINAL_HOST="0.0.0.0")
    Path("data/tokens.db").unlink()
    lost = examine("--data", "data")

    assert verdict(revoked, "tokens").startswith("warning  none, but requests need one")
    assert verdict(elsewhere, "tokens").startswith("problem")
    assert "there have been tokens" in verdict(lost, "tokens")
    assert not Path("data/tokens.db").exists()


def test_a_damaged_token_database_is_a_problem() -> None:
    Path("data").mkdir()
    Path("data/tokens.db").write_text("no database, not at all " * 10)

    result = examine("--data", "data")

    assert result.exit_code == 1
    assert "tokens.db is damaged" in verdict(result, "tokens")


def test_whether_sql_databases_work_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        verdict(examine(), "sql databases") == "ok       a process runs statements, FTS5 is there"
    )

    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert verdict(examine(), "sql databases").startswith("warning  do not work here: a process")


def test_a_running_installation_is_whole_and_its_server_is_known_by_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with in_process(tmp_path) as server:
        arguments = ["doctor", "--port", str(server.port)]
        own = CliRunner().invoke(main, [*arguments, "--data", str(tmp_path / "data")])
        other = CliRunner().invoke(main, [*arguments, "--data", str(tmp_path / "other")])
        elsewhere = examine("--data", str(tmp_path / "data"))
        monkeypatch.setattr("importlib.metadata.version", lambda _name: "99.0")
        older = CliRunner().invoke(main, [*arguments, "--data", str(tmp_path / "data")])

    assert own.exit_code == 0, own.output
    assert verdict(own, "port").startswith("ok")
    assert "answers" in verdict(own, "port")
    assert other.exit_code == 0, other.output
    assert verdict(other, "port").startswith("warning")
    assert "not one of" in verdict(other, "port")
    assert "another port" in verdict(other, "port")
    assert elsewhere.exit_code == 1
    assert "another process has" in " ".join(elsewhere.stdout.split())
    assert verdict(older, "port").startswith("warning")


def test_the_server_of_the_folder_is_known_where_it_answers_and_by_its_lock(
    tmp_path: Path,
) -> None:
    data = str(tmp_path / "data")
    with in_process(tmp_path) as server:
        assert server.process is not None
        own = CliRunner().invoke(main, ["doctor", "--port", str(server.port), "--data", data])
        deep = CliRunner().invoke(
            main, ["doctor", "--port", str(server.port), "--data", data, "--deep", "--json"]
        )
        elsewhere = examine("--data", data)
    stopped = examine("--data", data)

    version = importlib.metadata.version("vicinal")
    assert verdict(own, "server").startswith("ok")
    for part in (server.origin, f"version {version}", f"process {server.process.pid} has {data}"):
        assert part in verdict(own, "server")
    findings = {finding["subject"]: finding for finding in json.loads(deep.stdout)}
    assert deep.exit_code == 0, deep.output
    assert findings["server"]["verdict"] == "ok"
    assert any(subject.startswith("contents of") for subject in findings)
    assert server.origin in verdict(elsewhere, "server")
    assert "server " not in {line.split("  ")[0] + " " for line in stopped.stdout.splitlines()}
    assert stopped.exit_code == 0, stopped.output


def test_a_port_of_another_folders_server_is_said_as_such_also_while_this_one_is_served(
    tmp_path: Path,
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with in_process(tmp_path / "a") as first, in_process(tmp_path / "b") as second:
        result = CliRunner().invoke(
            main, ["doctor", "--port", str(first.port), "--data", str(tmp_path / "b" / "data")]
        )

    assert result.exit_code == 0, result.output
    assert "not one of" in verdict(result, "port")
    assert second.origin in verdict(result, "server")


def test_a_process_that_has_the_folder_open_and_is_no_server_is_named(tmp_path: Path) -> None:
    with vicinal.open(tmp_path / "data"):
        result = examine("--data", str(tmp_path / "data"))

    assert f"process {os.getpid()} has" in verdict(result, "server")
    assert "is no server" in verdict(result, "server")

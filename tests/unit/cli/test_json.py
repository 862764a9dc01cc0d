"""Every command that prints data prints it as one JSON document when it is asked to.

A new command fails here until it has --json and a line in `CASES`, or stands in `WITHOUT` with the
reason.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import pytest

from tests.support.asgi import application
from tests.support.commands import Commands
from tests.support.embedder import TINY
from tests.support.engines import create, upsert
from tests.support.model_files import tiny_folder
from tests.support.ports import free_port
from tests.support.server import in_thread
from tests.support.snapshots import points
from vicinal.cli import main
from vicinal.engine.embedded import EmbeddedEngine

WITHOUT = {
    "serve": "runs until it is stopped; what it prints are lines to copy",
    "demo": "shows a person what queries find",
    "index delete": "prints no data: it says that it is done",
    "token revoke": "prints no data: it says that it is done",
    "token disable": "prints no data: it says that it is done",
    "export": "its data are vectors, which are NDJSON",
    "wrangler": "becomes another program",
    "run": "becomes another program",
    "hook-path": "prints one path, to be put into a variable",
    "mcp": "speaks with an agent on standard input and output",
}
"""Commands without --json, and why."""

CASES: dict[str, Sequence[str]] = {
    "index create": ("new", "--dimensions", "3", "--metric", "cosine"),
    "index list": (),
    "index info": ("docs",),
    "index add-metadata-index": ("docs", "k", "string"),
    "index list-metadata-indexes": ("docs",),
    "index delete-metadata-index": ("docs", "k"),
    "vector get": ("docs", "a"),
    "vector list": ("docs",),
    "vector count": ("docs",),
    "vector facets": ("docs", "n"),
    "vector delete": ("docs", "a", "-y"),
    "vector patch": ("docs", "b", "--metadata", '{"x": 1}', "-y"),
    "import": ("in.ndjson", "docs"),
    "copy": ("rest", "copied"),
    "query": ("docs", "--id", "b"),
    "model pull": ("@cf/baai/bge-base-en-v1.5",),
    "model list": (),
    "token create": ("laptop", "--data", "tokens"),
    "token list": ("--data", "tokens"),
    "limits": (),
    "config show": (),
    "doctor": ("--data", "none", "--port", str(free_port())),
    "dump": ("rest",),
    "snapshot create": ("store", "--data", "rest"),
    "snapshot list": ("store",),
    "snapshot verify": ("store",),
    "snapshot restore": ("store", "--data", "restored"),
    "snapshot delete": ("store", "--snapshot", "ID"),
    "verify": ("rest",),
}
"""Command -> a command line of it; each is run in the state that those before leave."""


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


def has_json(command: click.Command) -> bool:
    return any("--json" in parameter.opts for parameter in command.params)


def test_every_command_that_prints_data_has_json() -> None:
    without = {name for name, command in commands(main) if not has_json(command)}

    assert without == set(WITHOUT)


def test_every_command_with_json_is_run_here() -> None:
    assert {name for name, command in commands(main) if has_json(command)} == set(CASES)


def test_what_json_prints_is_one_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VICINAL_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    tiny_folder(tmp_path / "models" / "bge-base-en-v1.5")
    Path("in.ndjson").write_text('{"id":"c","values":[1,2,3,4]}\n')
    with closing(EmbeddedEngine.open(tmp_path / "rest")) as engine:
        create(engine)
        upsert(engine, *points(0, 5))
    documents: dict[str, Any] = {}
    with closing(EmbeddedEngine.open(tmp_path / "data")) as engine:
        app = application(tmp_path, engine=engine, tokens=["secret"])
        with in_thread(app, token="secret") as server:
            vicinal = Commands(server)
            vicinal.ok(
                *("index", "create", "docs", "--dimensions", "4", "--metric", "cosine"),
                *("--metadata-index", "n:number", "--model", TINY),
            )
            lines = "".join(f'{{"id":"{name}","values":[1,0,0,1]}}\n' for name in "ab")
            vicinal.ok("import", "-", "docs", "--wait", stdin=lines)

            for name, arguments in CASES.items():
                named = [documents["snapshot create"]["id"] if a == "ID" else a for a in arguments]
                result = vicinal.run(*name.split(), *named, "--json")
                assert result.exit_code == 0, (name, result.output, result.exception)
                documents[name] = json.loads(result.stdout)

    assert documents["index create"]["name"] == "new"
    assert documents["import"]["vectors"] == 1
    assert documents["vector delete"]["count"] == 1
    assert documents["copy"]["vectors"] == 5
    assert documents["limits"]["top_k_max"]["open"] == 1_000
    assert documents["token create"]["token"]["id"] == documents["token list"][0]["id"]
    assert documents["token create"]["secret"] not in json.dumps(documents["token list"])
    assert documents["dump"]["indexes"][0]["dimensions"] == 2
    assert documents["model pull"]["is_new"] is False
    assert {model["model"] for model in documents["model list"]} >= {"@cf/baai/bge-base-en-v1.5"}
    assert documents["snapshot delete"]["freed_bytes"] > 0
    assert all(finding["verdict"] != "problem" for finding in documents["doctor"])


def test_a_plan_of_a_copy_and_its_failures_are_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with closing(EmbeddedEngine.open(tmp_path / "rest")) as engine:
        create(engine)
        upsert(engine, *points(0, 5))
    with in_thread(application(tmp_path)) as server:
        planned = json.loads(Commands(server).ok("copy", "rest", "copied", "--dry-run", "--json"))

    assert [(index["index"], index["vectors"]) for index in planned["indexes"]] == [("docs", 5)]
    assert planned["failures"] == []

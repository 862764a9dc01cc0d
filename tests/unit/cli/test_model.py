"""``vicinal model`` says what is here, brings what is not, and tells a person what to do."""

import json
import os
import pty
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest
from click.testing import CliRunner, Result

from tests.support.hub import hub
from tests.support.model_files import TINY, TINY_FILES, tiny_folder
from vicinal.cli import main

BASE = "@cf/baai/bge-base-en-v1.5"
FILES = {name: (TINY / name).read_bytes() for name in TINY_FILES}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty model folder, an empty cache, and no configuration file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VICINAL_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "models"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["model", *arguments])


def row(listing: str, name: str) -> str:
    [line] = [line for line in listing.splitlines() if line.startswith(name)]
    return line.rstrip()


def test_the_list_says_how_to_get_what_is_not_here() -> None:
    listing = run("list").output

    assert row(listing, BASE).split() == [
        *(BASE, "768", "not", "here;", "get", "it:", "vicinal", "model", "pull", BASE)
    ]


def test_the_list_says_where_a_model_was_found_and_by_whom(home: Path, tmp_path: Path) -> None:
    own = tiny_folder(home / "bge-base-en-v1.5")
    named = tiny_folder(tmp_path / "mine")
    broken = tmp_path / "nowhere"
    Path("vicinal.toml").write_text(
        f'[model_folders]\n"@mine/x" = "{named}"\n"@mine/y" = "{broken}"\n'
    )

    listing = run("list").output

    assert row(listing, BASE).endswith(f"32  {own} (Vicinal's model folder)")
    assert row(listing, "@mine/x").endswith(f"32  {named} (named by the user)")
    assert f"not usable: the folder {broken}" in row(listing, "@mine/y")


def test_a_damaged_model_is_listed_as_such(home: Path) -> None:
    (tiny_folder(home / "bge-base-en-v1.5") / "config.json").write_text("{")

    assert "not usable" in row(run("list").output, BASE)


def test_pull_brings_a_model_and_a_second_time_only_checks(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hub("BAAI/bge-base-en-v1.5", FILES) as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        first = run("pull", "bge-base-en-v1.5")
    second = run("pull", BASE)

    folder = home / "bge-base-en-v1.5"
    assert first.stdout == f"{BASE}: pulled into {folder}, checksums verified\n"
    assert first.stderr == f"pulling {BASE}\n"
    assert second.stdout == f"{BASE}: already in {folder}, checksums verified\n"
    assert second.stderr == ""
    assert row(run("list").output, BASE).endswith(f"{folder} (Vicinal's model folder)")


def test_pull_keeps_a_folder_that_was_copied_by_hand(home: Path) -> None:
    tiny_folder(home / "bge-base-en-v1.5")

    result = run("pull", BASE)

    assert result.stdout.endswith("no checksums to verify it by\n")


def test_a_folder_given_as_a_flag_wins(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    own = tiny_folder(elsewhere / "bge-base-en-v1.5")

    assert str(own) in run("list", "--models", str(elsewhere)).output
    assert str(own) in run("pull", BASE, "--models", str(elsewhere)).output


def test_a_name_that_may_mean_several_models_is_refused_with_the_list() -> None:
    result = run("pull", "en-v1.5")

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: 'en-v1.5' may be any of @cf/baai/bge-small")


def test_without_a_network_one_is_told_where_to_copy_the_files(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    result = run("pull", BASE)

    assert result.exit_code == 1
    assert "Error: BAAI/bge-base-en-v1.5 cannot be fetched" in result.stderr
    assert "copy config.json, tokenizer.json and model.safetensors" in result.stderr
    assert f"into {home / 'bge-base-en-v1.5'}" in result.stderr


def test_a_terminal_gets_a_progress_bar_and_a_pipe_the_answer(home: Path) -> None:
    controller, terminal = pty.openpty()
    shown = bytearray()

    def read() -> None:
        with suppress(OSError):  # nobody has the terminal any more
            while part := os.read(controller, 1 << 16):
                shown.extend(part)

    # A terminal holds a few thousand bytes, and a bar is drawn again and again while it waits.
    reading = Thread(target=read, daemon=True)
    reading.start()
    with hub("BAAI/bge-base-en-v1.5", FILES) as endpoint:
        done = subprocess.run(
            [sys.executable, "-m", "vicinal", "model", "pull", BASE],
            env={**os.environ, "HF_ENDPOINT": endpoint, "TERM": "xterm"},
            stdout=subprocess.PIPE,
            stderr=terminal,
            check=True,
            timeout=300,
        )
    os.close(terminal)
    reading.join()
    os.close(controller)

    assert done.stdout.decode().startswith(f"{BASE}: pulled into {home}")
    assert b"\x1b[" in shown
    assert b"bge-base-en-v1.5" in shown
    assert json.loads((home / "bge-base-en-v1.5" / "vicinal-receipt.json").read_bytes())

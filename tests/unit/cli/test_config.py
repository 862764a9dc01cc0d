"""``vicinal config show`` and ``vicinal limits`` show what is in force, and no secret."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from vicinal.cli import main
from vicinal.limits import PROFILES
from vicinal.settings import TABLE


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(main, arguments, env=environment)


def test_every_setting_is_shown_with_its_value_and_where_that_came_from() -> None:
    Path("vicinal.toml").write_text("backlog = 7")

    shown = json.loads(run("config", "show", "--json", VICINAL_PORT="1").stdout)

    assert list(shown) == [row.name for row in TABLE]
    assert shown["port"] == {"value": "1", "from": "VICINAL_PORT"}
    assert shown["backlog"] == {"value": "7", "from": "vicinal.toml: backlog"}
    assert shown["host"] == {"value": "127.0.0.1", "from": "default"}


def test_secrets_are_hidden() -> None:
    shown = run("config", "show", VICINAL_TOKEN="hush", VICINAL_EMBEDDING_KEY="hush").stdout

    assert "hush" not in shown
    assert shown.count("(hidden)") == 2


def test_a_bad_setting_is_one_sentence() -> None:
    result = run("config", "show", VICINAL_PORT="x")

    assert result.exit_code == 1
    assert result.stderr == "Error: VICINAL_PORT: 'x' is not a whole number\n"


def test_a_deprecated_name_is_told_to_the_person_and_not_to_the_pipe() -> None:
    result = run("config", "show", "--json", VICINAL_TAIL_ROWS_MAX="200")

    assert json.loads(result.stdout)["memtable_rows_max"]["value"] == "200"
    assert result.stderr == (
        "warning: VICINAL_TAIL_ROWS_MAX is deprecated; the setting's name is memtable_rows_max\n"
    )


def test_the_limits_of_all_profiles_stand_side_by_side() -> None:
    lines = [line.split() for line in run("limits").stdout.splitlines()]

    assert lines[0] == ["limit", *PROFILES]
    assert ["dimensions_max", "1,536", "1,536", "4,096"] in lines
    assert ["top_k_full_max", "50", "20", "1,000"] in lines
    assert ["vectors_per_index_max", "20,000,000", "5,000,000", "none"] in lines


def test_the_version_is_that_of_the_package() -> None:
    assert run("--version").stdout.startswith("vicinal, version 0.")

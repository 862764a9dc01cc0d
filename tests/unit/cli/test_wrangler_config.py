"""The account of a project is the one that wrangler takes out of its configuration."""

import json
import time
from collections.abc import Mapping
from pathlib import Path

import click
import pytest

from vicinal.cli.wrangler_config import (
    CONFIG_BYTES_MAX,
    ConfigSelection,
    named_account,
    read_jsonc,
)

A, B = "a" * 32, "b" * 32


def account(
    folder: Path,
    *files: Path,
    environment: str | None = None,
    variables: Mapping[str, str] | None = None,
) -> str | None:
    named = named_account(ConfigSelection(folder, files, environment), variables or {})
    return named.account if named is not None else None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("wrangler.json", f'{{"name": "x", "account_id": "{A}"}}'),
        ("wrangler.json", f'\ufeff{{"account_id": "{A}"}}'),
        ("wrangler.json", f'{{// why\n"account_id": "{A}",}}'),
        (
            "wrangler.jsonc",
            f'/* {{ */ {{"u": "http://h/*y*/", "account_id": /**/ "{A}", /* x */ }}',
        ),
        ("wrangler.jsonc", f'{{"v": ["\\"//", [1, 2, ],], "account_id": "{A}" // end\n,\n}}'),
        ("wrangler.jsonc", f'{{"s": ",}}", "account_id": "{A}"}}'),
        ("wrangler.toml", f'name = "x"\naccount_id = "{A}" # mine\n[env.prod]\nname = "y"\n'),
        ("wrangler.toml", f"\ufeffaccount_id = '{A}'\r\n"),
        ("wrangler.toml", f'vars = {{\n  x = "\\x41",\n}}\naccount_id = "{A}"\n'),
    ],
)
def test_it_is_read_in_every_form_that_wrangler_reads(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")

    assert account(tmp_path) == A


@pytest.mark.parametrize("text", ["{}", '{"account_id": ""}', '{"account_id": null}'])
def test_a_project_need_not_name_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "wrangler.json").write_text(text)

    assert account(tmp_path) is None


def test_without_a_configuration_none_is_named(tmp_path: Path) -> None:
    assert account(tmp_path) is None


def test_files_are_looked_for_upwards_in_wranglers_order(tmp_path: Path) -> None:
    below = tmp_path / "packages" / "app"
    below.mkdir(parents=True)
    (below / "wrangler.toml").write_text(f'account_id = "{A}"')
    assert account(below) == A

    # wrangler looks for each name all the way up before it looks for the next.
    (tmp_path / "wrangler.jsonc").write_text(json.dumps({"account_id": B}))
    assert account(below) == B
    (below / "wrangler.json").write_text("{}")
    assert account(below) is None
    assert account(tmp_path) == B


def test_an_environment_has_its_own_or_the_one_at_the_top(tmp_path: Path) -> None:
    sections = {"prod": {"account_id": B}, "test": {}, "odd": {"account_id": ""}}
    (tmp_path / "wrangler.json").write_text(json.dumps({"account_id": A, "env": sections}))

    assert account(tmp_path, environment="prod") == B
    assert account(tmp_path, variables={"CLOUDFLARE_ENV": "prod"}) == B
    assert account(tmp_path, environment="", variables={"CLOUDFLARE_ENV": "prod"}) == A
    assert account(tmp_path, environment="test", variables={"CLOUDFLARE_ENV": "prod"}) == A
    for each in ("odd", "none-such"):
        assert account(tmp_path, environment=each) == A


@pytest.mark.parametrize(
    ("text", "is_prod"),
    [
        ("CLOUDFLARE_ENV=prod", True),
        ("A=1\r\n export CLOUDFLARE_ENV = 'prod' # why\r\nB=2", True),
        ('CLOUDFLARE_ENV="prod"\n', True),
        ("CLOUDFLARE_ENV: prod\n", True),
        ("CLOUDFLARE_ENV=prod # why\n", True),
        ("CLOUDFLARE_ENV=test\nCLOUDFLARE_ENV=`prod`\n", True),
        ("CLOUDFLARE_ENV=prod\nCLOUDFLARE_ENV=\n", False),
        ("#CLOUDFLARE_ENV=prod\nMY_CLOUDFLARE_ENV=prod\nCLOUDFLARE_ENVS=prod", False),
        ("A=CLOUDFLARE_ENV=prod", False),
    ],
)
def test_the_environment_may_stand_in_a_file_of_variables(
    tmp_path: Path, text: str, is_prod: bool
) -> None:
    (tmp_path / "wrangler.json").write_text(
        json.dumps({"account_id": A, "env": {"prod": {"account_id": B}}})
    )
    (tmp_path / ".env").write_bytes(text.encode())

    assert account(tmp_path) == (B if is_prod else A)
    assert account(tmp_path, environment="") == A
    assert account(tmp_path, variables={"CLOUDFLARE_ENV": ""}) == A


def test_later_files_of_variables_win_and_those_that_are_given_stand_for_all(
    tmp_path: Path,
) -> None:
    sections = {"prod": {"account_id": B}}
    (tmp_path / "wrangler.json").write_text(json.dumps({"account_id": A, "env": sections}))
    (tmp_path / ".env").write_text("CLOUDFLARE_ENV=prod")
    (tmp_path / ".env.local").write_text("CLOUDFLARE_ENV=test")
    (tmp_path / "other").write_text("CLOUDFLARE_ENV=prod")
    below = tmp_path / "src"
    below.mkdir()

    def named(folder: Path, *files: Path) -> str | None:
        found = named_account(ConfigSelection(folder, variable_files=files), {})
        return found.account if found is not None else None

    assert named(tmp_path) == A
    assert named(tmp_path, tmp_path / ".env.local", tmp_path / "other") == B
    assert named(tmp_path, tmp_path / "none", tmp_path) == A
    # wrangler looks for them where it is run, and not above.
    assert named(below) == A


def test_a_toml_environment_has_its_own(tmp_path: Path) -> None:
    (tmp_path / "wrangler.toml").write_text(f'name = "x"\n[env.prod]\naccount_id = "{B}"\n')

    assert account(tmp_path, environment="prod") == B
    assert account(tmp_path) is None


def test_files_that_are_given_are_read_instead_and_have_to_agree(tmp_path: Path) -> None:
    (tmp_path / "wrangler.json").write_text(json.dumps({"account_id": A}))
    b, none = tmp_path / "b.jsonc", tmp_path / "none.toml"
    b.write_text(json.dumps({"account_id": B}))
    none.write_text('name = "none"')

    assert account(tmp_path, b) == B
    assert account(tmp_path, none) is None
    assert account(tmp_path, none, b) == B
    with pytest.raises(click.ClickException) as refused:
        account(tmp_path, tmp_path / "wrangler.json", b)

    for each in (A, B, str(b), "wrangler.json"):
        assert each in refused.value.message


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("wrangler.json", b"", "Expecting value"),
        ("wrangler.json", b'{"account_id": "x"', "line 1"),
        ("wrangler.jsonc", b'{"account_id": "x\n', "Unterminated string"),
        ("wrangler.jsonc", b'{\n  // x\n  "a": 1 "b": 2}', "line 3"),
        ("wrangler.json", b"\xff\xfe{\x00}\x00", "decode"),
        ("wrangler.json", b"[" * 100_000, "recursion"),
        ("wrangler.json", b'["account_id"]', "no members"),
        ("wrangler.json", b'{"account_id": 7}', "account_id is 7"),
        ("wrangler.toml", b'account_id = "x', "Unterminated string"),
        ("wrangler.json", b" " * (CONFIG_BYTES_MAX + 1), "1,048,576"),
    ],
)
def test_a_configuration_that_cannot_be_read_is_named_with_the_reason(
    tmp_path: Path, name: str, text: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(text)

    with pytest.raises(click.ClickException) as refused:
        account(tmp_path)

    assert str(tmp_path / name) in refused.value.message
    assert reason in refused.value.message


@pytest.mark.parametrize("name", ["settings", "wrangler.json5", "wrangler.TOML", "wrangler.yaml"])
def test_a_file_whose_name_wrangler_does_not_know_names_no_account(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_text(f'{{"account_id": "{A}"}}')

    assert account(tmp_path, tmp_path / name) is None


def test_a_file_is_read_as_what_its_name_ends_with(tmp_path: Path) -> None:
    (tmp_path / "mytoml").write_text(f'account_id = "{A}"')

    assert account(tmp_path, tmp_path / "mytoml") == A


def test_a_file_that_is_given_and_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(click.ClickException, match=r"none\.json cannot be read: No such file"):
        account(tmp_path, tmp_path / "none.json")


@pytest.mark.parametrize("unit", ["/*", '"\\"', "//", ",", ", ", '"', "\\"])
def test_text_that_closes_nothing_is_refused_in_linear_time(unit: str) -> None:
    start = time.process_time()
    with pytest.raises(ValueError):  # noqa: PT011  # whichever: the time is the point
        read_jsonc("{" + unit * (CONFIG_BYTES_MAX // len(unit)))

    assert time.process_time() - start < 10

"""``vicinal wrangler`` runs the project's wrangler, told of one server and of no other."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from vicinal.cli import main
from vicinal.cli.client import Target
from vicinal.cli.workers import HOOK, environment, find_wrangler

TARGET = Target("http://127.0.0.1:9/client/v4/", "secret,other", "acme")


def test_the_path_of_the_hook_is_printed() -> None:
    printed = CliRunner().invoke(main, ["hook-path"])

    assert printed.exit_code == 0
    assert Path(printed.output.strip()) == HOOK
    assert HOOK.is_file()


def test_everything_that_names_a_server_names_this_one() -> None:
    made = environment(TARGET, {"PATH": "/bin"})

    assert made["PATH"] == "/bin"
    assert made["VICINAL_URL"] == "http://127.0.0.1:9"
    assert made["CLOUDFLARE_API_BASE_URL"] == "http://127.0.0.1:9/client/v4"
    assert made["VICINAL_TOKEN"] == made["CLOUDFLARE_API_TOKEN"] == "secret"
    assert made["VICINAL_ACCOUNT"] == made["CLOUDFLARE_ACCOUNT_ID"] == "acme"


def test_no_credential_for_cloudflare_is_passed_on() -> None:
    outer = {
        "CLOUDFLARE_API_KEY": "real",
        "CLOUDFLARE_EMAIL": "real",
        "CLOUDFLARE_API_TOKEN": "real",
        "CF_API_TOKEN": "real",
        "CLOUDFLARE_ACCOUNT_ID": "real",
    }

    assert "real" not in environment(TARGET, outer).values()


def test_options_for_node_are_kept_and_a_path_with_spaces_is_quoted() -> None:
    made = environment(TARGET, {"NODE_OPTIONS": "--max-old-space-size=512"})

    assert made["NODE_OPTIONS"] == f'--max-old-space-size=512 --require "{HOOK}"'


def test_the_wrangler_of_the_project_is_found_from_below(tmp_path: Path) -> None:
    wrangler = tmp_path / "node_modules" / ".bin" / "wrangler"
    wrangler.parent.mkdir(parents=True)
    wrangler.touch()
    below = tmp_path / "packages" / "app"
    below.mkdir(parents=True)

    assert find_wrangler(below) == str(wrangler)


def test_a_project_without_wrangler_is_told_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.chdir(tmp_path)

    ran = CliRunner().invoke(main, ["wrangler", "--", "dev"])

    assert ran.exit_code == 1
    assert str(tmp_path) in ran.output
    assert "npm install -D wrangler" in ran.output


def test_arguments_standard_output_and_status_are_wranglers_own(tmp_path: Path) -> None:
    wrangler = tmp_path / "node_modules" / ".bin" / "wrangler"
    wrangler.parent.mkdir(parents=True)
    wrangler.write_text(
        f"#!{sys.executable}\n"
        "import json, os, sys\n"
        "print(json.dumps([sys.argv[1:], os.environ['CLOUDFLARE_API_BASE_URL']]))\n"
        "sys.exit(7)\n"
    )
    wrangler.chmod(0o755)
    arguments = ["vectorize", "query", "docs", "--vector", "-1", "--help"]

    ran = subprocess.run(
        [
            *(sys.executable, "-m", "vicinal", "wrangler"),
            *("--url", "http://127.0.0.1:9", "--token", "t", "--", *arguments),
        ],
        cwd=tmp_path,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert ran.returncode == 7, ran.stderr
    assert json.loads(ran.stdout) == [arguments, "http://127.0.0.1:9/client/v4"]

"""``vicinal wrangler`` and ``vicinal run`` start programs told of one server and of no other."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import NamedTuple, NoReturn
from unittest.mock import patch

import click
import pytest
from click.testing import CliRunner

from tests.support.waiting import ticking
from vicinal.cli import main, workers
from vicinal.cli.client import FOUND_ACCOUNT_VARIABLE, Target
from vicinal.cli.workers import HOOK, environment, find_program, find_wrangler

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


ACCOUNT, OTHER = "a" * 32, "b" * 32


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project in `ACCOUNT`, whose wrangler prints its arguments and what it has been told."""
    wrangler = tmp_path / "node_modules" / ".bin" / "wrangler"
    wrangler.parent.mkdir(parents=True)
    wrangler.write_text(
        f"#!{sys.executable}\n"
        "import json, os, sys\n"
        "told = {name: each for name, each in os.environ.items() if 'ACCOUNT' in name}\n"
        "print(json.dumps([sys.argv[1:], told]))\n"
    )
    wrangler.chmod(0o755)
    (tmp_path / "wrangler.json").write_text(json.dumps({"account_id": ACCOUNT}))
    return tmp_path


class Run(NamedTuple):
    """How a command ended, and what it and the program in its place have printed."""

    returncode: int
    stdout: str
    stderr: str


def ran(folder: Path, *arguments: str, **variables: str) -> Run:
    """Run a command in this process; what takes its place is run as a child."""

    def replace(program: str, arguments: list[str], environment: dict[str, str]) -> NoReturn:
        done = subprocess.run(
            arguments,
            executable=program,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        click.echo(done.stdout, nl=False)
        click.echo(done.stderr, nl=False, err=True)
        sys.exit(done.returncode)

    others = ("VICINAL_", "_VICINAL", "CLOUDFLARE_")
    hidden = {name: None for name in os.environ if name.startswith(others)}
    with contextlib.chdir(folder), patch.object(os, "execve", replace):
        run = CliRunner().invoke(
            main, arguments, env={**hidden, **variables}, catch_exceptions=False
        )
    return Run(run.exit_code, run.stdout, run.stderr)


@contextmanager
def serving(answer: Callable[[str], tuple[int, bytes]]) -> Iterator[str]:
    """A server that answers paths so; the block gets its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answer(self.path)
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def like_vicinal(path: str) -> tuple[int, bytes]:
    """What a Vicinal server answers."""
    if path == "/healthz":
        return 200, b'{"status":"ok"}'
    return 200, b'{"success":true,"errors":[],"messages":[],"result":{"id":"any"}}'


@pytest.fixture
def url() -> Iterator[str]:
    with serving(like_vicinal) as url:
        yield url


def told(run: Run) -> tuple[list[str], dict[str, str]]:
    assert run.returncode == 0, run.stderr
    arguments, variables = json.loads(run.stdout)
    return arguments, variables


def test_commands_and_bindings_are_in_the_account_that_the_project_names(
    project: Path, url: str
) -> None:
    for command in (("wrangler", "--"), ("run", "--", "wrangler")):
        _, variables = told(ran(project, *command, "dev", VICINAL_URL=url))

        assert variables["VICINAL_ACCOUNT"] == variables["CLOUDFLARE_ACCOUNT_ID"] == ACCOUNT
        assert variables[FOUND_ACCOUNT_VARIABLE] == ACCOUNT


def test_the_environment_of_wrangler_is_that_of_its_options(project: Path, url: str) -> None:
    sections = {"prod": {"account_id": OTHER}}
    (project / "wrangler.json").write_text(json.dumps({"account_id": ACCOUNT, "env": sections}))
    (project / "third.jsonc").write_text('{"account_id": "third", /* x */}')

    for arguments, variables, expected in (
        (("dev", "-e", "prod"), {}, OTHER),
        (("dev", "--env=prod"), {}, OTHER),
        (("dev",), {"CLOUDFLARE_ENV": "prod"}, OTHER),
        (("dev", "-c", "third.jsonc"), {}, "third"),
        (("dev",), {}, ACCOUNT),
    ):
        _, own = told(ran(project, "wrangler", "--", *arguments, VICINAL_URL=url, **variables))
        _, within = told(
            ran(project, "run", "--", "wrangler", *arguments, VICINAL_URL=url, **variables)
        )
        assert own["VICINAL_ACCOUNT"] == within["VICINAL_ACCOUNT"] == expected


def test_a_project_that_names_no_account_is_in_the_one_that_is_given(
    project: Path, url: str
) -> None:
    (project / "wrangler.json").write_text("{}")

    _, default = told(ran(project, "wrangler", "--", "dev", VICINAL_URL=url))
    _, given = told(ran(project, "wrangler", "--", "dev", VICINAL_URL=url, VICINAL_ACCOUNT="acme"))

    assert default["VICINAL_ACCOUNT"] == "local"
    assert given["VICINAL_ACCOUNT"] == given["CLOUDFLARE_ACCOUNT_ID"] == "acme"
    assert FOUND_ACCOUNT_VARIABLE not in given


def test_an_account_beside_the_projects_own_is_refused_and_the_same_is_not(
    project: Path, url: str
) -> None:
    """wrangler would go to the project's whatever it is told; bindings would not."""
    same = ran(project, "wrangler", "--account", ACCOUNT, "--", "dev", VICINAL_URL=url)
    refused = [
        ran(project, "wrangler", "--account", OTHER, "--", "dev", VICINAL_URL=url),
        ran(project, "wrangler", "--", "dev", VICINAL_URL=url, VICINAL_ACCOUNT=OTHER),
    ]

    assert told(same)[1]["VICINAL_ACCOUNT"] == ACCOUNT
    for each in refused:
        assert each.returncode == 1
        assert each.stdout == ""
        for named in (ACCOUNT, OTHER, str(project / "wrangler.json")):
            assert named in each.stderr


def test_bindings_may_be_elsewhere_when_wranglers_commands_are_not_the_point(
    project: Path, url: str
) -> None:
    run = ran(project, "run", "--", "wrangler", VICINAL_URL=url, VICINAL_ACCOUNT=OTHER)

    assert told(run)[1]["VICINAL_ACCOUNT"] == OTHER
    assert ACCOUNT in run.stderr
    assert OTHER in run.stderr


def test_an_account_that_was_found_does_not_stick_to_other_folders(project: Path, url: str) -> None:
    """A command within a command looks again, as nobody has said the account."""
    below = project / "other"
    below.mkdir()
    (below / "wrangler.json").write_text(json.dumps({"account_id": OTHER}))
    inner = f"cd other && {sys.executable} -m vicinal run -- wrangler"

    _, variables = told(ran(project, "run", "--", "sh", "-c", inner, VICINAL_URL=url))

    assert variables["VICINAL_ACCOUNT"] == OTHER


def test_a_configuration_that_cannot_be_read_stops_before_the_wrong_account_is_used(
    project: Path, url: str
) -> None:
    (project / "wrangler.json").write_text('{"account_id": ')

    run = ran(project, "wrangler", "--", "dev", VICINAL_URL=url)

    assert run.returncode == 1
    assert "wrangler.json cannot be read" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("command", [("wrangler", "--", "dev"), ("run", "--", "wrangler")])
def test_a_server_that_is_not_there_is_told_before_anything_is_run(
    project: Path, command: tuple[str, ...]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]

    run = ran(project, *command, VICINAL_URL=f"http://127.0.0.1:{port}/client/v4")

    assert run.returncode == 1
    assert run.stdout == ""
    assert f"no server answers at http://127.0.0.1:{port} (" in run.stderr
    assert "`vicinal serve` starts one" in run.stderr
    assert "Traceback" not in run.stderr


NOT_FOUND = b'{"success":false,"errors":[],"result":null}'


@pytest.mark.parametrize(
    "answer",
    [
        lambda path: (404, b"not here"),
        lambda path: (200, b"<html>"),
        lambda path: (200, b'{"status":"ok"}'),
        lambda path: (404, NOT_FOUND),
        lambda path: (503, b'{"status":"ok"}') if path == "/healthz" else (404, NOT_FOUND),
    ],
)
def test_what_is_no_vicinal_server_is_not_taken_for_one(
    project: Path, answer: Callable[[str], tuple[int, bytes]]
) -> None:
    with serving(answer) as url:
        run = ran(project, "run", "--", "wrangler", VICINAL_URL=url)

    assert run.returncode == 1
    assert run.stdout == ""
    assert f"what answers at {url} is not a Vicinal server" in run.stderr


def test_a_token_that_the_server_refuses_is_told_before_anything_is_run(project: Path) -> None:
    def answer(path: str) -> tuple[int, bytes]:
        if path == "/healthz":
            return like_vicinal(path)
        return 401, (
            b'{"success":false,"errors":[{"code":1000,"message":"Invalid API Token: no"}],'
            b'"result":null}'
        )

    with serving(answer) as url:
        run = ran(project, "wrangler", "--", "dev", VICINAL_URL=url, VICINAL_TOKEN="hush")

    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr == (
        f"Error: {url} refuses the token: Invalid API Token: no. "
        "Give one by --token or VICINAL_TOKEN\n"
    )


def test_a_server_that_is_only_busy_is_there(project: Path) -> None:
    busy = b'{"success":false,"errors":[{"code":40041,"message":"busy"}],"result":null}'

    with serving(lambda path: like_vicinal(path) if path == "/healthz" else (429, busy)) as url:
        told(ran(project, "run", "--", "wrangler", VICINAL_URL=url))


@pytest.mark.parametrize("sends", [b"", b"HTTP/1.1 200 OK\r\nx: "])
def test_a_server_that_never_ends_its_answer_is_not_waited_for(
    project: Path, monkeypatch: pytest.MonkeyPatch, sends: bytes
) -> None:
    bound_s = 0.5
    monkeypatch.setattr(workers, "ANSWERS_WITHIN_S", bound_s)
    monkeypatch.chdir(project)

    def drip(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            connection.settimeout(0.2)
            connection.sendall(sends)
            while sends:
                try:
                    connection.sendall(b"x")
                    connection.recv(1 << 16)
                except TimeoutError:
                    continue
                except OSError:
                    return
            connection.settimeout(60)
            connection.recv(1 << 16)
            connection.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        Thread(target=drip, args=(listening,), daemon=True).start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        start = time.monotonic()
        with ticking() as ticks:
            run = CliRunner().invoke(main, ["run", "--url", url, "--", "wrangler"])
        taken_s = time.monotonic() - start

    assert run.exit_code == 1
    assert f"no server answers at {url} within {bound_s:g} s" in run.stderr
    assert bound_s <= taken_s
    assert ticks.seconds < 30  # the server would go on for a minute and more


def test_a_url_that_is_none_is_told(project: Path) -> None:
    for url in ("localhost:8790", "http://", "http://[", "ftp://127.0.0.1"):
        run = ran(project, "run", "--", "wrangler", VICINAL_URL=url)

        assert run.returncode == 1, url
        assert run.stdout == ""
        assert f"--url {url}: " in run.stderr
        assert "like http://127.0.0.1:8790" in run.stderr
        assert "no server answers" not in run.stderr
        assert "Traceback" not in run.stderr


def test_a_command_that_only_cloudflare_can_do_is_refused_with_one_sentence(project: Path) -> None:
    run = ran(project, "wrangler", "--", "deploy")

    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr == (
        "Error: `wrangler deploy` runs on Cloudflare, not on Vicinal; run it without `vicinal`\n"
    )


def test_the_account_is_told_where_it_is_asked_for(project: Path, url: str) -> None:
    run = ran(project, "wrangler", "--", "whoami", VICINAL_URL=url)

    assert f"works in the account {ACCOUNT} of {url}" in run.stderr


def test_a_program_gets_its_own_arguments_and_gives_its_status(tmp_path: Path, url: str) -> None:
    script = "import sys, os; print(sys.argv[1:], os.environ['NODE_OPTIONS']); sys.exit(7)"

    run = ran(
        tmp_path, "run", sys.executable, "-c", script, "--url", "x", "--help", VICINAL_URL=url
    )

    assert run.returncode == 7
    assert run.stdout.startswith("['--url', 'x', '--help']")
    assert str(HOOK) in run.stdout


def test_a_program_of_the_project_is_found_and_one_that_is_nowhere_is_named(
    project: Path, url: str
) -> None:
    below = project / "src"
    below.mkdir()

    assert find_program(below, "wrangler") == str(project / "node_modules" / ".bin" / "wrangler")
    run = ran(below, "run", "--", "no-such-program", VICINAL_URL=url)
    assert run.returncode == 1
    assert "no program no-such-program" in run.stderr
    assert str(below) in run.stderr


def test_a_file_that_cannot_be_run_is_told(project: Path, url: str) -> None:
    odd = project / "odd"
    odd.write_bytes(b"\x00\x01")
    odd.chmod(0o755)

    run = ran(project, "run", "--", "./odd", VICINAL_URL=url)

    assert run.returncode == 1
    assert "odd cannot be run: Exec format error" in run.stderr

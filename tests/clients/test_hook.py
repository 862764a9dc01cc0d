"""The preload hook says what is wrong where a person looks: in the terminal and in the Worker."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.clients.conftest import Served
from tests.support.installed import node, node_project
from tests.support.ports import closed_port
from tests.support.workers import ENVIRONMENTS
from vicinal.cli.client import Target
from vicinal.cli.workers import HOOK, environment

pytestmark = pytest.mark.node

ENDS_WITHIN_S = 120

SCRIPT = """
import { createRequire } from "node:module";
const [folder, options] = process.argv.slice(2);
const { Miniflare, convertV4MiniflareOptions, Log } = createRequire(`${folder}/`)("miniflare");
const given = {
  modules: true,
  compatibilityDate: "2026-04-01",
  script: `export default { async fetch(request, env) {
    try { return Response.json(await env.VECTORIZE.describe()); }
    catch (error) { return new Response(error.message); }
  } }`,
  ...JSON.parse(options),
};
const miniflare = new Miniflare(convertV4MiniflareOptions?.(given) ?? given);
console.log(await (await miniflare.dispatchFetch("http://localhost/")).text());
await miniflare.dispose();
"""

DOCS = {"vectorize": {"VECTORIZE": {"index_name": "no-such-index"}}}


def told(
    tmp_path: Path, target: Target, options: object = DOCS, miniflare: str = "miniflare-4"
) -> tuple[str, str]:
    """Run a Worker that asks for its index; return what it answered and what was complained of."""
    installed = node_project(ENVIRONMENTS / miniflare / "package.json")
    script = tmp_path / "script.mjs"
    script.write_text(SCRIPT)
    outer = {name: each for name, each in os.environ.items() if name != "NODE_OPTIONS"}
    ran = subprocess.run(
        [node(), str(script), str(installed), json.dumps(options)],
        cwd=tmp_path,
        env=environment(target, outer),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout, ran.stderr


def test_a_server_that_does_not_answer_is_named_with_what_to_do(tmp_path: Path) -> None:
    with closed_port() as port:
        url = f"http://127.0.0.1:{port}"
        answer, complaint = told(tmp_path, Target(url, "any", "local"))

    assert f"[vicinal] No server answers at {url} (ECONNREFUSED)" in complaint
    assert "vicinal serve" in complaint
    assert "VICINAL_URL" in complaint
    assert "vectorCount" not in answer


def test_a_wrong_token_is_what_the_worker_reads(served: Served, tmp_path: Path) -> None:
    answer, complaint = told(tmp_path, Target(served.running.origin, "wrong", "acme"))

    assert answer.startswith("INDEX_GET_ERROR (code = 9106): Authentication error: ")
    assert "[vicinal]" not in complaint


def test_an_unknown_index_is_what_the_worker_reads(served: Served, tmp_path: Path) -> None:
    server = served.running

    answer, _ = told(tmp_path, Target(server.origin, server.token, server.account))

    assert answer.strip() == (
        'INDEX_GET_ERROR (code = 3000): vectorize.index.not_found - Index name "no-such-index"'
    )


@pytest.mark.clients
def test_remote_bindings_that_would_come_to_the_server_too_are_named(
    served: Served, tmp_path: Path
) -> None:
    """Miniflare 5 has one connection for all remote bindings of a Worker."""
    server = served.running
    elsewhere = {"id": "1", "remoteProxyConnectionString": {"href": "http://127.0.0.1:9/"}}

    _, complaint = told(
        tmp_path,
        Target(server.origin, server.token, server.account),
        {**DOCS, "kvNamespaces": {"SHELF": elsewhere}},
        "miniflare-5",
    )

    assert "[vicinal]" in complaint
    assert "(SHELF)" in complaint


def test_a_url_that_is_none_is_refused(tmp_path: Path) -> None:
    ran = subprocess.run(
        [node(), "-e", f"require({json.dumps(str(HOOK.with_name('connection.cjs')))}).target()"],
        env={**os.environ, "VICINAL_URL": "localhost:8790"},
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
    )

    assert ran.returncode != 0
    assert 'VICINAL_URL is "localhost:8790", which is not a URL' in ran.stderr


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "http://127.0.0.1:8790/miniflare/local?token=local&index.A=a+b"),
        (
            {"VICINAL_URL": "http://h:1/client/v4/", "VICINAL_TOKEN": "x,y"},
            "http://h:1/miniflare/local?token=x&index.A=a+b",
        ),
        (
            {"VECTORIZE_URL": "https://h", "VECTORIZE_TOKEN": "x", "VECTORIZE_ACCOUNT": "acme"},
            "https://h/miniflare/acme?token=x&index.A=a+b",
        ),
    ],
)
def test_where_the_server_is_can_be_said_in_two_spellings(
    variables: dict[str, str], expected: str
) -> None:
    script = (
        f"console.log(require({json.dumps(str(HOOK.with_name('connection.cjs')))})"
        '.connectionString({ A: "a b" }).href)'
    )

    ran = subprocess.run(
        [node(), "-e", script],
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
    )

    assert ran.stdout.strip() == expected, ran.stderr


UNUSED = "[vicinal] No Worker was run in Miniflare here, so nothing has used Vicinal.\n"
UNBOUND = "[vicinal] No Worker here has a Vectorize or AI binding, so none uses Vicinal."


def hooked(*command: str, folder: Path) -> str:
    """Run a command with the hook alone; return what was complained of."""
    outer = {name: each for name, each in os.environ.items() if not name.startswith("_VICINAL")}
    ran = subprocess.run(
        command,
        cwd=folder,
        env={**outer, "NODE_OPTIONS": f'--require "{HOOK}"', "TMPDIR": str(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
    )
    return ran.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("node", "-e", "1"),
        ("node", "program.cjs"),
        ("node", "-e", "process.exit(3)"),
        # npm, a shell, and a process that starts another: each of them loads the hook.
        ("npm", "exec", "--call", "node program.cjs"),
        ("npm", "run", "start"),
        ("node", "-e", "new (require('worker_threads').Worker)('1', { eval: true })"),
    ],
)
def test_a_hook_that_finds_no_miniflare_says_so_once_for_all_processes(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    node()
    (tmp_path / "package.json").write_text('{"scripts": {"start": "node program.cjs"}}')
    (tmp_path / "program.cjs").write_text(
        "require('child_process').execFileSync('node', ['-e', '1'], { stdio: 'inherit' });"
    )

    complaint = hooked(*command, folder=tmp_path)

    assert complaint.count("[vicinal]") == 1
    assert UNUSED in complaint
    assert list(tmp_path.glob("vicinal-hook-*")) == []


@pytest.mark.parametrize(
    "command",
    [("npm", "--version"), ("npm", "ls"), ("npm", "pkg", "get", "name"), ("node", "--version")],
)
def test_a_command_that_cannot_run_a_worker_is_not_complained_of(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    node()
    (tmp_path / "package.json").write_text('{"name": "x"}')

    assert "[vicinal]" not in hooked(*command, folder=tmp_path)


def test_workers_without_a_binding_to_point_are_told_of_once(
    served: Served, tmp_path: Path
) -> None:
    server = served.running
    target = Target(server.origin, server.token, server.account)

    # wrangler dev gives the empty form of what a Worker has not.
    without: dict[str, object] = {"vectorize": {}, "kvNamespaces": {"SHELF": "1"}}
    _, unbound = told(tmp_path, target, without)
    _, bound = told(tmp_path, target)

    assert unbound.count("[vicinal]") == unbound.count(UNBOUND) == 1
    assert "[vicinal]" not in bound

"""The hook finds Miniflare however a program is loaded, and the account that its project names."""

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.clients.conftest import Served
from tests.support.installed import node_project
from tests.support.workers import ENVIRONMENTS, node_path
from vicinal.cli.workers import HOOK

pytestmark = [pytest.mark.node, pytest.mark.clients]

ENDS_WITHIN_S = 120
ACCOUNT, PRODUCTION = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"

BODY = """
(async () => {
  const { env, dispose } = await getPlatformProxy(%s);
  console.log(JSON.stringify({ dimensions: (await env.VECTORIZE.describe()).dimensions }));
  await dispose();
})();
"""
IMPORT = 'import { getPlatformProxy } from "wrangler";'
REQUIRE = 'const { getPlatformProxy } = require("wrangler");'

RUNNERS = [
    "node program.mjs",
    "node program.cjs",
    "tsx program.mjs",
    "tsx program.cjs",
    "tsx program.ts",
    "tsx program.mts",
    "npx tsx program.ts",
    "node --import tsx program.ts",
    "ts-node --transpileOnly --skipProject program.cjs",
    "node --require esbuild-register program.ts",
    "node --require @swc-node/register program.ts",
    "vite-node program.mjs",
    "vite-node program.ts",
]


@pytest.fixture(scope="module", params=["runners", "wrangler-newest"])
def project(
    request: pytest.FixtureRequest, served: Served, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A project in accounts of its own, where its index has 5 or 7 dimensions."""
    installed = node_project(ENVIRONMENTS / request.param / "package.json")
    folder = tmp_path_factory.mktemp("project")
    (folder / "node_modules").symlink_to(installed / "node_modules")
    configuration = {
        "name": "app",
        "account_id": ACCOUNT,
        "main": "index.js",
        "compatibility_date": "2026-04-01",
        "vectorize": [{"binding": "VECTORIZE", "index_name": "docs"}],
        "env": {
            "prod": {
                "account_id": PRODUCTION,
                "vectorize": [{"binding": "VECTORIZE", "index_name": "docs"}],
            }
        },
    }
    (folder / "wrangler.jsonc").write_text(f"// as it is\n{json.dumps(configuration)}")
    (folder / "index.js").write_text(
        "export default { async fetch(request, env) "
        "{ return Response.json(await env.VECTORIZE.describe()); } };"
    )
    for name, first in (("mjs", IMPORT), ("mts", IMPORT), ("ts", IMPORT), ("cjs", REQUIRE)):
        (folder / f"program.{name}").write_text(first + BODY % "{ remoteBindings: false }")
    (folder / "unchanged.mjs").write_text(IMPORT + BODY % "")
    named = '{ remoteBindings: false, environment: "prod" }'
    (folder / "environment.mjs").write_text(IMPORT + BODY % named)
    for account, dimensions in ((ACCOUNT, 5), (PRODUCTION, 7)):
        httpx.post(
            f"{served.running.base_url}/accounts/{account}/vectorize/v2/indexes",
            headers={"Authorization": f"Bearer {served.running.token}"},
            json={"name": "docs", "config": {"dimensions": dimensions, "metric": "cosine"}},
            trust_env=False,
            timeout=60,
        )
    return folder


def run(
    served: Served, folder: Path, *command: str, **variables: str
) -> "subprocess.CompletedProcess[str]":
    outer = {
        name: each
        for name, each in os.environ.items()
        if not name.startswith(("VICINAL_", "_VICINAL", "CLOUDFLARE_", "NODE_"))
    }
    own = folder / "node_modules" / ".bin"
    path = f"{own}{os.pathsep}{node_path((folder / 'node_modules').resolve().parent)}"
    return subprocess.run(
        command,
        cwd=folder,
        env={
            **outer,
            "PATH": path,
            "CI": "1",
            "NO_COLOR": "1",
            "VICINAL_URL": served.running.origin,
            "VICINAL_TOKEN": served.running.token,
            **variables,
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
    )


def dimensions(ran: "subprocess.CompletedProcess[str]") -> int:
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "[vicinal]" not in ran.stderr
    found: int = json.loads(ran.stdout.splitlines()[-1])["dimensions"]
    return found


VICINAL = (sys.executable, "-m", "vicinal")
ALONE = {"NODE_OPTIONS": f'--require "{HOOK}"', "CLOUDFLARE_CF_FETCH_ENABLED": "false"}


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_program_has_its_bindings_with_the_hook_alone(
    served: Served, project: Path, runner: str
) -> None:
    if not (project / "node_modules" / "tsx").exists() and not runner.startswith("node program"):
        pytest.skip("this project has no other runner than node")

    assert dimensions(run(served, project, *runner.split(), **ALONE)) == 5


def test_an_unchanged_program_has_its_bindings_in_vicinal_run(
    served: Served, project: Path
) -> None:
    for script, expected in (("unchanged.mjs", 5), ("environment.mjs", 7)):
        command = (*VICINAL, "run", "--", "node", script)

        assert dimensions(run(served, project, *command)) == expected, script


def test_the_account_of_the_hook_alone_is_what_the_program_has_read(
    served: Served, project: Path
) -> None:
    assert dimensions(run(served, project, "node", "environment.mjs", **ALONE)) == 7
    prod = {**ALONE, "CLOUDFLARE_ENV": "prod"}
    assert dimensions(run(served, project, "node", "program.mjs", **prod)) == 7
    said = {**prod, "VICINAL_ACCOUNT": ACCOUNT}
    assert dimensions(run(served, project, "node", "environment.mjs", **said)) == 5


def test_wranglers_commands_are_in_the_same_account(served: Served, project: Path) -> None:
    for options, expected in (((), 5), (("-e", "prod"), 7)):
        ran = run(
            served,
            project,
            *(*VICINAL, "wrangler", "--", "vectorize", "get", "docs", *options),
        )
        assert ran.returncode == 0, ran.stderr
        assert str(expected) in ran.stdout

    ran = run(served, project, *VICINAL, "query", "docs", "--vector", "1,2,3,4,5")
    assert ran.returncode == 0, ran.stderr


def test_a_wrong_token_is_one_line_and_no_trace(served: Served, project: Path) -> None:
    for command in (("vectorize", "list"), ("whoami",)):
        ran = run(served, project, *(*VICINAL, "wrangler", "--", *command), VICINAL_TOKEN="wrong")
        said = ran.stdout + ran.stderr

        assert ran.returncode == 1
        assert "the token is not known" in said
        assert "    at " not in said
        assert "error handler" not in said


def test_wrangler_alone_understands_what_it_is_told_of_a_wrong_token(
    served: Served, project: Path
) -> None:
    """Its error handler asks what the token is and whose; newer ones ask for accounts then."""
    base = {
        "CLOUDFLARE_API_BASE_URL": served.running.base_url,
        "CLOUDFLARE_API_TOKEN": "wrong",
        "WRANGLER_SEND_METRICS": "false",
    }
    ran = run(served, project, "wrangler", "vectorize", "list", **base)
    said = ran.stdout + ran.stderr

    assert ran.returncode == 1
    assert "the token is not known" in said
    assert "(/user/tokens/verify) failed" not in said
    assert "(/user) failed" not in said


@pytest.mark.parametrize("command", [("vectorize", "list"), ("types",), ("--help",)])
def test_a_command_of_wranglers_that_runs_no_worker_is_not_complained_of(
    served: Served, project: Path, command: tuple[str, ...]
) -> None:
    ran = run(served, project, *VICINAL, "wrangler", "--", *command)

    assert ran.returncode == 0, ran.stderr
    assert "[vicinal]" not in ran.stdout + ran.stderr

"""The global set-up for Vitest starts a server, or uses the one that is named, and cleans up.

`tests/examples` uses it in Vitest; here a script plays Vitest's part, to look behind it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.clients.conftest import Served
from tests.support.installed import node
from vicinal.cli.workers import HOOK

pytestmark = pytest.mark.node

ENDS_WITHIN_S = 120

SCRIPT = """
const [folder, options] = process.argv.slice(2);
const { vicinal } = await import(`${folder}/vitest.mjs`);
const { reset, settled } = await import(`${folder}/testing.mjs`);
const told = {};
let server;
const given = JSON.parse(options);
const stop = await vicinal(given)({ provide: (key, value) => (server = { key, ...value }) });
const index = async (path, body) => {
  const answer = await fetch(
    `${server.url}/client/v4/accounts/${server.account}/vectorize/v2/indexes/docs${path}`,
    {
      method: body ? "POST" : "GET",
      headers: { authorization: `Bearer ${server.token}` },
      body: body && JSON.stringify(body),
    },
  );
  return (await answer.json()).result;
};
const binding = { describe: () => index("/info") };
const vectors = [...Array(250).keys()].map((number) => ({ id: `${number}`, values: [1, number] }));
await settled(binding, await index("/upsert", { vectors }));
told.provided = server;
told.environment = process.env.VICINAL_URL;
told.properties = (await index("/metadata_index/list")).metadataIndexes;
told.stored = (await index("/info")).vectorCount;
await reset(server);
told.left = (await index("/info")).vectorCount;
await settled(binding, { mutationId: "never" }, 50).catch((error) => (told.late = error.message));
await stop();
told.after = process.env.VICINAL_URL ?? null;
console.log(JSON.stringify(told));
"""

INDEXES = {
    "docs": {"dimensions": 2, "metric": "cosine", "metadataIndexes": {"n": "number"}},
}


def run(
    tmp_path: Path, options: object, variables: dict[str, str]
) -> "subprocess.CompletedProcess[str]":
    script = tmp_path / "script.mjs"
    script.write_text(SCRIPT)
    outer = {name: each for name, each in os.environ.items() if not name.startswith("VICINAL_")}
    return subprocess.run(
        [node(), str(script), str(HOOK.parent), json.dumps(options)],
        env={**outer, **variables},
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
    )


def told(ran: "subprocess.CompletedProcess[str]") -> Any:
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


def test_a_server_runs_for_as_long_as_the_tests(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vicinal"]

    said = told(run(tmp_path, {"indexes": INDEXES, "command": command}, {}))

    provided = said["provided"]
    assert provided["key"] == "vicinal"
    assert provided["indexes"] == ["docs"]
    assert said["environment"] == provided["url"]
    assert said["properties"] == [{"propertyName": "n", "indexType": "number"}]
    assert (said["stored"], said["left"]) == (250, 0)
    assert "not visible after 50 ms" in said["late"]
    assert said["after"] is None
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{provided['url']}/healthz", trust_env=False, timeout=60)


def test_a_server_that_is_named_is_used_and_left_as_it_was(served: Served, tmp_path: Path) -> None:
    server = served.running
    variables = {"VICINAL_URL": server.origin, "VICINAL_TOKEN": server.token}

    said = told(run(tmp_path, {"indexes": INDEXES, "command": ["no-such-program"]}, variables))

    assert said["provided"]["url"] == said["after"] == server.origin
    account = said["provided"]["account"]
    assert account.startswith("vitest-")
    left = httpx.get(
        f"{server.base_url}/accounts/{account}/vectorize/v2/indexes",
        headers={"Authorization": f"Bearer {server.token}"},
        trust_env=False,
        timeout=60,
    )
    assert left.json()["result"] == []


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    ran = run(tmp_path, {"command": ["no-such-program"]}, {})

    assert ran.returncode != 0
    assert "The Vicinal server did not start: no-such-program could not be started" in ran.stderr


def test_a_server_that_ends_at_once_says_why(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vicinal"]

    ran = run(tmp_path, {"command": command}, {"VICINAL_LIMITS": "none-such"})

    assert ran.returncode != 0
    assert "ended with status 1" in ran.stderr
    assert "none-such" in ran.stderr


def test_an_index_that_cannot_be_is_refused_with_its_code(tmp_path: Path) -> None:
    options = {
        "command": [sys.executable, "-m", "vicinal"],
        "indexes": {"docs": {"dimensions": 2, "metric": "taxicab"}},
    }

    ran = run(tmp_path, options, {})

    assert ran.returncode != 0
    assert "taxicab" in ran.stderr
    assert "[code: 40026]" in ran.stderr

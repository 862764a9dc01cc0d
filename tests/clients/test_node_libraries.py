"""JavaScript libraries speak to a server: over REST, and through the bindings of a Worker.

Each script uses one library by what it offers its users and prints what it got. The server is
the whole process, with a real model. Libraries that want bindings get those of wrangler's
getPlatformProxy, which the hook points at the server.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cloudflare import Cloudflare

from tests.support.installed import node_project
from tests.support.models import MINILM
from tests.support.workers import ENVIRONMENTS, node_path
from vicinal.cli.client import Target
from vicinal.cli.workers import environment
from vicinal.pytest_plugin import VicinalServer

pytestmark = [pytest.mark.node, pytest.mark.clients, pytest.mark.usefixtures("minilm")]

SCRIPTS = Path(__file__).parent / "libraries"
ENDS_WITHIN_S = 180

CONFIGURATION = {
    "name": "app",
    "compatibility_date": "2026-04-01",
    "vectorize": [{"binding": "VECTORIZE", "index_name": "library"}],
    "ai": {"binding": "AI"},
}


def said(server: VicinalServer, folder: Path, script: str) -> Any:
    """Run a script in a project of its own with a server, and return what it printed."""
    installed = node_project(ENVIRONMENTS / "libraries" / "package.json")
    (folder / script).write_bytes((SCRIPTS / script).read_bytes())
    (folder / "wrangler.json").write_text(json.dumps(CONFIGURATION))
    (folder / "node_modules").symlink_to(installed / "node_modules")
    target = Target(server.url, server.token, server.account)
    outer = {name: each for name, each in os.environ.items() if name != "NODE_OPTIONS"}
    ran = subprocess.run(
        ["node", script],
        cwd=folder,
        env={
            **environment(target, outer),
            **server.environment,
            "PATH": node_path(installed),
            "MODEL": MINILM,
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout.splitlines()[-1])


def make_index(server: VicinalServer) -> None:
    with Cloudflare(base_url=server.base_url, api_token=server.token) as client:
        indexes = client.vectorize.indexes
        config = {"dimensions": 384, "metric": "cosine"}
        indexes.create(account_id=server.account, name="library", config=config)  # type: ignore[arg-type]  # as users write it
        indexes.metadata_index.create(
            "library", account_id=server.account, property_name="shelf", index_type="number"
        )


def test_the_official_sdk(vicinal_server: VicinalServer, tmp_path: Path) -> None:
    told = said(vicinal_server, tmp_path, "npm_sdk.mjs")

    assert told["created"]["config"] == {"dimensions": 3, "metric": "euclidean"}
    assert told["count"] == 6
    assert told["found"]["matches"] == [
        {"id": "string", "score": 1, "metadata": {"n": 1}},
        {"id": "buffer", "score": 2, "metadata": {"n": 2}},
    ]
    assert [match["id"] for match in told["filtered"]["matches"]] == ["buffer"]
    assert told["got"] == [{"id": "string", "values": [1, 0, 0], "metadata": {"n": 1}}]
    assert (told["listed"]["count"], told["listed"]["totalCount"]) == (2, 6)
    assert told["listed"]["isTruncated"] is True
    assert told["left"] == 4
    assert told["embedded"]["shape"] == [2, 384]
    assert told["refused"] == [
        ["NotFoundError", 404, 3000],
        ["BadRequestError", 400, 3002],
        ["BadRequestError", 400, 40012],
        ["AuthenticationError", 401, 9106],
    ]
    assert told["names"] == ["docs"]


def test_mastras_vector_store(vicinal_server: VicinalServer, tmp_path: Path) -> None:
    told = said(vicinal_server, tmp_path, "mastra.mjs")

    assert told["ids"] == ["x", "y", "z"]
    assert told["stats"] == {"dimension": 3, "count": 3, "metric": "cosine"}
    assert [each["id"] for each in told["found"]] == ["x", "y"]
    assert told["found"][0]["metadata"] == {"kind": "a"}
    assert told["found"][0]["vector"] == [1, 0, 0]
    assert [each["id"] for each in told["filtered"]] == ["y", "z"]
    assert told["indexes"] == ["memory"]
    assert told["left"] == []


def test_langchains_store_on_the_bindings(vicinal_server: VicinalServer, tmp_path: Path) -> None:
    make_index(vicinal_server)

    told = said(vicinal_server, tmp_path, "langchain.mjs")

    (first, score), (_, second_score) = told["found"]
    assert told["ids"] == ["a", "b", "c"]
    assert first["pageContent"] == "How to reset a forgotten password"
    assert score > second_score + 0.2
    assert sorted(each["pageContent"] for each in told["filtered"]) == [
        "Bananas ripen faster beside apples",
        "The cat sleeps on the warm roof",
    ]
    assert told["left"] == 2


def test_the_ai_sdk_on_the_binding(vicinal_server: VicinalServer, tmp_path: Path) -> None:
    told = said(vicinal_server, tmp_path, "workers_ai_provider.mjs")

    assert told["lengths"] == [384, 384, 384]
    assert told["similarities"][0] > told["similarities"][1] + 0.2

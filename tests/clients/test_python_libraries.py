"""Python libraries that speak to Cloudflare speak to a server, by what they offer their users.

They live in an environment of their own; each script uses one of them and prints what it got.
The server is the whole process, with a real model.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.installed import python_project
from tests.support.models import MINILM
from vicinal.pytest_plugin import VicinalServer

pytestmark = [pytest.mark.clients, pytest.mark.usefixtures("minilm")]

SCRIPTS = Path(__file__).parent / "python"
ENDS_WITHIN_S = 180


def said(server: VicinalServer, script: str, *arguments: str) -> Any:
    """Run a script with a server and return what it printed."""
    python = python_project(SCRIPTS / "requirements.txt")
    ran = subprocess.run(
        [str(python), str(SCRIPTS / script), *arguments],
        env={**server.environment, "MODEL": MINILM, "PATH": "", "HOME": str(python.parent)},
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout.splitlines()[-1])


def test_langchain_keeps_texts_and_finds_them_by_meaning(vicinal_server: VicinalServer) -> None:
    told = said(vicinal_server, "langchain_store.py")

    texts = [text for text, _, _ in told["found"]]
    assert told["ids"] == ["a", "b", "c"]
    assert texts[0] == "How to reset a forgotten password"
    assert told["found"][0][1]["shelf"] == 1
    assert told["found"][0][2] > told["found"][1][2] + 0.2
    assert told["narrowed"] == [
        "Bananas ripen faster beside apples",
        "The cat sleeps on the warm roof",
    ]
    assert told["by_id"] == ["Bananas ripen faster beside apples"]
    assert told["replaced"] == ["How to change an old password"]
    assert told["left"] == told["narrowed"]
    assert told["async"] == ["The cat sleeps on the warm roof"]
    assert told["metadata_indexes"] == []
    assert told["indexes"] == []


def test_llama_index_embeds(vicinal_server: VicinalServer) -> None:
    told = said(vicinal_server, "llama_index_embedding.py")

    assert len(told["one"]) == 384
    assert told["many"][0] == pytest.approx(told["one"], abs=1e-5)
    assert told["async"] == told["one"]
    assert told["query"] == pytest.approx(told["many"][1], abs=1e-5)


def test_openais_sdk_embeds_in_both_encodings(vicinal_server: VicinalServer) -> None:
    told = said(vicinal_server, "openai_sdk.py")

    assert [len(each) for each in told["packed"]] == [384, 384]
    assert told["places"] == [0, 1]
    assert told["model"] == MINILM
    assert told["tokens"] > 4
    assert told["plain"] == pytest.approx(told["packed"][0], abs=1e-5)
    assert told["async"] == pytest.approx(told["packed"][1], abs=1e-5)
    assert told["unknown_model"][0] == "BadRequestError"
    assert "@cf/none/such" in told["unknown_model"][1]
    assert told["wrong_token"][0] == "AuthenticationError"


def test_pydantic_ais_tools_store_and_search(vicinal_server: VicinalServer) -> None:
    from cloudflare import Cloudflare

    with Cloudflare(base_url=vicinal_server.base_url, api_token=vicinal_server.token) as client:
        client.vectorize.indexes.create(
            account_id=vicinal_server.account,
            name="library",
            config={"dimensions": 384, "metric": "cosine"},
        )

    embedded = said(vicinal_server, "pydantic_ai_toolset.py", "embed")
    stored = said(vicinal_server, "pydantic_ai_toolset.py", "store")
    found = said(vicinal_server, "pydantic_ai_toolset.py", "search")

    assert [len(each) for each in embedded] == [384]
    assert "Stored" in stored
    assert "How to reset a forgotten password" in found
    assert "manual" in found

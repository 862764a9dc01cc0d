"""The Python SDK 4.3.1, which can only send strings and knows no list of vectors."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import Served
from tests.support.installed import python_with

SCRIPT = Path(__file__).with_name("old_python_sdk.py")
VERSION = "4.3.1"


@pytest.fixture(scope="module")
def seen(served: Served) -> dict[str, Any]:
    """What each step of the script returned."""
    running = served.running
    arguments = (running.base_url, running.token, running.account, "old-sdk", served.model)
    ran = subprocess.run(
        [str(python_with("cloudflare", VERSION)), str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    seen = json.loads(ran.stdout)
    assert isinstance(seen, dict)
    return seen


def test_it_is_the_old_version(seen: dict[str, Any]) -> None:
    assert seen["version"] == VERSION


def test_an_index_is_created_and_listed(served: Served, seen: dict[str, Any]) -> None:
    assert seen["created"] == ["old-sdk", "old", 3, "cosine"]
    assert seen["listed"] is True
    assert seen["info"] == [3, 1]


def test_a_string_of_ndjson_is_stored(seen: dict[str, Any]) -> None:
    a = {"id": "a", "values": [1.0, 0.0, 0.0], "namespace": "n", "metadata": {"k": 1}}

    assert seen["got"] == [a]
    assert seen["found"] == [
        ["a", 1.0, [1.0, 0.0, 0.0], {"k": 1}, "n"],
        ["b", 0.0, [0.0, 1.0, 0.0], None, None],
    ]


def test_a_filter_works_once_its_property_is_indexed(seen: dict[str, Any]) -> None:
    assert seen["metadata_indexes"] == [["k", "number"]]
    assert seen["filtered"] == ["a"]


def test_deleted_vectors_are_gone(seen: dict[str, Any]) -> None:
    assert seen["got_after_delete"] == []


def test_errors_are_the_classes_that_their_status_stands_for(seen: dict[str, Any]) -> None:
    assert seen["duplicate"] == {"class": "BadRequestError", "status": 400}
    assert seen["absent"] == {"class": "NotFoundError", "status": 404}
    assert seen["gone"] == {"class": "NotFoundError", "status": 404}


def test_a_model_is_run_by_its_plain_path(served: Served, seen: dict[str, Any]) -> None:
    assert seen["embedded"] == [2, served.model_dimensions]

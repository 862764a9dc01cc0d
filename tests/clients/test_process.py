"""The whole process: stopped as a service manager does, started again, tokens changed beside it."""

import json
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.support.server import Running, start, stop
from vicinal.tokens import Permission, Tokens


def ask(
    running: Running, method: str, path: str, body: object = None, *, token: str | None = None
) -> tuple[int, Any]:
    """Make one request with nothing but the standard library."""
    request = urllib.request.Request(
        f"{running.base_url}/accounts/acme/vectorize/v2/indexes{path}",
        data=None if body is None else json.dumps(body).encode(),
        method=method,
        headers={"authorization": f"Bearer {token or running.token}", "prefer": "wait=30"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)["result"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)["errors"][0]["code"]


def test_what_was_written_is_there_after_a_stop_and_a_start(tmp_path: Path) -> None:
    running = start(tmp_path)
    try:
        config = {"dimensions": 2, "metric": "cosine"}
        assert ask(running, "POST", "", {"name": "docs", "config": config})[0] == 200
        assert ask(running, "POST", "/docs/upsert", {"id": "a", "values": [1, 0]})[0] == 200
        before = ask(running, "GET", "/docs/info")
    finally:
        stop(running)
    assert running.process is not None
    assert running.process.returncode == 0

    again = start(tmp_path)
    try:
        status, found = ask(again, "POST", "/docs/query", {"vector": [1, 0]})
        assert (status, found) == (200, {"count": 1, "matches": [{"id": "a", "score": 1.0}]})
        # When it was applied is when this process applied it.
        assert ask(again, "GET", "/docs/info")[1] | {"processedUpToDatetime": None} == (
            before[1] | {"processedUpToDatetime": None}
        )
    finally:
        stop(again)


def test_tokens_made_and_revoked_beside_a_running_server_count_at_once(tmp_path: Path) -> None:
    running = start(tmp_path)
    try:
        with closing(Tokens(tmp_path / "data" / "tokens.db")) as tokens:
            token, secret = tokens.create("late", Permission.READ)
            assert ask(running, "GET", "", token=secret) == (200, [])
            assert ask(running, "POST", "", {}, token=secret) == (403, 10000)
            tokens.revoke(token.id)
            assert ask(running, "GET", "", token=secret)[0] == 401
        assert ask(running, "GET", "", token="never made")[0] == 401
    finally:
        stop(running)


def test_the_log_is_json_when_asked_for_and_has_no_token(tmp_path: Path) -> None:
    running = start(tmp_path, arguments=("--log-format", "json"))
    try:
        ask(running, "GET", "/nope")
    finally:
        stop(running)

    written = (tmp_path / "server.log").read_text()
    events = [json.loads(line) for line in written.splitlines() if line.startswith("{")]
    answered = [event for event in events if event.get("status") == 404]
    assert len(answered) == 1
    assert answered[0]["path"].endswith("/indexes/{index_name}")
    assert running.token not in written

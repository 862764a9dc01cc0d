"""curl with --http2, which asks a server on http:// to change its protocol."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.clients.conftest import Served

CURL = shutil.which("curl")


def can_upgrade() -> bool:
    if CURL is None:
        return False
    version = subprocess.run([CURL, "--version"], capture_output=True, text=True, check=True)
    return " HTTP2 " in version.stdout


@pytest.mark.skipif(not can_upgrade(), reason="no curl with HTTP/2: --http2 is NOT tested")
@pytest.mark.parametrize("count", [1, 2_000, 5_000])
@pytest.mark.parametrize("option", [(), ("-H", "Transfer-Encoding: chunked")])
def test_what_curl_sends_with_an_upgrade_to_http2_is_stored(
    served: Served, name: str, tmp_path: Path, count: int, option: tuple[str, ...]
) -> None:
    running = served.running
    indexes = f"{running.base_url}/accounts/{running.account}/vectorize/v2/indexes"
    body = tmp_path / "body"

    def post(path: str, text: str, *options: str) -> object:
        body.write_text(text)
        done = subprocess.run(
            [
                *(str(CURL), "-q", "--silent", "--show-error", "--fail-with-body", "--http2"),
                *("--noproxy", "*", "-H", f"Authorization: Bearer {running.token}"),
                *("-H", "Prefer: wait=30", *options, "--data-binary", f"@{body}"),
                f"{indexes}{path}",
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)["result"]

    post("", json.dumps({"name": name, "config": {"dimensions": 2, "metric": "cosine"}}))
    filler = {"text": "x" * 300}
    lines = [
        json.dumps({"id": str(number), "values": [1, number], "metadata": filler})
        for number in range(count)
    ]
    post(f"/{name}/upsert", "\n".join(lines), *option)

    ids = ["0", str(count - 1)]
    found = post(f"/{name}/get_by_ids", json.dumps({"ids": ids}))
    assert isinstance(found, list)
    assert {each["id"] for each in found} == set(ids)

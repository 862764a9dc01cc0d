"""The JDK's own HTTP client, which asks every http:// server to change to HTTP/2."""

import json
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.clients.conftest import Served

CLIENT = Path(__file__).parent / "java" / "Client.java"

JAVAC, JAVA = shutil.which("javac"), shutil.which("java")


@pytest.mark.skipif(
    JAVAC is None or JAVA is None,
    reason="no JDK: Java's HTTP client is NOT tested (Debian: default-jdk-headless)",
)
def test_all_that_a_java_program_writes_is_stored_and_found(served: Served, tmp_path: Path) -> None:
    running = served.running
    subprocess.run([str(JAVAC), "-d", str(tmp_path), str(CLIENT)], check=True, timeout=300)
    indexes = f"{running.base_url}/accounts/{running.account}/vectorize/v2/indexes"
    done = subprocess.run(
        [str(JAVA), "-cp", str(tmp_path), "Client", indexes, running.token],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr

    answers = [line.split(" ", 2) for line in done.stdout.splitlines()]
    assert [(what, status) for what, status, _ in answers if status != "200"] == []
    results = [(what, json.loads(text)["result"]) for what, _, text in answers]
    # The first vector lies on the query, each that came later further away.
    assert [result["matches"][0]["id"] for what, result in results if what == "query"] == ["0"] * 4
    assert {each["id"] for each in results[-1][1]} == {"9999", "4099", "5009"}
    assert [what for what, _ in results].count("upsert") == 3
    headers = {"Authorization": f"Bearer {running.token}"}
    info = httpx.get(f"{indexes}/java/info", headers=headers, trust_env=False, timeout=60).json()
    assert info["result"]["vectorCount"] == 3 + 4_000 + 10 + 4_000

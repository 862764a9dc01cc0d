"""A slow query, a disk that is full, one that fails, and full queues: each made, and seen in the
dashboard, in the metrics and in the log of a server as a user starts it.
"""

import json
import resource
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.browser.dashboard import INDEXES, Watched, ask
from tests.support import server as servers
from tests.support.server import Running
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator

MODEL = "@cf/baai/bge-small-en-v1.5"
EMBED = f"/client/v4/accounts/local/ai/run/{MODEL}"
DISK_BYTES = 8 << 20
FILE_BYTES_MAX = 256 << 10
REQUESTS_MAX = 12
EMBEDDINGS_MAX = 2
OPTIONAL_DISK = 'mount -t tmpfs -o size="$1" small data && shift && exec "$@"'


@dataclass(frozen=True)
class Troubled:
    """A server with little of everything, and its log."""

    running: Running
    log_path: Path
    is_small: bool

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def metric(self, name: str, **labels: str) -> float:
        """Return a sample, 0 where there is none."""
        headers = {"authorization": f"Bearer {self.running.token}"}
        with urlopen(
            Request(f"{self.running.origin}/metrics", None, headers), timeout=60
        ) as answer:
            text = answer.read().decode()
        samples = (
            sample
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and sample.labels == labels
        )
        return next((sample.value for sample in samples), 0.0)

    def ask(self, path: str, body: object = None) -> Any:
        return ask(self.running.origin, path, body, token=self.running.token)

    def refusal(self, path: str, body: object) -> int:
        """Ask for what is refused, and return the status."""
        with pytest.raises(HTTPError) as refused:
            self.ask(path, body)
        refused.value.close()
        return refused.value.code

    @contextmanager
    def unanswered(self, path: str, body: bytes, lacking: int = 0) -> Iterator[None]:
        """Send a request whose answer does not come, `lacking` bytes less than the whole."""
        head = (
            f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            f"authorization: Bearer {self.running.token}\r\n"
            f"content-length: {len(body) + lacking}\r\n\r\n"
        )
        with self.running.connect() as connection:
            connection.sendall(head.encode() + body)
            yield


@pytest.fixture(scope="module")
def silent() -> Iterator[socket.socket]:
    """The socket of a service that takes connections and answers nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture(scope="module")
def troubled(
    tmp_path_factory: pytest.TempPathFactory, browser: "Browser", silent: socket.socket
) -> Iterator[Troubled]:
    folder = tmp_path_factory.mktemp("troubles")
    (folder / "data").mkdir(mode=0o700)
    # A disk of its own, seen by the server alone, where this machine lets anybody mount one.
    small = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", OPTIONAL_DISK, "sh")
    is_small = can_run([*small, str(DISK_BYTES), "true"], folder)
    settings = {
        "VICINAL_EMBEDDING_URL": f"http://127.0.0.1:{silent.getsockname()[1]}/v1",
        "VICINAL_EMBEDDING_QUEUE_MAX": str(EMBEDDINGS_MAX),
        "VICINAL_REQUESTS_MAX": str(REQUESTS_MAX),
        "VICINAL_SLOW_QUERY_S": "1e-9",
        "VICINAL_SHUTDOWN_TIMEOUT_S": "1",
    }
    around = (*small, str(DISK_BYTES)) if is_small else ()
    with servers.in_process(folder, environment=settings, around=around) as running:
        yield Troubled(running, folder / "server.log", is_small)


def can_run(command: list[str], folder: Path) -> bool:
    try:
        return subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.fixture
def watched(troubled: Troubled, browser: "Browser") -> Iterator[Watched]:
    with closing(Watched(browser, troubled.running.origin)) as watched:
        page = watched.open("indexes")
        page.get_by_label("Token").fill(troubled.running.token)
        page.get_by_role("button", name="Open").click()
        page.get_by_role("heading", name="Indexes").wait_for()
        yield watched


def make(troubled: Troubled, name: str) -> str:
    """Make an index with a vector, and return its path."""
    ask_for = {"name": name, "config": {"dimensions": 4, "metric": "cosine"}}
    troubled.ask(INDEXES, ask_for)
    troubled.ask(f"{INDEXES}/{name}/upsert", vectors(1, 10))
    return f"{INDEXES}/{name}"


def vectors(count: int, text_bytes: int) -> bytes:
    metadata = {"text": "x" * text_bytes}
    records = [
        {"id": f"v{number}", "values": [1, 2, 3, number], "metadata": metadata}
        for number in range(count)
    ]
    return "\n".join(map(json.dumps, records)).encode()


def row(watched: Watched, label: str, text: str) -> "Locator":
    table = watched.page.get_by_role("region", name=label).locator("tbody tr")
    return table.filter(has_text=text).first


def tile(watched: Watched, label: str) -> "Locator":
    return watched.page.locator(".tile").filter(has_text=label).locator("b")


def test_a_slow_query_is_seen(troubled: Troubled, watched: Watched) -> None:
    path = make(troubled, "slow")
    troubled.ask(f"{path}/query", {"vector": [1, 2, 3, 4], "topK": 3})

    watched.open("operations?show=slow")
    row(watched, "Slow queries", "slow").wait_for()

    assert troubled.metric("vicinal_slow_queries_total") == 1
    assert "slow query" in troubled.log()


def test_full_queues_are_seen(troubled: Troubled, watched: Watched, silent: socket.socket) -> None:
    with ExitStack() as waiting:
        for _ in range(EMBEDDINGS_MAX):
            waiting.enter_context(troubled.unanswered(EMBED, b'{"text":["a"]}'))
        wait_until(lambda: troubled.metric("vicinal_queue_requests", queue="embed") == 2)
        assert troubled.refusal(EMBED, {"text": ["a"]}) == 429
        watched.open("operations")
        row(watched, "Queues", "embed").locator(".bad").wait_for()
        row(watched, "Refusals", "overloaded_embed").wait_for()

        for _ in range(REQUESTS_MAX - EMBEDDINGS_MAX):
            waiting.enter_context(troubled.unanswered(INDEXES, b"{", lacking=9))
        wait_until(lambda: troubled.refusal(INDEXES, b"{}") == 429)
        watched.page.reload()  # also who comes now sees it
        row(watched, "Queues", "requests").locator(".bad").wait_for()
        row(watched, "Refusals", "overloaded_requests").wait_for()
        silent.close()  # or the server would wait for its answers until it has stopped

    assert troubled.metric("vicinal_refusals_total", cause="overloaded_embed") == 1
    assert troubled.metric("vicinal_refusals_total", cause="overloaded_requests") >= 1
    assert "2 requests wait for embed, the most there may be" in troubled.log()
    assert "12 requests are under way, the most there may be" in troubled.log()


def test_a_disk_that_fails_is_seen(troubled: Troubled, watched: Watched) -> None:
    path = make(troubled, "failing")
    process = troubled.running.process
    assert process is not None
    # Any write beyond this fails, as on a disk that has gone.
    before = resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (FILE_BYTES_MAX, -1))
    try:
        assert troubled.refusal(f"{path}/upsert", vectors(300, 2_000)) == 503
    finally:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, before)

    watched.open("indexes")
    row(watched, "Indexes", "failing").get_by_text("takes no writes").wait_for()
    watched.open("operations")
    tile(watched, "failed indexes").get_by_text("1", exact=True).wait_for()
    row(watched, "Refusals", "unavailable").wait_for()
    assert troubled.metric("vicinal_index_failed", account="local", index="failing") == 1
    assert troubled.metric("vicinal_commit_failures_total") == 1
    assert "index 'failing'" in troubled.log()


def test_a_full_disk_is_seen(troubled: Troubled, watched: Watched) -> None:
    if not troubled.is_small:
        pytest.skip("NEEDS A SMALL DISK: this machine lets nobody mount one by unshare")
    path = make(troubled, "full")
    statuses: list[int] = []
    while not statuses:
        try:
            troubled.ask(f"{path}/insert", vectors(300, 8_000))
        except HTTPError as refused:
            statuses.append(refused.code)
            refused.close()

    watched.open("operations")
    row(watched, "Refusals", "resource_exhausted").wait_for()
    free = tile(watched, "free on disk").inner_text()
    assert statuses == [503]
    assert "GiB" not in free
    assert troubled.metric("vicinal_disk_free_bytes") < DISK_BYTES / 2
    assert troubled.metric("vicinal_refusals_total", cause="resource_exhausted") >= 1
    assert "a write to index 'full' was refused" in troubled.log()

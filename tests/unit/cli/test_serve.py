"""``vicinal serve`` starts or says why not, prints lines that are true, and stops cleanly."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import cloudflare
import httpx
import pytest
from click.testing import CliRunner, Result

from tests.support.ports import free_port
from tests.support.server import ONE_THREAD, STOPPED_WITHIN_S, in_process
from tests.support.waiting import wait_until
from tests.unit.test_settings import KUBERNETES
from vicinal.cli import main

LAST_LINE = "  wrangler "
DEMO_DONE = "Ask your own: "


@dataclass(slots=True)
class Served:
    """A server process that has printed its lines."""

    process: subprocess.Popen[str]
    printed: str
    errors: Path

    @property
    def origin(self) -> str:
        found = re.search(r"at (http://\S+)", self.printed)
        assert found is not None, self.printed
        return found[1]

    def line(self, label: str) -> str:
        """Return what is printed after a label."""
        found = re.search(rf"^  {label} +(.*)$", self.printed, re.MULTILINE)
        assert found is not None, self.printed
        return found[1]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(STOPPED_WITHIN_S)


@contextmanager
def served(
    folder: Path, *arguments: str, until: str = LAST_LINE, **environment: str
) -> Iterator[Served]:
    """Run ``vicinal serve`` on a free port until it has printed a line that begins so."""
    folder.mkdir(exist_ok=True)
    outer = {name: value for name, value in os.environ.items() if not name.startswith("VICINAL_")}
    errors = folder / "errors.log"
    with errors.open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "vicinal", "serve", "--port", "0", *arguments],
            cwd=folder,
            env=outer | ONE_THREAD | environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout is not None
    try:
        printed = ""
        for line in process.stdout:
            printed += line
            if line.startswith(until):
                break
        else:
            raise AssertionError(f"it ended: {printed} {errors.read_text()}")
        yield Served(process, printed, errors)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="module")
def demo(minilm: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """What ``make run`` starts, with the real model."""
    with served(tmp_path_factory.mktemp("demo"), "--demo", until=DEMO_DONE) as server:
        yield server


def test_the_demo_prints_the_answer_of_the_tutorial(demo: Served) -> None:
    found = re.search(r'"orange cloud" finds story (\d), "(.*)" \(score ([\d.]+)\)', demo.printed)

    assert found is not None, demo.printed
    assert found[1] == "1"
    assert found[2] == "This is a story about an orange cloud"
    assert 0.7 < float(found[3]) < 0.8  # MiniLM; the tutorial's larger model gives 0.897


def test_the_demo_shows_a_filter_at_work(demo: Served) -> None:
    _, _, shown = demo.printed.partition('with filter {"year":{"$lt":1980}}\n')

    years = [int(year) for year in re.findall(r" (\d{4}) ", shown)]

    assert len(years) == 3
    assert max(years) < 1980


def test_the_requests_of_the_demo_are_not_logged_but_later_ones_are(demo: Served) -> None:
    assert "/ai/run/" not in demo.errors.read_text()

    httpx.get(f"{demo.origin}/healthz", timeout=60)
    httpx.get(
        f"{demo.origin}/readyz", timeout=60
    )  # a request is logged before the next one is answered

    assert "GET /healthz 200" in demo.errors.read_text()


def test_the_browser_line_shows_the_dashboard(demo: Served) -> None:
    answer = httpx.get(demo.line("browser"), timeout=60)

    assert answer.status_code == 200
    assert "<title>Vicinal</title>" in answer.text


def test_the_curl_line_runs(demo: Served) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("no curl on this machine")
    command = shlex.split(demo.line("curl"))

    answer = subprocess.run([*command, "--silent"], capture_output=True, check=True)

    assert {index["name"] for index in json.loads(answer.stdout)["result"]} == {
        "demo-stories",
        "demo-facts",
    }


def test_the_python_lines_run(demo: Served) -> None:
    first = demo.line("Python")
    _, _, rest = demo.printed.partition(first)
    second = rest.splitlines()[1].strip()
    names: dict[str, Any] = {"cloudflare": cloudflare, "os": os}

    exec(first, names)
    indexes = eval(second, names)

    assert {index.name for index in indexes} == {"demo-stories", "demo-facts"}


def test_the_wrangler_line_names_this_server(demo: Served) -> None:
    words = shlex.split(demo.line("wrangler"))

    assert words == [
        f"CLOUDFLARE_API_BASE_URL={demo.origin}/client/v4",
        "CLOUDFLARE_API_TOKEN=local",
        "CLOUDFLARE_ACCOUNT_ID=local",
        *("npx", "wrangler", "vectorize", "list"),
    ]


def test_the_worker_line_names_this_server(demo: Served) -> None:
    words = shlex.split(demo.line("Worker"))

    assert Path(words[0]).name == "vicinal"
    assert words[1:] == ["wrangler", "--url", demo.origin, "--", "dev"]


def test_the_line_to_ask_with_reaches_this_server(demo: Served) -> None:
    found = re.search(r"^Ask your own: (.*)$", demo.printed, re.MULTILINE)
    assert found is not None
    words = shlex.split(found[1])

    assert Path(words[0]).name == "vicinal"
    assert words[1:] == ["query", "demo-facts", "--url", demo.origin, "--text", "..."]


def test_with_a_token_the_lines_take_it_from_the_environment_and_never_show_it(
    tmp_path: Path,
) -> None:
    with served(tmp_path, VICINAL_TOKEN="hush-1,hush-2") as server:
        command = shlex.split(server.line("curl").replace("$VICINAL_TOKEN", "hush-2"))
        name, _, value = command[2].partition(": ")
        answers = [
            httpx.get(command[3], headers={name: value}, timeout=60).status_code,
            httpx.get(command[3], timeout=60).status_code,
        ]

        assert server.stop() == 0
        assert answers == [200, 401]
        assert 'api_token=os.environ["VICINAL_TOKEN"]' in server.printed
        assert "process.env.VICINAL_TOKEN" in server.printed
        assert "hush" not in server.printed + server.errors.read_text()


def test_the_demo_works_on_a_server_that_needs_tokens(tmp_path: Path) -> None:
    with served(tmp_path, "--demo", "--require-token", until=DEMO_DONE) as server:
        assert "finds story 1" in server.printed


def test_a_demo_without_a_model_leaves_the_server_serving(tmp_path: Path) -> None:
    with served(
        *(tmp_path, "--demo", "--no-allow-model-download"),
        VICINAL_MODELS=str(tmp_path / "none"),
        HF_HUB_CACHE=str(tmp_path / "none"),
    ) as server:
        with urlopen(f"{server.origin}/readyz", timeout=60) as answer:
            assert answer.status == 200

        wait_until(lambda: "the demo failed: " in server.errors.read_text())
        assert server.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_status_0_and_frees_the_folder(
    tmp_path: Path, number: signal.Signals
) -> None:
    with served(tmp_path) as server:
        create = httpx.post(
            f"{server.origin}/client/v4/accounts/local/vectorize/v2/indexes",
            json={"name": "docs", "config": {"dimensions": 3, "metric": "cosine"}},
            timeout=60,
        )
        assert create.status_code == 200
        assert server.stop(number) == 0
        assert "Traceback" not in server.errors.read_text()

    with served(tmp_path) as again:
        names = httpx.get(
            f"{again.origin}/client/v4/accounts/local/vectorize/v2/indexes", timeout=60
        ).json()
        assert [index["name"] for index in names["result"]] == ["docs"]


def test_a_request_under_way_is_finished_after_the_signal(tmp_path: Path) -> None:
    body = json.dumps({"name": "docs", "config": {"dimensions": 3, "metric": "cosine"}}).encode()
    with served(tmp_path) as server:
        port = int(server.origin.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(
                b"POST /client/v4/accounts/local/vectorize/v2/indexes HTTP/1.1\r\nHost: [::1]\r\n"
                b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body)
            )
            assert connection.recv(1000).startswith(b"HTTP/1.1 100")  # it is being read
            server.process.send_signal(signal.SIGTERM)
            wait_until_refused(port)
            connection.sendall(body)

            assert connection.recv(1000).startswith(b"HTTP/1.1 200")

        assert server.process.wait(STOPPED_WITHIN_S) == 0


def wait_until_refused(port: int) -> None:
    """Connect until nobody listens any more; each attempt waits for the server by itself."""
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
                connection.recv(1)
        except ConnectionError:
            return


def test_json_logs_are_one_object_a_line(tmp_path: Path) -> None:
    with served(tmp_path, "--log-format", "json") as server:
        httpx.get(f"{server.origin}/healthz", timeout=60)
        server.stop()

        events = [json.loads(line) for line in server.errors.read_text().splitlines()]

    paths = [event.get("path") for event in events if event["logger"] == "vicinal.access"]
    assert paths == ["/healthz"]


def test_a_deprecated_flag_is_obeyed_and_warned_about_in_the_log(tmp_path: Path) -> None:
    with served(tmp_path, "--log-format", "json", "--tail-rows-max", "200") as server:
        assert server.stop() == 0
        events = [json.loads(line) for line in server.errors.read_text().splitlines()]

    assert [event["message"] for event in events if event["level"] == "warning"] == [
        "--tail-rows-max is deprecated; the setting's name is memtable_rows_max"
    ]
    assert "tail-rows-max" not in CliRunner().invoke(main, ["serve", "--help"]).stdout


def test_quiet_prints_nothing(tmp_path: Path) -> None:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "vicinal", "serve", "--quiet", "--port", str(port)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        transport = httpx.HTTPTransport(retries=20)  # with a growing pause before each
        with httpx.Client(transport=transport, timeout=60) as client:
            assert client.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
        process.terminate()
        printed, _ = process.communicate(timeout=STOPPED_WITHIN_S)
        assert printed == b""
    finally:
        process.kill()
        process.wait()


def refused(*arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """Run ``vicinal serve`` where it cannot start; return its one sentence."""
    result: Result = CliRunner().invoke(main, ["serve", *arguments], env=environment)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.fixture
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("_empty_folder")
class TestWhatKeepsItFromStarting:
    """Each is one sentence that names the obstacle and, where there is one, the way out."""

    def test_a_port_in_use(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = str(other.getsockname()[1])

            assert f"port {port} of 127.0.0.1 is in use" in refused("--port", port)
            assert not Path("vicinal-data").exists()

    def test_a_data_folder_in_use(self, tmp_path: Path) -> None:
        import vicinal

        with vicinal.open(tmp_path / "data"):
            sentence = refused("--port", "0", "--data", "data")

        assert "data is in use by another process" in sentence

    def test_a_data_folder_that_is_a_file(self) -> None:
        Path("file").touch()

        assert "file" in refused("--port", "0", "--data", "file")

    def test_a_public_address_without_a_token(self) -> None:
        sentence = refused("--host", "0.0.0.0", "--port", "0", "--data", "d")

        assert "no token exists" in sentence
        assert "vicinal token create NAME --data d" in sentence

    def test_a_host_that_is_no_address(self) -> None:
        assert "'no such host' is not an address" in refused("--host", "no such host")

    def test_a_bad_setting(self) -> None:
        assert "VICINAL_PORT: 'x'" in refused(environment={"VICINAL_PORT": "x"})


def test_a_public_address_with_a_token_is_served(tmp_path: Path) -> None:
    with served(tmp_path, "--host", "0.0.0.0", "--token", "hush") as server:
        assert server.origin.startswith("http://127.0.0.1:")
        url = f"{server.origin}/client/v4/accounts/local/vectorize/v2/indexes"

        assert httpx.get(url, timeout=60).status_code == 401
        assert (
            httpx.get(url, headers={"authorization": "Bearer hush"}, timeout=60).status_code == 200
        )


@pytest.mark.parametrize("command", ["serve", "doctor"])
def test_a_flag_that_cannot_be_is_a_command_line_that_cannot_be_understood(command: str) -> None:
    flag = CliRunner().invoke(main, [command, "--port", "many"])
    variable = CliRunner().invoke(main, [command], env={"VICINAL_LIMITS": "huge"})
    deprecated = CliRunner().invoke(main, ["serve", "--tail-rows-max", "1"])

    assert flag.exit_code == 2, flag.output
    assert "--port: 'many' is not a whole number" in flag.stderr
    assert deprecated.exit_code == 2
    assert variable.exit_code == 1
    assert "VICINAL_LIMITS" in variable.stderr


def test_a_server_starts_beside_a_kubernetes_service_of_its_name(tmp_path: Path) -> None:
    with in_process(tmp_path, environment=KUBERNETES) as server:
        assert urlopen(f"{server.origin}/readyz").status == 200

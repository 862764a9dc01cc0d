"""Servers to measure over HTTP, requests to them, and the load that wrk puts on them.

Each server is a process of its own on a free port of loopback; the load runs on the same
cores, as it does for a reader with one machine. The CPU of a server is read from the
system before and after.
"""

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import numpy as np

from benchmarks.contender import VICINAL, Contender, Failed, python_of
from benchmarks.measure import Floats, Memory, cpu_seconds, memory
from benchmarks.report import ROOT

INDEX = "/client/v4/accounts/local/vectorize/v2/indexes/benchmark"
DIGITS = 8
"""After the point, of numbers in bodies: about what a float32 needs."""

NDJSON = "application/x-ndjson"
JSON = "application/json"

QUIET_S = 2.0
QUIET_SHARE = 0.03  # of a core
_SETTLED_S = 300.0
_READY_S = 300.0
_STOP_S = 60.0
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def origin(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def cpu_seconds(self) -> float:
        """Return the CPU time it has used up to now."""
        return cpu_seconds(self.process.pid)

    def memory(self) -> Memory:
        """Return the memory it holds now."""
        return memory(self.process.pid)


@dataclass(frozen=True, slots=True)
class Load:
    """Latencies that wrk saw, and the CPU time of the server.

    Attributes:
        requests: Answered.
        seconds: That it went on.
        p50_ms: Median latency.
        p99_ms: 99th percentile of the latencies.
        errors: Connections that failed and answers that were not 2xx.
        cpu_us: CPU time of the server per request.
    """

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    errors: int
    cpu_us: float

    @property
    def per_second(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


@contextmanager
def vicinal(data: Path, *flags: str, contender: Contender = VICINAL) -> Iterator[Server]:
    """Run ``vicinal serve`` over a data folder, under the ``open`` limits."""
    command = [str(python_of(contender)), "-m", "vicinal", "serve", "--quiet", "--data", str(data),
               "--limits", "open", "--log-level", "warning", *flags]  # fmt: skip
    with _running(
        command, data.parent / "server.log", "/readyz", "--port", contender.checkout
    ) as server:
        yield server


@contextmanager
def floor(folder: Path) -> Iterator[Server]:
    """Run the server that only parses and answers (`benchmarks.floor`)."""
    with _running(
        [sys.executable, "-m", "benchmarks.floor"], folder / "floor.log", "/", None
    ) as server:
        yield server


@contextmanager
def chroma(contender: Contender, database: Path) -> Iterator[Server]:
    """Run Chroma's own server over a folder that its library has filled."""
    program = python_of(contender).parent / "chroma"
    command = [str(program), "run", "--path", str(database)]
    log = database.parent / "server.log"
    with _running(command, log, "/api/v2/heartbeat", "--port") as server:
        yield server


@contextmanager
def _running(
    command: Sequence[str], log: Path, ready: str, port_flag: str | None, checkout: Path = ROOT
) -> Iterator[Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*command, *([port_flag] if port_flag else []), str(port)],
            cwd=log.parent, env={**environment(), "PYTHONPATH": str(checkout)},
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        _wait(process, port, ready, log)
        yield Server(port, process)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def environment() -> dict[str, str]:
    """Return this process's environment without settings that a developer may have."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("VICINAL_") and name != "PYTHONDONTWRITEBYTECODE"
    }


def _wait(process: subprocess.Popen[bytes], port: int, path: str, log: Path) -> None:
    """Ask until the server answers.

    Raises:
        Failed: it ended, or took too long.
    """
    end = time.monotonic() + _READY_S
    while process.poll() is None and time.monotonic() < end:
        try:
            with Client(port) as client:
                if client.ask("GET", path)[0] == http.client.OK:
                    return
        except OSError:
            time.sleep(_POLL_S)
    raise Failed(f"the server did not start: {log.read_text(errors='replace')[-2000:]}")


class Client:
    """One connection that is kept open."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._connection.close()

    def ask(
        self, method: str, path: str, body: bytes | None = None, kind: str = JSON,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Any]:  # fmt: skip
        """Return status and answer: decoded, or as text where it is not JSON."""
        sent = {"Content-Type": kind, **(headers or {})}
        try:
            self._connection.request(method, path, body, sent)
            answer = self._connection.getresponse()
        except ConnectionError:  # servers close a connection that was idle for seconds
            self._connection.close()
            self._connection.request(method, path, body, sent)
            answer = self._connection.getresponse()
        raw = answer.read()
        try:
            return answer.status, json.loads(raw)
        except ValueError:
            return answer.status, raw.decode(errors="replace")

    def result(self, method: str, path: str, body: bytes | None = None, kind: str = JSON) -> Any:
        """Return the ``result`` of Vicinal's answer.

        Raises:
            Failed: the request was refused; says with what.
        """
        status, answer = self.ask(method, path, body, kind)
        if status != http.client.OK:
            raise Failed(f"{method} {path} was answered {status}: {answer}")
        return answer["result"]


def create_index(client: Client, dimensions: int, metric: str) -> None:
    """Create the index that `INDEX` names."""
    config = {"dimensions": dimensions, "metric": metric}
    body = msgspec.json.encode({"name": INDEX.rpartition("/")[2], "config": config})
    client.result("POST", INDEX.rpartition("/")[0], body)


def wait_until_visible(client: Client, mutation_id: str) -> None:
    """Wait until queries see a mutation that is the last one written."""
    while client.result("GET", f"{INDEX}/info")["processedUpToMutation"] != mutation_id:
        time.sleep(_POLL_S)


def settle(server: Server) -> None:
    """Wait until the server has nothing more to do in the background.

    That is longer than it takes an index to be idle, which is when it is compacted.
    """
    end = time.monotonic() + _SETTLED_S
    quiet = 0
    while quiet < 4 and time.monotonic() < end:
        before = server.cpu_seconds()
        time.sleep(QUIET_S)
        is_quiet = server.cpu_seconds() - before < QUIET_SHARE * QUIET_S
        quiet = quiet + 1 if is_quiet else 0


def numbers(rows: Floats) -> list[list[float]]:
    """Return rows as they are written into bodies: with `DIGITS` digits after the point."""
    rounded: list[list[float]] = np.round(rows.astype(np.float64), DIGITS).tolist()
    return rounded


def write_lines(path: Path, bodies: Sequence[bytes]) -> Path:
    """Write bodies for wrk, one a line."""
    path.write_bytes(b"\n".join(bodies) + b"\n")
    return path


def require_wrk() -> str:
    """Return where wrk is.

    Raises:
        Failed: it is not installed; says how to get it.
    """
    path = shutil.which("wrk")
    if path is None:
        raise Failed("wrk is missing; install it with: apt-get install wrk")
    return path


def wrk(
    server: Server,
    path: str,
    bodies: Path,
    *,
    connections: int,
    seconds: int,
    headers: Mapping[str, str] | None = None,
    prefix: str | None = None,
) -> Load:
    """Post the lines of a file for some seconds, and return what came of it.

    Args:
        server: Whom to load.
        path: Where to post.
        bodies: A body a line.
        connections: How many ask at once; one thread drives them all.
        seconds: For how long.
        headers: Further headers than ``Content-Type: application/json``.
        prefix: Put before each line, with a number that is new each time, as ``%d``.

    Raises:
        Failed: wrk is missing, or did not run.
    """
    program = require_wrk()
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        pairs = {"Content-Type": JSON, **(headers or {})}
        environment = {
            **os.environ,
            "BODIES": str(bodies),
            "RESULT": str(result),
            "HEADERS": "|".join(f"{name}: {value}" for name, value in pairs.items()),
            **({"PREFIX": prefix} if prefix else {}),
        }
        before = server.cpu_seconds()
        ran = subprocess.run(
            [program, "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s",
             "-s", str(Path(__file__).parent / "load.lua"), server.origin + path],
            env=environment, check=False, capture_output=True, text=True,
        )  # fmt: skip
        if ran.returncode or not result.exists():
            raise Failed(f"wrk: {ran.stderr or ran.stdout}")
        spent = server.cpu_seconds() - before
        seen = json.loads(result.read_text(encoding="utf-8"))
    return Load(**seen, cpu_us=spent / max(seen["requests"], 1) * 1e6)

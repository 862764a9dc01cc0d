"""Every way to run a Worker whose bindings lead to a server: one entry of `RUNTIMES` each.

All of them run the Worker in ``tests/clients/worker``, which calls the methods of bindings
that it is told to. It has two indexes, ``VECTORIZE`` and ``FAQ``, a binding ``MISSING`` for
an index that does not exist, and ``AI``.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from tests.support.installed import node, node_package, node_project
from tests.support.server import Running
from vicinal.cli.client import Target
from vicinal.cli.workers import HOOK, environment

ROOT = Path(__file__).parents[2]
WORKER = ROOT / "tests" / "clients" / "worker"
ENVIRONMENTS = ROOT / "tests" / "clients" / "node"

STARTED_WITHIN_S = 300.0
ANSWERED_WITHIN_S = 180.0
ENDED_WITHIN_S = 60.0
_POLL_S = 0.1

Indexes = Mapping[str, str]
"""Names of indexes by names of bindings."""


class CallError(Exception):
    """What a method of a binding threw."""


@dataclass(frozen=True, slots=True)
class Worker:
    """A running Worker."""

    url: str

    def call(self, binding: str, method: str, *args: object) -> Any:
        """Call a method of a binding and return what it returned, or raise `CallError`."""
        calls = [{"binding": binding, "method": method, "args": args}]
        request = Request(self.url, data=json.dumps(calls).encode(), method="POST")
        with urlopen(request, timeout=ANSWERED_WITHIN_S) as answer:
            (answered,) = json.load(answer)
        if "error" in answered:
            raise CallError(answered["error"])
        return answered["value"]


@dataclass(frozen=True, slots=True)
class Project:
    """Where a runtime is to run, and on what.

    Attributes:
        folder: Its own, empty.
        server: What the bindings lead to.
        indexes: Which, by binding.
        port: What the Worker is to listen on.
    """

    folder: Path
    server: Running
    indexes: Indexes
    port: int

    @property
    def target(self) -> Target:
        return Target(self.server.origin, self.server.token, self.server.account)

    @property
    def environment(self) -> dict[str, str]:
        """What ``vicinal wrangler`` would set, the hook included."""
        outer = {name: value for name, value in os.environ.items() if name != "NODE_OPTIONS"}
        return environment(self.target, outer) | {"CI": "1", "NO_COLOR": "1"}

    def write(self, *, remote: bool = False) -> None:
        """Make it a project of wrangler's, as a user would have it."""
        for name in ("index.js", "perform.js", "vite.config.mjs"):
            (self.folder / name).write_bytes((WORKER / name).read_bytes())
        options = {"remote": True} if remote else {}
        configuration = {
            "name": "app",
            "main": "index.js",
            "compatibility_date": "2026-04-01",
            "vectorize": [
                {"binding": name, "index_name": index} | options
                for name, index in self.indexes.items()
            ],
            "ai": {"binding": "AI"} | options,
        }
        (self.folder / "wrangler.json").write_text(json.dumps(configuration))


@dataclass(frozen=True, slots=True)
class Command:
    """How to start a Worker. `environment` is the whole of it."""

    arguments: Sequence[str]
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Runtime:
    """One way to run a Worker; `is_quick` tells whether every test run tries it."""

    name: str
    prepare: Callable[[Project], Command]
    is_quick: bool = False


@contextmanager
def running(runtime: Runtime, project: Project) -> Iterator[Worker]:
    """Run the Worker, and end all processes of the runtime at the end."""
    command = runtime.prepare(project)
    worker = Worker(f"http://127.0.0.1:{project.port}")
    with started(command, project.folder, worker.url):
        yield worker


@contextmanager
def started(command: Command, folder: Path, url: str) -> Iterator[None]:
    """Run a command until the block ends; the block begins when `url` answers."""
    log = folder / "runtime.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command.arguments,
            cwd=folder,
            env=dict(command.environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_answers(url, process)
        yield
    except BaseException as error:
        error.add_note(log.read_text(errors="replace")[-3000:])
        raise
    finally:
        _end(process)


def _wait_until_answers(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + STARTED_WITHIN_S
    while True:
        if process.poll() is not None:
            raise RuntimeError(f"the runtime ended with status {process.returncode}")
        try:
            with urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (URLError, OSError):
            if time.monotonic() > end:
                raise
        time.sleep(_POLL_S)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it has started."""
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(ENDED_WITHIN_S)
    finally:
        # workerd outlives a runtime that was in a hurry.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _workerd(project: Project) -> Command:
    """Plain workerd: an external service for each binding, with what it needs in headers."""
    installed = node_project(ENVIRONMENTS / "miniflare-4" / "package.json")
    for name in ("index.js", "perform.js"):
        (project.folder / name).write_bytes((WORKER / name).read_bytes())
    (project.folder / "config.capnp").write_text(_capnp(project))
    binary = installed / "node_modules" / "workerd" / "bin" / "workerd"
    return Command((str(binary), "serve", "config.capnp"), os.environ)


def _capnp(project: Project) -> str:
    services, bindings = [], []
    for name, index in {**project.indexes, "AI": ""}.items():
        headers = {
            "Authorization": f"Bearer {project.server.token}",
            "X-Vectorize-Account": project.server.account,
        } | ({"X-Vectorize-Index": index} if index else {})
        injected = ", ".join(
            f'(name = "{key}", value = "{value}")' for key, value in headers.items()
        )
        services.append(
            f'(name = "{name}", external = (address = "127.0.0.1:{project.server.port}", '
            f"http = (injectRequestHeaders = [{injected}])))"
        )
        module, inner = ("ai-api", "") if name == "AI" else ("vectorize-api", _INNER % index)
        bindings.append(
            f'(name = "{name}", wrapped = (moduleName = "cloudflare-internal:{module}", '
            f'innerBindings = [(name = "fetcher", service = "{name}"){inner}]))'
        )
    return _CONFIG % (",\n".join(services), project.port, ",\n".join(bindings))


_INNER = (
    ', (name = "indexId", text = "%s"), (name = "indexVersion", text = "v2"), '
    '(name = "useNdJson", json = "true")'
)

_CONFIG = """using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = .main), %s],
  sockets = [(name = "http", address = "127.0.0.1:%d", http = (), service = "main")]);
const main :Workerd.Worker = (
  modules = [(name = "index.js", esModule = embed "index.js"),
             (name = "perform.js", esModule = embed "perform.js")],
  compatibilityDate = "2026-04-01",
  bindings = [%s]);
"""


def _miniflare(name: str) -> Callable[[Project], Command]:
    def prepare(project: Project) -> Command:
        installed = node_project(ENVIRONMENTS / name / "package.json")
        script = str(WORKER / "miniflare.mjs")
        target = project.target
        return Command(
            (
                *(node(), script, str(installed), str(project.port)),
                *(json.dumps(project.indexes), str(HOOK.with_name("connection.cjs"))),
            ),
            {
                **os.environ,
                "VICINAL_URL": target.url,
                "VICINAL_TOKEN": target.token,
                "VICINAL_ACCOUNT": target.account,
            },
        )

    return prepare


def _wrangler_dev(
    install: Callable[[], Path], *arguments: str, remote: bool = False
) -> Callable[[Project], Command]:
    def prepare(project: Project) -> Command:
        installed = install()
        project.write(remote=remote)
        (project.folder / "node_modules").symlink_to(installed / "node_modules")
        target = project.target
        return Command(
            (
                *(sys.executable, "-m", "vicinal", "wrangler"),
                *("--url", target.url, "--token", target.token, "--account", target.account),
                *("--", "dev", "--port", str(project.port), "--ip", "127.0.0.1", *arguments),
            ),
            {**os.environ, "PATH": node_path(installed), "CI": "1", "NO_COLOR": "1"},
        )

    return prepare


def _second_worker(project: Project) -> Command:
    """The template that needs no hook: a Worker beside the Worker, on service bindings."""
    installed = _node_20()
    project.write()
    (project.folder / "node_modules").symlink_to(installed / "node_modules")
    template = HOOK.with_name("service")
    service = project.folder / "vicinal"
    service.mkdir()
    (service / "index.mjs").write_bytes((template / "index.mjs").read_bytes())
    target = project.target
    (service / "wrangler.jsonc").write_text(
        (template / "wrangler.jsonc")
        .read_text()
        .replace("http://127.0.0.1:8790", target.url)
        .replace('"VICINAL_TOKEN": "local"', f'"VICINAL_TOKEN": "{target.token}"')
        .replace('"VICINAL_ACCOUNT": "local"', f'"VICINAL_ACCOUNT": "{target.account}"')
    )
    bindings: list[dict[str, object]] = [
        {"binding": name, "entrypoint": "VectorizeIndex", "props": {"index": index}}
        for name, index in project.indexes.items()
    ]
    bindings.append({"binding": "AI", "entrypoint": "WorkersAI"})
    configuration = {
        "name": "app",
        "main": "index.js",
        "compatibility_date": "2026-04-01",
        "services": [{**binding, "service": "vicinal"} for binding in bindings],
    }
    (project.folder / "wrangler.local.json").write_text(json.dumps(configuration))
    return Command(
        (
            *("node_modules/.bin/wrangler", "dev", "-c", "wrangler.local.json"),
            *("-c", "vicinal/wrangler.jsonc"),
            *("--port", str(project.port), "--ip", "127.0.0.1"),
        ),
        {
            **os.environ,
            "PATH": node_path(installed),
            "CI": "1",
            "WRANGLER_SEND_METRICS": "false",
            "CLOUDFLARE_CF_FETCH_ENABLED": "false",
        },
    )


def _vite(project: Project) -> Command:
    installed = node_project(ENVIRONMENTS / "vite" / "package.json")
    project.write()
    (project.folder / "node_modules").symlink_to(installed / "node_modules")
    return Command(
        ("node_modules/.bin/vite", "--port", str(project.port), "--host", "127.0.0.1"),
        project.environment | {"PATH": node_path(installed)},
    )


def _platform_proxy(install: Callable[[], Path]) -> Callable[[Project], Command]:
    def prepare(project: Project) -> Command:
        installed = install()
        project.write()
        return Command(
            ("node", str(WORKER / "platform.mjs"), str(installed), str(project.port)),
            project.environment | {"PATH": node_path(installed)},
        )

    return prepare


def node_path(installed: Path) -> str:
    """Return the PATH with the Node.js that a project has brought along, if it has, first."""
    own = installed / "node_modules" / "node" / "bin"
    node()
    return f"{own}{os.pathsep}{os.environ['PATH']}" if own.is_dir() else os.environ["PATH"]


def _node_20() -> Path:
    """The last wrangler for Node.js 20."""
    return node_package("wrangler", "4.86.0")


def _wrangler_3() -> Path:
    """The last of wrangler 3."""
    return node_package("wrangler", "3.114.17")


def _wrangler_4_36() -> Path:
    """The last known wrangler that wraps what the AI binding sends."""
    return node_package("wrangler", "4.36.0")


def _newest() -> Path:
    return node_project(ENVIRONMENTS / "wrangler-newest" / "package.json")


RUNTIMES = (
    Runtime("workerd", _workerd, is_quick=True),
    Runtime("Miniflare 4", _miniflare("miniflare-4"), is_quick=True),
    Runtime("Miniflare 5", _miniflare("miniflare-5")),
    Runtime("wrangler 4.86 dev --local", _wrangler_dev(_node_20, "--local"), is_quick=True),
    Runtime("wrangler 4.86 dev", _wrangler_dev(_node_20)),
    Runtime("wrangler 4.86 dev, remote", _wrangler_dev(_node_20, remote=True)),
    Runtime("wrangler 4.86 getPlatformProxy", _platform_proxy(_node_20)),
    Runtime(
        "wrangler 3.114 dev", _wrangler_dev(_wrangler_3, "--experimental-vectorize-bind-to-prod")
    ),
    Runtime("wrangler 4.36 dev, remote", _wrangler_dev(_wrangler_4_36, remote=True)),
    Runtime("newest wrangler dev --local", _wrangler_dev(_newest, "--local")),
    Runtime("newest wrangler dev", _wrangler_dev(_newest)),
    Runtime("newest wrangler dev, remote", _wrangler_dev(_newest, remote=True)),
    Runtime("newest wrangler getPlatformProxy", _platform_proxy(_newest)),
    Runtime("Vite", _vite),
    Runtime("a second Worker", _second_worker),
)

PARAMETERS = [
    pytest.param(runtime, id=runtime.name, marks=() if runtime.is_quick else pytest.mark.clients)
    for runtime in RUNTIMES
]

"""Every way in works as docs/ways-in.md tells it: its blocks are run as they stand there.

Only ports are others, so that this can run beside anything. Files of one section are there in
those that follow, as for a reader who copies them into one folder.
"""

import asyncio
import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.support import shell
from tests.support.documents import Block, blocks
from tests.support.installed import node_package, node_project, python_project
from tests.support.ports import free_port
from tests.support.workers import ENVIRONMENTS, node_path

pytestmark = [pytest.mark.node, pytest.mark.clients, pytest.mark.usefixtures("minilm")]

PAGE = shell.ROOT / "docs" / "ways-in.md"
PYTHON = shell.ROOT / "tests" / "clients" / "python" / "requirements.txt"
BLOCKS = blocks(PAGE)


@dataclass(frozen=True, slots=True)
class Reader:
    """Somebody who has a server at `port` and works in `folder`."""

    port: int
    folder: Path
    environment: Mapping[str, str]

    @property
    def server(self) -> str:
        return f"127.0.0.1:{self.port}"

    def copies(self, heading: str) -> list[str]:
        """Copy the files of a section into the folder; return its commands."""
        for block in self.section(heading):
            if block.language != "sh":
                (self.folder / block.name).write_text(
                    block.text.replace("127.0.0.1:8790", self.server)
                )
        return [
            block.text.replace("127.0.0.1:8790", self.server)
            for block in self.section(heading)
            if block.language == "sh"
        ]

    def section(self, heading: str) -> list[Block]:
        found = [block for block in BLOCKS if block.heading == heading]
        assert found, f"{PAGE} has no section {heading!r} with blocks"
        return found

    def installs(self, packages: Path) -> "Reader":
        """Have the packages of an installed project in the folder, and its Node.js."""
        # A version of wrangler does not start on what a newer one has kept.
        shutil.rmtree(self.folder / ".wrangler", ignore_errors=True)
        link = self.folder / "node_modules"
        link.unlink(missing_ok=True)
        link.symlink_to(packages / "node_modules")
        own = shell.environment(PATH=node_path(packages))["PATH"]
        path = f"{packages}/node_modules/.bin:{Path(sys.executable).parent}:{own}"
        return Reader(self.port, self.folder, {**self.environment, "PATH": path})

    def runs(self, command: str) -> str:
        return shell.run(command, self.folder, self.environment).strip()

    def asks(self, command: str, port: int) -> str:
        """Return what a Worker answers that a command runs at a port."""
        url = f"http://127.0.0.1:{port}/"
        with (
            shell.running(command, self.folder, self.environment, url),
            urlopen(url, timeout=60) as answer,
        ):
            text: str = answer.read().decode()
            return text


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    folder, port = tmp_path_factory.mktemp("reader"), free_port()
    (serve,) = [block.text for block in BLOCKS if block.name == "serve"]
    with shell.running(
        f"{serve.strip()} --port {port}",
        folder,
        shell.environment(),
        f"http://127.0.0.1:{port}/readyz",
    ):
        environment = shell.environment(VICINAL_URL=f"http://127.0.0.1:{port}")
        reader = Reader(port, folder, environment)
        *_, answer = reader.runs(reader.copies("curl")[0]).partition('{"result":{"count"')
        assert '"id":"a"' in answer
        reader.copies("wrangler dev")
        yield reader


def test_the_python_sdk(reader: Reader) -> None:
    reader.copies("The Python SDK")

    assert reader.runs("python ask.py") == "a"


def test_openais_sdk_and_llama_index(reader: Reader) -> None:
    python = python_project(PYTHON)
    reader.copies("OpenAI's SDK, for embeddings")
    reader.copies("LlamaIndex, for embeddings")

    assert reader.runs(f"{python} embed.py") == "384"
    assert reader.runs(f"{python} llama.py") == "384"


def test_the_npm_sdk(reader: Reader) -> None:
    reader.copies("The npm SDK")

    libraries = reader.installs(node_project(ENVIRONMENTS / "libraries" / "package.json"))

    assert libraries.runs("node ask.mjs") == "a"


def test_wranglers_commands_both_ways(reader: Reader) -> None:
    node_20 = reader.installs(node_package("wrangler", "4.86.0"))

    for command in reader.copies("wrangler's commands"):
        printed = node_20.runs(command)
        (match,) = json.loads(printed[printed.index("{") :])["matches"]
        assert match["id"] == "a"


def test_wrangler_dev(reader: Reader) -> None:
    node_20 = reader.installs(node_package("wrangler", "4.86.0"))
    (command,) = reader.copies("wrangler dev")
    port = free_port()

    assert node_20.asks(f"{command.strip()} --ip 127.0.0.1 --port {port}", port) == "a"


def test_any_tool_by_its_npm_script(reader: Reader) -> None:
    node_20 = reader.installs(node_package("wrangler", "4.86.0"))
    (command,) = reader.copies("Workers: any tool")
    port = free_port()
    script = f"wrangler dev --ip 127.0.0.1 --port {port}"
    manifest = reader.folder / "package.json"
    manifest.write_text(json.dumps({"private": True, "scripts": {"dev": script}}))

    assert node_20.asks(command, port) == "a"


def test_vite(reader: Reader) -> None:
    newest = reader.installs(node_project(ENVIRONMENTS / "vite" / "package.json"))
    (command,) = reader.copies("Vite")
    port = free_port()

    assert newest.asks(f"{command.strip()} --host 127.0.0.1 --port {port}", port) == "a"


def test_the_platform_proxy(reader: Reader) -> None:
    node_20 = reader.installs(node_package("wrangler", "4.86.0"))
    (command,) = reader.copies("getPlatformProxy")

    assert node_20.runs(command).splitlines()[-1] == "a"


def test_the_hook_alone(reader: Reader) -> None:
    node_20 = reader.installs(node_package("wrangler", "4.86.0"))
    reader.copies("getPlatformProxy")
    (command,) = reader.copies("The hook alone")

    assert node_20.runs(command).splitlines()[-1] == "a"


def test_the_npm_package_in_a_team(reader: Reader, tmp_path: Path) -> None:
    project = tmp_path / "a project"
    project.mkdir()
    (project / "package.json").write_text('{"private": true}')
    own = Reader(reader.port, project, reader.environment)
    (command,) = own.copies("The npm package in a team")

    own.runs(command)

    (named,) = json.loads((project / "package.json").read_text())["devDependencies"].items()
    (packed,) = project.glob("*.tgz")
    assert named == ("vicinal", f"file:{packed.name}")
    assert own.runs("node -p 'require(\"vicinal\").target().account'") == "local"
    assert "[vicinal]" in shell.run(
        "node -e 'require(\"vicinal/hook\")' 2>&1", project, own.environment
    )


def test_miniflare(reader: Reader) -> None:
    four = reader.installs(node_project(ENVIRONMENTS / "miniflare-4" / "package.json"))
    reader.copies("Miniflare")

    assert four.runs("node miniflare.mjs") == "a"


def test_workerd(reader: Reader) -> None:
    four = reader.installs(node_project(ENVIRONMENTS / "miniflare-4" / "package.json"))
    (command,) = reader.copies("workerd")
    port = free_port()
    config = reader.folder / "config.capnp"
    config.write_text(config.read_text().replace(":8080", f":{port}"))

    assert four.asks(command, port) == "a"


def test_a_second_worker(reader: Reader) -> None:
    node_20 = reader.installs(node_package("wrangler", "4.86.0"))
    copy, command = reader.copies("Without a hook: a second Worker")
    node_20.runs(copy)
    own = reader.folder / "vicinal" / "wrangler.jsonc"
    own.write_text(own.read_text().replace("127.0.0.1:8790", reader.server))
    port = free_port()

    assert node_20.asks(f"{command.strip()} --ip 127.0.0.1 --port {port}", port) == "a"


def test_sql_databases(reader: Reader) -> None:
    node_20 = reader.installs(node_package("wrangler", "4.86.0"))
    (command,) = node_20.copies("SQL databases (D1)")

    printed = node_20.runs(command)

    assert '"results":[{"found":"12"}]' in printed
    listed, _, executed = printed.partition('"success":true}')[2].rpartition("└")
    assert "│ notes │ notes │" in " ".join(listed.split())
    assert '"found": 3' in executed


def test_files_and_texts(reader: Reader) -> None:
    from_files, from_texts = reader.copies("Files and texts")
    reader.runs("python make.py")

    imported = reader.runs(from_files)
    answered = reader.runs(from_texts)

    assert imported.count("1,000 vectors into rows") == 3
    assert "v" in imported.splitlines()[-1]
    assert "2 vectors into clouds" in answered
    assert "clouds.md#0" in answered


def test_a_copy_of_a_servers_indexes(reader: Reader) -> None:
    heading = "From another store, and to one"
    from_server, _from_the_platform, _from_and_to_products = reader.copies(heading)

    assert "the counts of all of them agree" in reader.runs(from_server)
    assert (reader.folder / "copied" / "catalog.db").exists()


def test_agents(reader: Reader) -> None:
    mcp = pytest.importorskip("mcp")
    (serve,) = reader.copies("Agents (MCP)")
    (configured,) = json.loads((reader.folder / "mcp.json").read_text())["mcpServers"].values()
    environment = {**reader.environment, **configured["env"]}
    started = mcp.StdioServerParameters(
        command=configured["command"], args=configured["args"], env=environment
    )

    async def search(server: object) -> list[str]:
        async with mcp.Client(server) as agent:
            found = await agent.call_tool("search", {"index": "docs", "id": "a", "top_k": 1})
            return [match["id"] for match in found.structured_content["matches"]]

    port = free_port()
    url = f"http://127.0.0.1:{port}/mcp"
    assert asyncio.run(search(started)) == ["a"]
    with shell.running(f"{serve.strip()} --port {port}", reader.folder, environment, url):
        assert asyncio.run(search(url)) == ["a"]


def test_python_without_a_server(reader: Reader) -> None:
    reader.copies("Python, without a server")

    assert reader.runs("python load.py") == "7 250000"


def test_the_fixture_of_pytest(reader: Reader) -> None:
    reader.copies("pytest")

    assert "1 passed" in reader.runs("python -m pytest -q test_search.py")


def test_every_section_is_run() -> None:
    """A section that no test here names would be one that nobody has tried."""
    source = Path(__file__).read_text()

    for heading in {block.heading for block in BLOCKS if block.name != "serve"}:
        assert f'"{heading}"' in source, heading

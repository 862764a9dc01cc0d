"""The tutorial's project does what its README says, typed as it stands there.

Only the two ports are others, so that it can run beside anything.
"""

import json
from pathlib import Path

import pytest

from tests.support import shell
from tests.support.documents import blocks
from tests.support.installed import node
from tests.support.model_files import tiny_folder
from tests.support.ports import free_port

pytestmark = [pytest.mark.node, pytest.mark.clients]

README = shell.ROOT / "examples" / "embeddings-tutorial" / "README.md"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of the example, with its packages installed."""
    node()
    clone = tmp_path_factory.mktemp("clone")
    shell.checkout(clone, "examples/embeddings-tutorial", "workers")
    project = clone / "examples" / "embeddings-tutorial"
    (install,) = [each for each in commands() if "npm install\n" in each]
    shell.run(install.splitlines()[0], project, shell.environment())
    return project


def commands() -> list[str]:
    return [block.text for block in blocks(README) if block.language == "sh"]


@pytest.mark.usefixtures("minilm")
def test_the_readme_ends_in_story_1(project: Path) -> None:
    serve, install, dev, ask, _tests = commands()
    server, worker = free_port(), free_port()
    environment = shell.environment(VICINAL_URL=f"http://127.0.0.1:{server}")

    pull, serve = serve.splitlines()
    shell.run(pull, project, environment)
    with shell.running(
        f"{serve} --port {server}",
        project,
        shell.environment(),
        f"http://127.0.0.1:{server}/readyz",
    ):
        created = shell.run(install, project, environment)
        with shell.running(
            f"{dev.strip()} --port {worker}",
            project,
            environment,
            f"http://localhost:{worker}/favicon.ico",
        ):
            insert, query = ask.replace(":8787", f":{worker}").splitlines()
            inserted = json.loads(shell.run(insert, project, environment))
            answer = json.loads(shell.run(query, project, environment))

    assert '"index_name": "embeddings-index"' in created
    assert list(inserted) == ["mutationId"]
    (shown,) = [json.loads(block.text) for block in blocks(README) if block.language == "json"]
    assert answer["matches"]["count"] == 1
    (match,) = answer["matches"]["matches"]
    (expected,) = shown["matches"]["matches"]
    assert match["id"] == expected["id"] == "1"
    assert match["score"] == pytest.approx(expected["score"], abs=1e-4)


def test_the_worker_is_the_same_for_a_model_in_a_folder(project: Path, tmp_path: Path) -> None:
    """A small model of the same architecture stands in for bge-base."""
    server, worker = free_port(), free_port()
    environment = shell.environment(VICINAL_URL=f"http://127.0.0.1:{server}")
    folder = tiny_folder(tmp_path / "model")
    dimensions = json.loads((folder / "config.json").read_text())["hidden_size"]
    model = "@cf/baai/bge-base-en-v1.5"

    with shell.running(
        f"vicinal serve --port {server} --data {tmp_path}/data --model-folders {model}={folder}",
        project,
        shell.environment(),
        f"http://127.0.0.1:{server}/readyz",
    ):
        shell.run(
            "vicinal wrangler -- vectorize create embeddings-index "
            f"--dimensions={dimensions} --metric=cosine",
            project,
            environment,
        )
        with shell.running(
            f"vicinal wrangler -- dev --local --var MODEL:{model} --port {worker}",
            project,
            environment,
            f"http://localhost:{worker}/favicon.ico",
        ):
            url = f"http://localhost:{worker}"
            shell.run(f"curl -sf {url}/insert", project, environment)
            answer = json.loads(shell.run(f"curl -sf {url}/", project, environment))

    assert answer["matches"]["count"] == 1
    assert answer["matches"]["matches"][0]["id"] in {"1", "2", "3"}


@pytest.mark.usefixtures("minilm")
def test_its_own_tests_pass_on_a_server_that_they_start(project: Path) -> None:
    *_, tests = commands()

    printed = shell.run(f"{tests.strip()} --reporter json", project, shell.environment())

    report = json.loads(printed[printed.index("{") :])
    assert report["success"] is True
    assert report["numPassedTests"] == report["numTotalTests"] == 4


def test_its_types_are_right(project: Path) -> None:
    shell.run("npx tsc", project, shell.environment())

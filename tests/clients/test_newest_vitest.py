"""The tutorial's tests pass in the newest Vitest pool too, which runs Miniflare 5.

`tests/examples` runs them in the last pool for Node.js 20.
"""

import json
from pathlib import Path

import pytest

from tests.support import shell
from tests.support.installed import node_project
from tests.support.workers import ENVIRONMENTS, node_path

pytestmark = [pytest.mark.node, pytest.mark.clients, pytest.mark.usefixtures("minilm")]


def test_the_tutorials_tests_pass_unchanged(tmp_path: Path) -> None:
    installed = node_project(ENVIRONMENTS / "vitest" / "package.json")
    shell.checkout(tmp_path, "examples/embeddings-tutorial", "workers")
    project = tmp_path / "examples" / "embeddings-tutorial"
    modules = project / "node_modules"
    modules.mkdir()
    for each in (installed / "node_modules").iterdir():
        (modules / each.name).symlink_to(each)
    (modules / "vicinal").symlink_to(tmp_path / "workers")
    path = shell.environment(PATH=node_path(installed))["PATH"]
    own = shell.environment()["PATH"].split(":")[0]

    printed = shell.run(
        "npx vitest run --reporter json", project, shell.environment(PATH=f"{path}:{own}")
    )

    report = json.loads(printed[printed.index("{") :])
    assert report["success"] is True
    assert report["numPassedTests"] == report["numTotalTests"] == 4

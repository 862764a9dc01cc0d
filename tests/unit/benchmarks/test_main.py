"""Every benchmark can be run by name, asks a question, and is on the page of results."""

import importlib
import inspect
from pathlib import Path

import pytest

from benchmarks import document, report
from benchmarks.__main__ import NAMES, UNRECORDED

SHARED = {
    "versions",  # compares two checkouts: has a command line of its own
    "__init__", "__main__", "cluster", "contender", "data", "document", "floor", "markdown",
    "measure", "over_sizes", "pgvector", "plots", "report", "serving", "side", "texts", "worse",
}  # fmt: skip


@pytest.mark.parametrize("name", [*NAMES, *UNRECORDED])
def test_a_benchmark_asks_a_question_and_can_be_run_quickly(name: str) -> None:
    module = importlib.import_module(f"benchmarks.{name}")

    assert report.question(module.__doc__).endswith("?")
    assert list(inspect.signature(module.run).parameters) == ["is_quick"]


def test_no_benchmark_is_left_out() -> None:
    files = {path.stem for path in Path(report.ROOT / "benchmarks").glob("*.py")}

    assert files == {*NAMES, *UNRECORDED, *SHARED}


@pytest.mark.parametrize("name", [*NAMES, *UNRECORDED])
def test_the_page_of_results_names_every_benchmark(name: str) -> None:
    assert f"`{name}.py`" in document.PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted((report.ROOT / "benchmarks" / "peers").glob("*.py")))
def test_what_runs_in_the_environment_of_a_peer_imports_nothing_of_ours_but_measure(
    path: Path,
) -> None:
    imported = [
        line.split()[1]
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith(("import ", "from "))
    ]
    allowed = {"benchmarks.measure", "benchmarks.peers", "benchmarks.peers.worker"}

    ours = {name for name in imported if name.split(".")[0] in ("benchmarks", "vicinal")}

    assert path.stem == "vicinal" or ours <= allowed

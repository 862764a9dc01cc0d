"""A process killed in the merge that builds a graph loses nothing, and the merge is repeated."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import graph_worker
from tests.support.engines import DOCS
from tests.support.graph_worker import MOMENTS, OPTIONS, ROWS, data
from vicinal.ann.binary import WALKED_CODES
from vicinal.engine.embedded import EmbeddedEngine
from vicinal.model import Effort, Query
from vicinal.native.library import library

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(
    library() is None, reason="NO GRAPH IS BUILT: there is no C compiler"
)


def nearest(engine: EmbeddedEngine, effort: Effort) -> tuple[list[set[str]], set[str]]:
    """Return the ids of the ten nearest rows of each query, and how they were found."""
    results = [
        engine.query(DOCS, Query(top_k=10, vector=query, effort=effort, explain=True))
        for query in data()[1]
    ]
    methods = {step.method for result in results for step in result.explanations}
    return [{match.id for match in result.matches} for result in results], methods


def true_nearest() -> list[set[str]]:
    values, queries = data()
    cosines = queries @ (values / (values**2).sum(axis=1, keepdims=True) ** 0.5).T
    return [{f"v{row}" for row in near} for near in (-cosines).argsort(axis=1)[:, :10].tolist()]


@pytest.mark.parametrize(
    "moment",
    [pytest.param(each, marks=() if each == "written" else pytest.mark.slow) for each in MOMENTS],
)
def test_a_process_killed_as_it_builds_a_graph_loses_nothing_and_builds_it_again(
    tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data"
    died = subprocess.run(
        [sys.executable, "-m", "tests.support.graph_worker", str(folder), moment],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL
    assert died.stdout == "acknowledged\n"
    strays = list(folder.glob("indexes/*/segments/*/graph*"))
    assert bool(strays) == (moment == "written")

    graph_worker.make_few_rows_large(monkeypatch)
    engine = EmbeddedEngine.open(folder, OPTIONS)
    assert engine.status(DOCS).vector_count == ROWS
    assert nearest(engine, Effort.EXACT)[0] == true_nearest()
    engine.compact(DOCS)

    found, methods = nearest(engine, Effort.LOW)
    wanted = true_nearest()
    assert methods == {WALKED_CODES}
    assert sum(len(a & b) for a, b in zip(found, wanted, strict=True)) >= 95
    assert len(list(folder.glob("indexes/*/segments/*"))) == 1, "a stray was left"
    engine.close()

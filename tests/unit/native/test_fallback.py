"""Without a C compiler the package is built without a library, and does the same in Python."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hatch_build import compile_
from tests.support.clusters import clustered
from vicinal.ann import calibration, exact
from vicinal.ann.base import Selection
from vicinal.ann.binary import CODES, BinaryIndex
from vicinal.ann.exact import ExactIndex
from vicinal.distance import distances
from vicinal.model import Effort, Metric
from vicinal.native import library
from vicinal.wire import lines

ROWS, DIMENSIONS, QUERIES, K = 6_000, 64, 20, 10


def nearest(metric: Metric) -> list[list[float]]:
    """Measure some rows, search them by codes, and return the distances of the nearest."""
    values = clustered(ROWS + QUERIES, DIMENSIONS)
    rows = np.ascontiguousarray(values[:ROWS])
    norms = exact.norms(rows)
    codes = calibration.build(rows, norms, metric)
    assert codes is not None
    index = BinaryIndex(codes, ExactIndex(rows, norms, metric))
    answers = []
    for query in values[ROWS:]:
        found = index.prepare(query, K, Selection(ROWS), Effort.HIGH).run()
        assert found.method == CODES
        answers.append(sorted(distances(rows[found.rows], query, metric).tolist())[:K])
    return answers


WITHOUT = """
from pathlib import Path
from vicinal.native import library
library.library_path = lambda sources: Path("/nowhere/_native.so")
from tests.unit.native import test_fallback as these
from vicinal.model import Metric
assert library.library() is None and not these.lines.is_built()
print([these.nearest(metric) for metric in Metric])
"""


def test_rows_are_measured_and_searched_alike_without_a_library() -> None:
    if library.library() is None:
        pytest.skip("THE COMPILED PARTS WERE NOT BUILT: there is no C compiler")
    assert lines.is_built()

    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    # High effort finds all of these, by whichever codes rounding has given them.
    assert done.stdout.strip() == str([nearest(metric) for metric in Metric])


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [
        (None, "there is no C compiler"),
        ("a-compiler-that-is-not-there", "a-compiler-that-is-not-there: "),
        ("false", "failed: "),
    ],
)
def test_a_build_without_a_compiler_says_why(
    compiler: str | None, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if compiler is None:
        monkeypatch.delenv("CC", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path))
    else:
        monkeypatch.setenv("CC", compiler)

    refusal = compile_(library.SOURCES[0].parent, tmp_path / "built.so")

    assert refusal is not None
    assert reason in refusal
    assert list(tmp_path.iterdir()) == []

"""Without a C compiler the package is built without a library, and does the same in Python."""

import subprocess
import sys
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from hatch_build import compile_
from tests.support.clusters import clustered
from tests.support.engines import DOCS
from tests.support.inline import open_inline
from tests.unit.engine.test_ranked_search import VOCABULARY, filled, words
from vicinal.ann import calibration, exact
from vicinal.ann.base import Selection
from vicinal.ann.binary import CODES, BinaryIndex
from vicinal.ann.exact import ExactIndex
from vicinal.distance import distances
from vicinal.engine.embedded import EngineOptions
from vicinal.model import Effort, IndexConfig, Metric
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


def found_words() -> list[list[tuple[str, float]]]:
    """Search texts in segments and a memtable for words, alone and beside a vector."""
    options = EngineOptions(memtable_rows_max=40, memtables_max=1_000)
    with TemporaryDirectory() as folder, closing(open_inline(Path(folder), options)) as engine:
        engine.create_index(DOCS, IndexConfig(4, Metric.COSINE), None)
        filled(engine)
        vector = np.array([1, 2, 3, 4], np.float32)
        queries = [
            words(text, vector=beside, namespace=namespace)
            for text in ("word1", "word3 word40 absent", " ".join(VOCABULARY[:9]))
            for beside in (None, vector)
            for namespace in ("", "left")
        ]
        return [
            [(match.id, round(match.score, 9)) for match in engine.query(DOCS, query).matches]
            for query in queries
        ]


WITHOUT = """
from pathlib import Path
from tempfile import TemporaryDirectory
from vicinal.native import library
library.library_path = lambda sources: Path("/nowhere/_native.so")
from tests.unit.native import test_fallback as these
from vicinal.model import Metric
assert library.library() is None and not these.lines.is_built()
print([these.nearest(metric) for metric in Metric])
print(these.found_words())
"""


def test_rows_and_words_are_searched_alike_without_a_library() -> None:
    if library.library() is None:
        pytest.skip("THE COMPILED PARTS WERE NOT BUILT: there is no C compiler")
    assert lines.is_built()

    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    # High effort finds all of these, by whichever codes rounding has given them.
    near, by_words = done.stdout.splitlines()
    assert near == str([nearest(metric) for metric in Metric])
    assert by_words == str(found_words())
    assert "(" in by_words


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

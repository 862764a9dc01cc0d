"""The best rate of a server is one at which it finds enough, and answers soon enough."""

from pathlib import Path

import numpy as np

from benchmarks.contender import Task
from benchmarks.data import Vectors
from benchmarks.http_query import Runs
from benchmarks.serving import Load


def test_the_best_rate_is_of_a_run_that_reaches_the_recall_and_answers_in_time(
    tmp_path: Path,
) -> None:
    vectors = Vectors("none", tmp_path, tmp_path, "cosine", "")
    runs = Runs(Task(vectors, np.empty((0, 10))), tmp_path, 1, 1)
    runs.recalls = {"vicinal, low": 0.99, "vicinal, high": 1.0}
    for name, connections, per_second, p50_ms in (
        ("vicinal, low", 1, 1_000, 0.7),
        ("vicinal, low", 4, 2_000, 2.0),
        ("vicinal, low", 8, 2_300, 3.4),
        ("vicinal, high", 4, 900, 4.0),
    ):
        runs.loads[name, connections] = Load(per_second, 1.0, p50_ms, p50_ms, 0, 0.0)

    assert runs.best_rate("vicinal", 0.99) == 2_300.0
    assert runs.best_rate("vicinal", 0.99, 2.0) == 2_000.0
    assert runs.best_rate("vicinal", 1.0) == 900.0
    assert runs.best_rate("vicinal", 1.0, 2.0) is None

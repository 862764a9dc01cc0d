"""Contenders: the cheapest setting at equal recall is compared, failures are told, and the
protocol carries what was asked and what was found."""

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from benchmarks import contender
from benchmarks.contender import VICINAL, Contender, Failed, Measured, Process, Side, Task
from benchmarks.data import Vectors, Where, exact
from benchmarks.measure import Timing

COUNT = 60


@pytest.fixture
def vectors(tmp_path: Path) -> Vectors:
    """A small set of rows with queries, in files."""
    random = np.random.RandomState(5)
    np.save(tmp_path / "rows.npy", random.standard_normal((COUNT, 8)).astype(np.float32))
    np.save(tmp_path / "queries.npy", random.standard_normal((6, 8)).astype(np.float32))
    return Vectors("small", tmp_path / "rows.npy", tmp_path / "queries.npy", "cosine", "")


@pytest.fixture
def parity(vectors: Vectors) -> Where:
    """A condition that half of the rows pass."""
    return Where("half", np.arange(COUNT) % 2, np.arange(len(vectors.queries)) % 2)


def task(vectors: Vectors, where: Where | None = None, *, fetch: bool = False) -> Task:
    nearest = exact(vectors.values, vectors.queries, 10, vectors.metric, where)
    return Task(vectors, nearest, where=where, fetch=fetch)


def run(recall: float, cpu_ms: float) -> Measured:
    return Measured({}, recall, Timing(1, cpu_ms, cpu_ms, cpu_ms, 1.0))


def test_the_median_run_is_by_cpu_time_and_of_two_the_cheaper() -> None:
    assert contender.median([run(1, 3.0), run(1, 1.0), run(1, 2.0)]).timing.cpu_ms == 2.0
    assert contender.median([run(1, 3.0), run(1, 1.0)]).timing.cpu_ms == 1.0


def test_the_best_peer_is_the_cheapest_database_that_reaches_the_recall() -> None:
    measured = {
        "vicinal": run(1.0, 0.1),
        "hnswlib": run(1.0, 0.2),
        "zvec": run(0.9, 0.3),
        "chromadb": run(0.99, 0.5),
        "qdrant-edge": run(0.999, 0.4),
    }

    best = contender.best_peer(measured, 0.99)

    assert best is not None
    assert best[0] == "qdrant-edge"
    assert contender.best_peer({"vicinal": run(1.0, 0.1)}, 0.99) is None


def test_rows_that_break_the_condition_are_not_found(vectors: Vectors, parity: Where) -> None:
    wanted = task(vectors, parity)
    everything = np.array([np.argsort(-vectors.values @ query)[:10] for query in vectors.queries])
    rows = np.full((len(vectors.queries), 10), -1, np.int64)
    for place, query in enumerate(vectors.queries):
        passing = np.flatnonzero(parity.labels == parity.wanted[place])
        near = vectors.values[passing] @ query / np.linalg.norm(vectors.values[passing], axis=1)
        rows[place] = passing[np.argsort(-near)[:10]]

    assert contender.recall_of(rows, wanted) == 1.0
    assert contender.recall_of(everything, wanted) < 0.9
    assert contender.recall_of(np.full_like(rows, -1), wanted) == 0.0


def test_a_contender_loads_searches_filters_and_closes_in_its_own_process(
    tmp_path: Path, vectors: Vectors, parity: Where
) -> None:
    metadata = tmp_path / "metadata.npz"
    np.savez(metadata, half=parity.labels, title=np.array([b"row"] * COUNT))

    with Process(VICINAL, tmp_path / "log.txt") as process:
        process.wait_until_ready()
        process.open(tmp_path / "database", vectors, ["half"])
        inserted = process.insert(vectors, 0, COUNT, metadata)
        process.build()
        plain = process.query(task(vectors), {"effort": "standard"}, count=6)
        filtered = process.query(
            task(vectors, parity, fetch=True), {"effort": "standard"}, count=6, threads=2
        )
        held = process.memory()
        process.close()

    assert inserted.seconds > 0
    assert plain.recall == filtered.recall == 1.0
    assert plain.timing.count == filtered.timing.count == 6
    assert held.private > 0


def test_a_closed_database_is_opened_again_with_its_rows(tmp_path: Path, vectors: Vectors) -> None:
    with Process(VICINAL, tmp_path / "log.txt") as process:
        process.open(tmp_path / "database", vectors)
        process.insert(vectors, 0, COUNT)
        process.build()
        process.close()

    with Process(VICINAL, tmp_path / "log.txt") as process:
        process.open(tmp_path / "database", vectors)
        found = process.query(task(vectors), {"effort": "low"}, count=6)

    assert found.recall == 1.0


def test_a_process_that_ends_says_its_last_words(tmp_path: Path, vectors: Vectors) -> None:
    missing = Contender("missing", "no_such_module")

    with (
        pytest.raises(Failed, match=r"(?s)missing ended during open.*no_such_module"),
        Process(missing, tmp_path / "log.txt") as process,
    ):
        process.open(tmp_path / "database", vectors)


def test_what_cannot_be_installed_is_a_failure_with_what_pip_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contender, "ENVIRONMENTS", tmp_path)
    folder = tmp_path / "a folder that is no package"
    folder.mkdir()
    impossible = Contender("impossible", "impossible", (str(folder),))

    with pytest.raises(Failed, match=r"(?s)impossible cannot be installed:.*folder"):
        contender.python_of(impossible)

    assert not (tmp_path / "impossible" / "installed.txt").exists()


def test_a_contender_that_fails_is_noted_and_the_others_go_on(
    tmp_path: Path, vectors: Vectors
) -> None:
    with ExitStack() as running:
        side = Side(tmp_path, running)
        for each in (
            Contender("missing", "no_such_module"),
            Contender("slow", "vicinal", rows_max=COUNT - 1),
            VICINAL,
        ):
            side.load(each, vectors)
        settings = side.tune(task(vectors), 0.99)
        measured = side.measure(task(vectors), settings, rounds=2, count=6, budget_s=30.0)

    assert list(measured) == ["vicinal"]
    assert measured["vicinal"].recall == 1.0
    assert settings == {"vicinal": {"effort": "low"}}
    assert [note.split()[0] for note in side.notes] == ["missing", "slow"]


def test_a_recall_out_of_reach_is_noted_and_the_dearest_setting_used(
    tmp_path: Path, vectors: Vectors
) -> None:
    with ExitStack() as running:
        side = Side(tmp_path, running)
        side.load(VICINAL, vectors)
        settings = side.tune(task(vectors), 1.01)

    assert settings == {"vicinal": {"effort": "high"}}
    assert side.notes == ["vicinal does not reach recall 1.01."]

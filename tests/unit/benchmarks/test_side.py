"""Contenders side by side: the cheapest setting at equal recall is compared, failures are
told, and what was built is kept."""

import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import side
from benchmarks.contender import VICINAL, Contender, Measured, Process, Setting, Task
from benchmarks.data import Vectors, exact
from benchmarks.measure import Timing
from benchmarks.side import Side

COUNT = 60


@pytest.fixture
def vectors(tmp_path: Path) -> Vectors:
    """A small set of rows with queries, in files."""
    random = np.random.RandomState(5)
    np.save(tmp_path / "rows.npy", random.standard_normal((COUNT, 8)).astype(np.float32))
    np.save(tmp_path / "queries.npy", random.standard_normal((6, 8)).astype(np.float32))
    return Vectors("small", tmp_path / "rows.npy", tmp_path / "queries.npy", "cosine", "")


@pytest.fixture(autouse=True)
def _no_warming(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times of this machine do not matter here."""
    monkeypatch.setattr(side, "warm_memory", lambda: None)


def task(vectors: Vectors) -> Task:
    return Task(vectors, exact(vectors.values, vectors.queries, 10, vectors.metric))


def run(recall: float, cpu_ms: float) -> Measured:
    return Measured({}, recall, Timing(1, cpu_ms, cpu_ms, cpu_ms, 1.0))


def test_the_median_run_is_by_cpu_time_and_of_two_the_cheaper() -> None:
    assert side.median([run(1, 3.0), run(1, 1.0), run(1, 2.0)]).timing.cpu_ms == 2.0
    assert side.median([run(1, 3.0), run(1, 1.0)]).timing.cpu_ms == 1.0


def test_the_best_peer_is_the_cheapest_database_that_reaches_the_recall() -> None:
    measured = {
        "vicinal": run(1.0, 0.1),
        "hnswlib": run(1.0, 0.2),
        "zvec": run(0.9, 0.3),
        "chromadb": run(0.99, 0.5),
        "qdrant-edge": run(0.999, 0.4),
    }

    best = side.best_peer(measured, 0.99)

    assert best is not None
    assert best[0] == "qdrant-edge"
    assert side.best_peer({"vicinal": run(1.0, 0.1)}, 0.99) is None


def test_a_contender_that_fails_is_noted_and_the_others_go_on(
    tmp_path: Path, vectors: Vectors
) -> None:
    with ExitStack() as running:
        running_side = Side(tmp_path, running)
        for each in (
            Contender("missing", "no_such_module"),
            Contender("slow", "vicinal", rows_max=COUNT - 1),
            VICINAL,
        ):
            running_side.load(each, vectors)
        settings = running_side.tune(task(vectors), 0.99)
        measured = running_side.measure(task(vectors), settings, rounds=2, count=6, budget_s=30.0)

    assert list(measured) == ["vicinal"]
    assert measured["vicinal"].recall == 1.0
    assert settings == {"vicinal": {"effort": "low"}}
    assert [note.split()[0] for note in running_side.notes] == ["missing", "slow"]


def test_the_others_are_held_up_while_one_is_measured(
    tmp_path: Path, vectors: Vectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_up: list[tuple[str, str]] = []
    query = Process.query

    def noted(
        self: Process,
        task: Task,
        setting: Setting,
        *,
        count: int,
        budget_s: float,
        threads: int = 1,
    ) -> Measured:
        for other in running_side.loaded:
            if other.process is not self:
                # Waits until it has stopped, and leaves that to be seen by the next to wait.
                os.waitid(os.P_PID, other.process.pid, os.WSTOPPED | os.WNOWAIT)
                held_up.append((self.contender.name, other.name))
        return query(self, task, setting, count=count, budget_s=budget_s, threads=threads)

    with ExitStack() as running:
        running_side = Side(tmp_path, running)
        running_side.load(replace(VICINAL, name="one"), vectors)
        running_side.load(replace(VICINAL, name="other"), vectors)
        monkeypatch.setattr(Process, "query", noted)
        settings: dict[str, Setting] = {"one": {"effort": "low"}, "other": {"effort": "low"}}
        running_side.measure(task(vectors), settings, rounds=2, count=6, budget_s=30.0)

    assert held_up == [("one", "other"), ("other", "one")] * 2


def test_a_recall_out_of_reach_is_noted_and_the_dearest_setting_used(
    tmp_path: Path, vectors: Vectors
) -> None:
    with ExitStack() as running:
        running_side = Side(tmp_path, running)
        running_side.load(VICINAL, vectors)
        settings = running_side.tune(task(vectors), 1.01)

    assert settings == {"vicinal": {"effort": "high"}}
    assert running_side.notes == ["vicinal does not reach recall 1.01."]


def test_what_was_built_is_kept_for_the_next_run_and_nothing_else_is_opened(
    tmp_path: Path, vectors: Vectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(side, "BUILT", tmp_path / "built")

    def load(fields: tuple[str, ...]) -> tuple[side.Loaded, Measured]:
        with ExitStack() as running:
            running_side = Side(tmp_path / "scratch", running)
            running_side.load(VICINAL, vectors, fields, kept=True)
            settings = running_side.tune(task(vectors), 0.99)
            runs = running_side.measure(task(vectors), settings, rounds=1, count=6, budget_s=30.0)
            return running_side.loaded[0], runs["vicinal"]

    built, first = load(())
    opened, second = load(())
    other, _ = load(("half",))

    assert (opened.insert, opened.build) == (built.insert, built.build)
    assert other.insert != built.insert
    assert first.recall == second.recall == 1.0


def test_what_was_not_built_to_the_end_is_built_again(
    tmp_path: Path, vectors: Vectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(side, "BUILT", tmp_path / "built")
    for turn in range(2):
        with ExitStack() as running:
            running_side = Side(tmp_path / "scratch", running)
            running_side.load(VICINAL, vectors, kept=True)
            found = running_side.measure(
                task(vectors), {"vicinal": {"effort": "low"}}, rounds=1, count=6, budget_s=30.0
            )
        assert found["vicinal"].recall == 1.0, turn
        (record,) = (tmp_path / "built").glob("*/built.json")
        record.unlink()

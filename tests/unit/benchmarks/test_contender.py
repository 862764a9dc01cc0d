"""Contenders: the protocol carries what was asked and what was found, failures are told."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import contender
from benchmarks.contender import VICINAL, Contender, Failed, Process, Task
from benchmarks.data import Vectors, Where, exact
from tests.support.waiting import wait_until

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
    metadata = tmp_path / "metadata.npy"
    attributes = np.empty(COUNT, [("half", parity.labels.dtype), ("title", "S3")])
    attributes["half"], attributes["title"] = parity.labels, b"row"
    np.save(metadata, attributes)

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


def test_the_most_memory_of_a_process_is_kept_while_it_is_watched(
    tmp_path: Path, vectors: Vectors
) -> None:
    with Process(VICINAL, tmp_path / "log.txt") as process:
        process.open(tmp_path / "database", vectors)
        held = process.memory().private
        with process.watched() as peak:
            wait_until(lambda: peak.private >= held // 2)
            process.insert(vectors, 0, COUNT)
        seen = peak.private
        process.build()

    assert held // 2 <= peak.private == seen < 1 << 30


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

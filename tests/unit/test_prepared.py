"""Prepared work is finished once, after all of its tasks."""

import pytest

from vicinal.native.pool import SearchTask
from vicinal.prepared import Prepared


class Noted(SearchTask):
    """A task that notes that it was run."""

    def __init__(self, name: str, notes: list[str]) -> None:
        self.name, self.notes = name, notes

    def run(self) -> None:
        self.notes.append(self.name)


def test_all_tasks_run_in_order_before_the_work_is_finished() -> None:
    notes: list[str] = []
    tasks = [Noted(name, notes) for name in "abc"]

    assert Prepared(lambda: "".join(notes), tasks).run() == "abc"
    assert notes == ["a", "b", "c"]


def test_work_without_tasks_is_only_finished() -> None:
    assert Prepared(lambda: 7).run() == 7


def test_work_whose_task_fails_is_not_finished() -> None:
    notes: list[str] = []

    class Failing(Noted):
        def run(self) -> None:
            raise ValueError(self.name)

    prepared = Prepared(lambda: notes.append("finished"), [Noted("a", notes), Failing("b", notes)])

    with pytest.raises(ValueError, match="b"):
        prepared.run()
    assert notes == ["a"]

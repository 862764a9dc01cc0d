"""Work in steps gives one result, whoever does its tasks and in which company."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from vicinal import steps
from vicinal.steps import Steps, Task, done_here, timed, together


@dataclass
class Noted:
    """A task that notes that it was run."""

    name: str
    notes: list[str]
    seconds: float = 0.25
    cpu_seconds: float = 0.125

    def run(self) -> None:
        self.notes.append(self.name)


def work(name: str, rounds: int, notes: list[str]) -> Steps[str]:
    for turn in range(rounds):
        yield [Noted(f"{name}{turn}", notes)]
        assert f"{name}{turn}" in notes, "it went on before its task was done"
    return name


def test_all_of_it_is_done_here() -> None:
    notes: list[str] = []

    assert done_here(work("a", 3, notes)) == "a"
    assert notes == ["a0", "a1", "a2"]


def test_works_of_different_length_yield_together_and_keep_their_order() -> None:
    notes: list[str] = []
    yielded: list[list[str]] = []
    steps = together([work("a", 1, notes), work("b", 0, notes), work("c", 2, notes)])

    def noting() -> Steps[list[str]]:
        tasks: Sequence[Task]
        try:
            while True:
                tasks = next(steps)
                yielded.append([each.name for each in tasks if isinstance(each, Noted)])
                yield tasks
        except StopIteration as end:
            found: list[str] = end.value
            return found

    assert done_here(noting()) == ["a", "b", "c"]
    assert yielded == [["a0", "c0"], ["c1"]]


def test_no_works_have_no_results() -> None:
    assert done_here(together([])) == []


def test_time_is_that_of_the_tasks_and_not_of_waiting_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = 100.0

    def busy() -> Steps[str]:
        nonlocal now_s
        for _ in range(2):
            now_s += 1.0
            yield [Noted("a", [])]
        return "a"

    monkeypatch.setattr(steps, "perf_counter", lambda: now_s)

    def waited_for() -> Steps[tuple[str, float]]:
        nonlocal now_s
        running = timed(busy())
        try:
            while True:
                yield next(running)
                now_s += 10.0
        except StopIteration as end:
            found: tuple[str, float] = end.value
            return found

    assert done_here(waited_for()) == ("a", 2 * 1.0 + 2 * 0.25)


def test_an_error_ends_all_of_it() -> None:
    def failing() -> Steps[str]:
        yield [Noted("z", [])]
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        done_here(together([work("a", 2, []), failing()]))

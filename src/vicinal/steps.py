"""Work in steps: a generator that yields those parts of it that any thread may do.

Whoever drives it does the tasks it yields, wherever that is best, and resumes it when all of
them are done. So work has one form for callers that wait and for those that must not:

    result = done_here(steps)                       all of it in this thread
    results = yield from together([steps, ...])     the tasks of several side by side

All but the tasks is done in the thread that drives.
"""

from collections.abc import Callable, Generator, Iterable, Sequence
from time import perf_counter
from typing import Protocol, TypeVar

T = TypeVar("T")


class Task(Protocol):
    """A part of some work that any thread may do."""

    @property
    def seconds(self) -> float:
        """How long it took, by the clock."""
        ...

    @property
    def cpu_seconds(self) -> float:
        """How much CPU it took in a pool, 0 if it was run."""
        ...

    def run(self) -> None:
        """Do it, in this thread."""
        ...


Steps = Generator[Sequence[Task], None, T]
"""Yields tasks that must be done before it goes on, and returns a result."""


class Pool(Protocol):
    """Threads that do tasks; one thread puts them and collects."""

    @property
    def descriptor(self) -> int:
        """Can be read from when there is something to collect."""
        ...

    def put(self, task: Task, on_done: Callable[[], None]) -> bool:
        """Have a task done and `on_done` called by `collect`; False if it is not taken.

        The task is kept until then, whoever else lets go of it.
        """
        ...

    def collect(self) -> None:
        """Call what was to be called of all that is done; returns at once."""
        ...

    def close(self) -> None:
        """Do what was put, and stop."""
        ...


def done_here(steps: Steps[T]) -> T:
    """Do all of it in this thread."""
    try:
        while True:
            for task in next(steps):
                task.run()
    except StopIteration as end:
        result: T = end.value
        return result


def together(works: Iterable[Steps[T]]) -> Steps[list[T]]:
    """Return the results of several works; what they yield is yielded together."""
    under_way = list(enumerate(works))
    if len(under_way) == 1:
        return [(yield from under_way[0][1])]
    results: dict[int, T] = {}
    while True:
        tasks: list[Task] = []
        left = []
        for place, each in under_way:
            try:
                tasks += next(each)
                left.append((place, each))
            except StopIteration as end:
                results[place] = end.value
        if not left:
            return [results[place] for place in sorted(results)]
        under_way = left
        yield tasks


def timed(steps: Steps[T]) -> Steps[tuple[T, float]]:
    """Return the result and the seconds that it took, but for waiting."""
    seconds = 0.0
    while True:
        start = perf_counter()
        try:
            tasks = next(steps)
        except StopIteration as end:
            return end.value, seconds + perf_counter() - start
        seconds += perf_counter() - start
        yield tasks
        seconds += sum(each.seconds for each in tasks)

"""Prepared work: tasks that any thread may run, and the function that finishes it after them.

    prepared = engine.prepare(address, query)
    result = prepared.run()                         all of it in this thread

A caller that must not wait has the tasks run elsewhere (`server.offload`) and then calls
`finish`. Prepared work that is not finished is dropped like any other object.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")


class Task(Protocol):
    """A part of prepared work that any thread may run, once."""

    @property
    def seconds(self) -> float:
        """Wall-clock time of the run."""
        ...

    @property
    def cpu_seconds(self) -> float:
        """CPU time of the run in a pool; 0 after `run`."""
        ...

    def run(self) -> None:
        """Run it in this thread."""
        ...


@dataclass(frozen=True, slots=True)
class Prepared(Generic[T]):
    """Work that is ready to run.

    Attributes:
        finish: Returns the result; called once, in the thread that prepared the work, after
            all tasks have run.
        tasks: Independent of each other.
    """

    finish: Callable[[], T]
    tasks: Sequence[Task] = ()

    def run(self) -> T:
        """Run the tasks in this thread and finish."""
        for task in self.tasks:
            task.run()
        return self.finish()

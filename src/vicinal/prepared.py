"""Prepared work: tasks that any thread may run, and the function that finishes it after them.

    prepared = engine.prepare(address, query)
    result = prepared.run()                         all of it in this thread

A caller that must not wait has the tasks run elsewhere (`server.offload`) and then calls
`finish`. Prepared work that is not finished is dropped like any other object.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from vicinal.native.pool import SearchTask

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Prepared(Generic[T]):
    """Work that is ready to run.

    Attributes:
        finish: Returns the result; called once, in the thread that prepared the work, after
            all tasks have run.
        tasks: Independent of each other.
    """

    finish: Callable[[], T]
    tasks: Sequence[SearchTask] = ()

    def run(self) -> T:
        """Run the tasks in this thread and finish."""
        for task in self.tasks:
            task.run()
        return self.finish()

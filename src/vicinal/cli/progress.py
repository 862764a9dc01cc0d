"""A progress bar on standard error, and nothing at all when that is not a terminal."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from vicinal.cli import show

WHOLE = 1_000
"""A total for tasks whose size is known only once they run: they report `part_of`."""

Report = Callable[[int, str], None]
"""Called with the amount that is done, in the unit of `total`, and a text that says so."""


def part_of(done: int, total: int) -> int:
    """Return the part of `WHOLE` that is done."""
    return WHOLE * done // total if total else WHOLE


class Rate:
    """Vectors a second, of those that come after the first `done`.

    Args:
        done: Vectors of an earlier run.
        clock: Tells seconds.
    """

    def __init__(self, done: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._done = done
        self._clock = clock
        self._began_s = clock()

    def text(self, done: int) -> str:
        """Return a number of vectors and the rate, like ``1,000 vectors (500/s)``."""
        seconds = max(self._clock() - self._began_s, 1e-3)
        return f"{done:,} vectors ({max(done - self._done, 0) / seconds:,.0f}/s)"


@contextmanager
def bar(label: str, total: int | None, *, done: int = 0) -> Iterator[Report]:
    """Show the progress of a task, with percent and the time that is left.

    `total` is in any unit, None if it is not known. An earlier run has `done` a part. The time that
    is left is told by what comes after the first report.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _done, _text: None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[text]}", markup=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(label, total=total, completed=done, text="")
        is_first = True

        def report(done: int, text: str) -> None:
            nonlocal is_first
            if is_first:
                # The part of an earlier run says nothing about the speed of this one.
                progress.reset(task, completed=done, text=text)
            else:
                progress.update(task, completed=done, text=text)
            is_first = False

        with show.noting_with(
            lambda text: console.print(text, markup=False, highlight=False, soft_wrap=True)
        ):
            yield report

"""A progress bar on standard error, and nothing at all when that is not a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from vicinal.cli import show

Report = Callable[[int, str], None]
"""Called with the amount that is done, in the unit of `total`, and a text that says so."""


@contextmanager
def bar(label: str, total: int | None, *, done: int = 0) -> Iterator[Report]:
    """Show the progress of a task, of which an earlier run has `done` a part.

    `total` is in any unit, None if it is not known.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _done, _text: None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[text]}", markup=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(label, total=total, completed=done, text="")
        with show.noting_with(
            lambda text: console.print(text, markup=False, highlight=False, soft_wrap=True)
        ):
            yield lambda done, text: progress.update(task, completed=done, text=text)

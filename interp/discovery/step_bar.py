"""The progress bar of a discovery method, on stderr."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def step_bar(title: str, total: int, progress: bool | None) -> Iterator[Callable[[int], None]]:
    """A bar over ``total`` steps; yields what is to be called with the number of steps done since the last call.

    ``progress`` None: shown where stderr is a terminal.
    """
    shown = sys.stderr.isatty() if progress is None else progress
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not shown, transient=console.is_terminal) as shown_bar:
        task = shown_bar.add_task(title, total=total)
        yield lambda done: shown_bar.advance(task, done)

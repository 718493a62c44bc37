"""The progress bar of a sweep, on stderr."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def unit_bar(title: str, units: Sequence[Any], todo: Sequence[Any],
             progress: bool | None) -> Iterator[Callable[[Any], None]]:
    """A bar over ``units``, of which ``todo`` are left; yields what is to be called with each unit that is finished.

    It counts units and grows by their arithmetic, so that the time it expects is right where units differ. ``progress``
    None: shown where stderr is a terminal.
    """
    shown = sys.stderr.isatty() if progress is None else progress
    console = Console(stderr=True)
    left = sum(unit.flops for unit in todo)
    done = len(units) - len(todo)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[done]}/{task.fields[units]} units"),
               TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not shown, transient=console.is_terminal) as bar:
        task = bar.add_task(title, total=left or 1.0, completed=0.0 if left else 1.0, done=done, units=len(units))

        def advance(unit: Any) -> None:
            nonlocal done
            done += 1
            bar.update(task, advance=unit.flops, done=done)

        yield advance

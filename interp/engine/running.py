"""``Running``: how a sweep is computed, in one value. It travels unchanged from the caller through a measure to the sweep.

None of it can change a number beyond rounding, so none of it stands in a provenance. A measure that sweeps takes it as the
option ``running`` beside the older ``batch_size`` and ``progress`` and hands it on whole; every other measure accepts
``running`` too and takes from it the batch size and the progress, as far as it has these options.

    scores = interp.measures.ablation(model, batch, running=Running(store="units", workers=2))
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from interp.core.errors import InterpError

Say = Callable[[str], None]


@dataclass(frozen=True)
class Running:
    """How a sweep is computed.

    Attributes:
        batch_size: prompts per pass; None: as many as the memory holds.
        progress: a bar on stderr; None: where stderr is a terminal.
        memory: bytes that one pass may take; None: measured.
        store: folder that keeps each finished unit, so that a second run computes only the rest; None: nothing is kept.
        workers: None or ``"local"``: this process; a number, or ``interp.engine.distribute.RayWorkers``: Ray actors.
        say: called with each line there is to say (what was taken from the store, what in it was damaged).
        dry_run: run no sweep; raise ``DryRunError``, which holds the cost of the first one, in its place.
    """

    batch_size: int | None = None
    progress: bool | None = None
    memory: int | None = None
    store: str | Path | None = None
    workers: Any = None
    say: Say | None = None
    dry_run: bool = False


def running_of(running: Running | None, batch_size: int | None = None, progress: bool | None = None) -> Running:
    """``running`` with the batch size and the progress that were given beside it.

    Raises ``InterpError`` where both say a batch size, or a progress, and they differ.
    """
    running = Running() if running is None else running
    for name, given in (("batch_size", batch_size), ("progress", progress)):
        inside = getattr(running, name)
        if given is None:
            continue
        if inside not in (None, given):
            raise InterpError(f"run with {name}={given!r} and Running({name}={inside!r})", "they contradict each other",
                              f"give {name} once")
        running = replace(running, **{name: given})
    return running

"""The only loop over interventions: many lists of interventions on one batch, each giving the metric per prompt.

``sweep`` and ``sweep_record`` are the short way to ``interp.engine.plan``: they plan and run at once.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from interp.core.errors import InterpError
from interp.engine.forward import Interventions
from interp.engine.plan import Cost, Sweep, plan_sweep
from interp.engine.running import Running, running_of


class DryRunError(InterpError):
    """Raised in place of a sweep by ``Running(dry_run=True)``; ``cost`` is what it would have cost."""

    def __init__(self, cost: Cost):
        super().__init__("sweep", "only its cost was asked for", "leave dry_run out")
        self.cost = cost


def sweep(model: Any, batch: Any, interventions: Sequence[Interventions], on: str = "clean", *, metric: Any = None,
          batch_size: int | None = None, progress: bool | None = None, title: str = "sweep",
          running: Running | None = None, may_be_identity: bool = False) -> np.ndarray:
    """The metric per prompt for each of many lists of interventions, in their order: float64 [n_lists, n_prompts].

    Each entry is one intervention or several that are active together. What does not act is known to have no effect and is
    accepted (``sweep_record`` says where); a sweep in which nothing acts at all raises, unless it ``may_be_identity``.

    Args:
        on: the side that is run, as for ``interp.engine.forward.run``.
        metric: None for the batch's own; a sequence of metrics gives one more leading axis.
        batch_size: prompts per pass; the numbers do not depend on it.
        progress: show a bar on stderr; None: where stderr is a terminal.
        running: these two and the other ways to compute: memory, store, workers (``interp.engine.running``).
    """
    return sweep_record(model, batch, interventions, on, metric=metric, batch_size=batch_size, progress=progress,
                        title=title, running=running, may_be_identity=may_be_identity).values


def sweep_record(model: Any, batch: Any, interventions: Sequence[Interventions], on: str = "clean", *, metric: Any = None,
                 batch_size: int | None = None, progress: bool | None = None, title: str = "sweep",
                 running: Running | None = None, may_be_identity: bool = False) -> Sweep:
    """``sweep``, with the record of what acted where, and of how much came out of a store."""
    how = running_of(running, batch_size, progress)
    plan = plan_sweep(model, batch, interventions, on, metric=metric, batch_size=how.batch_size, memory=how.memory)
    if how.dry_run:
        raise DryRunError(plan.cost())
    return plan.run(how.store, how.workers, how.progress, title=title, say=how.say,
                    may_be_identity=may_be_identity)

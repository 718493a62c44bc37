"""``idle``: what is known to have no effect before anything is swept."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from interp.engine.forward import Interventions
from interp.engine.passes import Passes, open_passes


def idle(model: Any, batch: Any, lists: Sequence[Interventions], on: str = "clean", *, batch_size: int | None = None,
         memory: int | None = None) -> np.ndarray | None:
    """Which lists of interventions leave the metric of which prompts as it is: bool [n_lists, n_prompts].

    True where nothing in the list changes anything, or nothing that it changes reaches the answer; read off the untouched
    run. None for a model that cannot be resumed: nothing is known beforehand there.
    """
    return idle_of(open_passes(model, batch, lists, on, batch_size=batch_size, memory=memory))


def idle_of(passes: Passes) -> np.ndarray | None:
    """``idle``, of passes that are open."""
    if passes.resumed is None:
        return None
    known = np.zeros((len(passes.lists), passes.batch.n), dtype=bool)
    for part in passes.resumed.parts:
        known[:, part.rows.numpy()] = ~part.table.acted | (part.table.layer < 0)
    return known

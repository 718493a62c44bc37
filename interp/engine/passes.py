"""Many lists of interventions on one batch, in units of work: what each costs, and the metric of every list and prompt.

Where the model can be resumed, a unit computes only what depends on its interventions (``interp.engine.cascade``); where it
cannot, it runs whole forward passes, and says why.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from interp.engine.forward import Interventions, Prepared, as_tuple, prepare
from interp.engine.intervention import Intervention
from interp.engine.resumed import Resumed, open_resumed
from interp.engine.units import Unit
from interp.engine.whole import Whole, open_whole


@dataclass(frozen=True, eq=False)
class Passes:
    """Lists of interventions on a batch, ready to be run unit by unit, in any order and in any process.

    Attributes:
        units: a partition of all pairs of a list and a prompt. It depends on model, batch, lists, memory and device only.
        how: ``resumed`` (only what depends on an intervention is computed) or ``full`` (whole forward passes).
        why: why the passes are full, one sentence; empty when they are resumed.
    """

    model: Any
    batch: Any
    lists: tuple[tuple[Intervention, ...], ...]
    metrics: tuple[Any, ...]
    prepared: Prepared
    units: tuple[Unit, ...]
    how: str
    why: str
    way: Resumed | Whole = field(repr=False)

    @property
    def resumed(self) -> Resumed | None:
        """What computes resumed passes; None where they are full."""
        return self.way if isinstance(self.way, Resumed) else None

    def some(self, lists: np.ndarray, prompts: np.ndarray) -> tuple[Unit, ...]:
        """Units of some of the lists on some of the prompts (indices), to be run like the others."""
        return self.way.some(lists, prompts)

    def run(self, unit: Unit) -> tuple[np.ndarray, np.ndarray]:
        """The metrics, float64 [n_metrics, n_lists, n_rows], and whether anything acted, bool [n_lists, n_rows]."""
        with torch.no_grad():
            return self.way.run(unit)


def open_passes(model: Any, batch: Any, lists: Sequence[Interventions], on: str = "clean", metrics: Sequence[Any] = (), *,
                batch_size: int | None = None, memory: int | None = None, resume: bool = True) -> Passes:
    """Passes for these lists of interventions on the side ``on`` of a batch.

    Args:
        metrics: none for the batch's own.
        batch_size: prompts per pass at most; the numbers do not depend on it.
        memory: bytes that the activations of one pass may take; None for a part of what the device has.
        resume: False for whole forward passes where they could be resumed.
    """
    entries = tuple(as_tuple(entry) for entry in lists)
    metrics = tuple(metrics) or (batch.metric,)
    every = list({id(item): item for entry in entries for item in entry}.values())
    prepared = prepare(model, batch, every, on, batch_size)
    why = "it was asked for" if not resume else model.resuming if isinstance(model.resuming, str) else ""
    way = (open_whole if why else open_resumed)(model, batch, entries, prepared, metrics, batch_size, memory)
    return Passes(model, batch, entries, metrics, prepared, way.units, "full" if why else "resumed", why, way)

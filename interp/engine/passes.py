"""Many lists of interventions on one batch, in units of work: what each costs, and the metric of every list and prompt.

Where the model can be resumed, a unit computes only what depends on its interventions (``interp.engine.cascade``); where it
cannot, it runs whole forward passes, and says why.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from interp.engine.edits import Record
from interp.engine.forward import Interventions, Prepared, answer_logits, as_tuple, chunk, did_act, prepare
from interp.engine.intervention import Intervention
from interp.engine.prompts import chunks
from interp.engine.resumed import Resumed, open_resumed
from interp.engine.sources import resampled
from interp.engine.units import Unit, full_units


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
    resumed: Resumed | None = field(default=None, repr=False)

    def run(self, unit: Unit) -> tuple[np.ndarray, np.ndarray]:
        """The metrics, float64 [n_metrics, n_lists, n_rows], and whether anything acted, bool [n_lists, n_rows]."""
        with torch.no_grad():
            return self._full(unit) if self.resumed is None else self.resumed.run(unit)

    def _full(self, unit: Unit) -> tuple[np.ndarray, np.ndarray]:
        rows = torch.tensor(unit.rows)
        lists = [self.lists[i] for i in unit.lists]
        every = list({id(item): item for entry in lists for item in entry}.values())
        values = np.full((len(self.metrics), len(lists), len(rows)), np.nan)
        acted = np.zeros(values.shape[1:], dtype=bool)
        part = chunk(self.model, self.prepared, rows, every)
        asked = self.batch.subset(rows)
        for i, entry in enumerate(lists):
            records = [Record() for _ in entry]
            logits = answer_logits(self.model.run(part.prompts.inputs, part.edits(entry, records)), part.prompts)
            for m, metric in enumerate(self.metrics):
                values[m, i] = metric(logits, asked).cpu().double().numpy()
            acted[i] = did_act(entry, records, len(rows)).any(dim=0).numpy()
        return values, acted


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
    if why:
        parts = chunks(model, prepared.prompts, batch_size, held=resampled(every))
        units = full_units(model, prepared.prompts, [part.tolist() for part in parts], len(entries))
        return Passes(model, batch, entries, metrics, prepared, units, "full", why)
    resumed = open_resumed(model, batch, entries, prepared, metrics, batch_size, memory)
    return Passes(model, batch, entries, metrics, prepared, resumed.units, "resumed", "", resumed)

"""Many lists of interventions on one batch, in units of work: what each costs, and the metric of every list and prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from interp.engine.edits import Record
from interp.engine.forward import Interventions, Prepared, answer_logits, as_tuple, chunk, did_act, prepare
from interp.engine.intervention import Intervention
from interp.engine.prompts import chunks
from interp.engine.sources import resampled

FULL_UNIT = 2e11
"""Arithmetic of one unit, in floating-point operations (about a second of two processor cores)."""


@dataclass(frozen=True)
class Unit:
    """A part of the work: every list of ``lists`` on every prompt of ``rows``.

    Attributes:
        lists, rows: indices of lists of interventions, and of prompts of the batch.
        tokens: token-layers that have to be computed: one token through one layer counts 1.
        flops: floating-point operations that they take.
    """

    lists: tuple[int, ...]
    rows: tuple[int, ...]
    tokens: int
    flops: float


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

    def run(self, unit: Unit) -> tuple[np.ndarray, np.ndarray]:
        """The metrics, float64 [n_metrics, n_lists, n_rows], and whether anything acted, bool [n_lists, n_rows]."""
        rows = torch.tensor(unit.rows)
        lists = [self.lists[i] for i in unit.lists]
        every = list({id(item): item for entry in lists for item in entry}.values())
        values = np.full((len(self.metrics), len(lists), len(rows)), np.nan)
        acted = np.zeros(values.shape[1:], dtype=bool)
        with torch.no_grad():
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
                batch_size: int | None = None, memory: int | None = None) -> Passes:
    """Passes for these lists of interventions on the side ``on`` of a batch.

    Args:
        metrics: none for the batch's own.
        batch_size: prompts per pass at most; the numbers do not depend on it.
        memory: bytes that the activations of one pass may take.
    """
    entries = tuple(as_tuple(entry) for entry in lists)
    every = list({id(item): item for entry in entries for item in entry}.values())
    prepared = prepare(model, batch, every, on, batch_size)
    units = []
    length = prepared.prompts.mask.shape[1]
    for rows in chunks(model, prepared.prompts, batch_size, held=resampled(every)):
        tokens = len(rows) * length * model.n_layers
        flops = tokens * 24.0 * model.d_model**2
        step = max(1, int(FULL_UNIT // flops))
        for start in range(0, len(entries), step):
            some = tuple(range(start, min(start + step, len(entries))))
            units.append(Unit(some, tuple(rows.tolist()), tokens * len(some), flops * len(some)))
    return Passes(model, batch, entries, tuple(metrics) or (batch.metric,), prepared, tuple(units), "full",
                  "resuming is not there yet")

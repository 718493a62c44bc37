"""The full way through lists of interventions: whole forward passes, several lists side by side along the batch."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.engine.edits import Edit, Record, edits
from interp.engine.entering import packed
from interp.engine.forward import Prepared, answer_logits, did_act
from interp.engine.ground import is_laid_out
from interp.engine.intervention import Intervention
from interp.engine.memory import Halving, Line, budget, measured, warm_up
from interp.engine.prompts import Prompts
from interp.engine.sources import captured, source_of
from interp.engine.units import PROMPTS, Unit, buckets, full_units, widest
from interp.models.sites import Site


@dataclass(eq=False)
class Whole:
    """Lists of interventions on a batch, each computed by whole passes.

    Attributes:
        units: the work.
        most: rows (a list on a prompt) that a pass may have.
        part: the prompts that were worked on last, and the runs that interventions take from.
    """

    model: Any
    batch: Any
    lists: tuple[tuple[Intervention, ...], ...]
    prepared: Prepared
    metrics: tuple[Any, ...]
    batch_size: int | None
    memory: int
    units: tuple[Unit, ...] = ()
    most: int = 1
    part: dict[tuple[int, ...], tuple[Prompts, Any]] = field(default_factory=dict, repr=False)
    halving: Halving = field(default_factory=Halving, repr=False)

    def run(self, unit: Unit) -> tuple[np.ndarray, np.ndarray]:
        """The metrics, float64 [n_metrics, n_lists, n_rows], and whether anything acted, bool [n_lists, n_rows]."""
        rows, lists = torch.tensor(unit.rows), np.array(unit.lists)
        values = np.full((len(self.metrics), len(lists), len(rows)), np.nan)
        acted = np.zeros(values.shape[1:], dtype=bool)

        def work(at: np.ndarray) -> None:
            values[:, at], acted[at] = self._pass(lists[at], rows)

        each = max(1, self.most // len(rows))
        for start in range(0, len(lists), each):
            self.halving.run(np.arange(start, min(start + each, len(lists))), work)
        return values, acted

    def some(self, lists: np.ndarray, prompts: np.ndarray) -> tuple[Unit, ...]:
        """Units of some lists on some prompts."""
        found, wanted, chosen = [], set(prompts.tolist()), tuple(lists.tolist())
        for unit in {unit.rows: unit for unit in self.units}.values():
            rows = tuple(row for row in unit.rows if row in wanted)
            share = len(chosen) * len(rows) / (len(unit.lists) * len(unit.rows))
            found += [Unit(chosen, rows, round(unit.tokens * share), unit.flops * share)] if rows and chosen else []
        return tuple(found)

    def open(self) -> None:
        """Measure what a row takes, and cut the work into units."""
        prompts = self.prepared.prompts
        lengths = prompts.mask.sum(dim=1).cpu()
        order = lengths.argsort(stable=True)
        taken = []
        heaviest = np.array([max(range(len(self.lists)), key=lambda i: len({item.site for item in self.lists[i]}))])
        for n in (*warm_up(self.model.device), 1, min(2, self.batch.n)):
            with measured(self.model.device) as peak:
                self._pass(heaviest, order[-n:])
            taken.append(peak.most)
            self.part.clear()
        self.most = Line.through(1, taken[-2], min(2, self.batch.n), taken[-1]).fit(self.memory)
        self.most = min(self.most, widest(self.model, prompts.mask.shape[1]), self.batch_size or self.most)
        size = min(self.most, PROMPTS)
        whole = prompts.encoder_mask is not None        # what an encoder reads is not narrowed, so there is nothing to gain
        parts = order.split(size) if whole else buckets(order, lengths, size)
        self.units = full_units(self.model, prompts, [part.tolist() for part in parts], len(self.lists))

    def _pass(self, lists: np.ndarray, rows: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Metrics [n_metrics, list, row] and what acted [list, row], of one forward pass."""
        entries, n = [self.lists[i] for i in lists], len(rows)
        prompts, others = self._prompts(rows)
        at_site: dict[Site, list[tuple[slice, Edit]]] = {}
        records = [[Record() for _ in entry] for entry in entries]
        for i, entry in enumerate(entries):
            sources = [source_of(item, prompts, self.prepared.found, rows, others) for item in entry]
            for site, edit in edits(prompts, entry, sources, records[i]).items():
                at_site.setdefault(site, []).append((slice(i * n, (i + 1) * n), edit))
        many = prompts.take(torch.arange(n).repeat(len(entries)))
        logits = answer_logits(self.model.run(many.inputs, {site: packed(parts) for site, parts in at_site.items()}), many)
        acted = np.stack([did_act(entry, record, n).any(dim=0).numpy()
                          for entry, record in zip(entries, records, strict=True)])
        asked = self.batch.subset(rows.repeat(len(entries)))
        values = np.stack([metric(logits, asked).cpu().double().numpy() for metric in self.metrics])
        return values.reshape(len(self.metrics), len(entries), n), acted

    def _prompts(self, rows: Tensor) -> tuple[Prompts, Any]:
        """These prompts, without columns that are padding in all of them, and the runs that interventions take from."""
        key = tuple(rows.tolist())
        if key not in self.part:
            self.part.clear()
            every = list({id(item): item for entry in self.lists for item in entry}.values())
            narrow = not any(map(is_laid_out, every))
            prompts = self.prepared.prompts.take(rows)
            prompts = prompts.narrowed() if narrow else prompts
            inputs = {name: x.to(self.model.device) for name, x in prompts.inputs.items()}
            others = captured(self.model, self.prepared.runs, self.prepared.found, rows, every, narrow)
            self.part[key] = replace(prompts, inputs=inputs), others
        return self.part[key]


def open_whole(model: Any, batch: Any, lists: Sequence[tuple[Intervention, ...]], prepared: Prepared,
               metrics: tuple[Any, ...], batch_size: int | None, memory: int | None) -> Whole:
    """Measure what a pass takes, and cut the work into units."""
    found = Whole(model, batch, tuple(lists), prepared, metrics, batch_size, budget(memory, model.device))
    with torch.no_grad():
        found.open()
    return found

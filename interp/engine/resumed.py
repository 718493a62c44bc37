"""The resumed way through a list of interventions: which rows each unit has, in which passes they go, and their metrics."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.engine.cascade import ByLayer, Rows, cascade
from interp.engine.effects import Effects, Table, table
from interp.engine.forward import Prepared
from interp.engine.ground import Ground, lay
from interp.engine.intervention import Intervention
from interp.engine.units import Unit, cut, unit_flops
from interp.tasks.answers import Answers

PASS_TOKENS = {"cpu": 4096, "cuda": 65536}
"""Tokens that a pass computes in a layer at most: enough to multiply at full speed."""


@dataclass(frozen=True)
class Part:
    """Some prompts of the batch that are worked on together, and what the lists change in them."""

    rows: Tensor
    table: Table


@dataclass(eq=False)
class Resumed:
    """Lists of interventions on a batch of a model that can be resumed.

    Attributes:
        parts: the batch in parts; ``units`` the work.
        ground: the part that was laid last.
    """

    model: Any
    batch: Any
    lists: tuple[tuple[Intervention, ...], ...]
    prepared: Prepared
    metrics: tuple[Any, ...]
    parts: tuple[Part, ...]
    units: tuple[Unit, ...]
    by_layer: ByLayer
    ground: dict[int, Ground] = field(default_factory=dict, repr=False)

    def run(self, unit: Unit) -> tuple[np.ndarray, np.ndarray]:
        """The metrics, float64 [n_metrics, n_lists, n_rows], and whether anything acted, bool [n_lists, n_rows]."""
        number = next(i for i, part in enumerate(self.parts) if part.rows[0] == unit.rows[0])
        part, ground = self.parts[number], self._ground(number)
        chosen = np.array(unit.lists)
        reads = _reads_answers(self.metrics) and self.model.resuming.columns
        answers = Answers.of(self.batch.subset(part.rows)) if reads else None
        columns = answers.columns.to(self.model.device) if reads else None
        untouched = self._measured(_answer_logits(ground, columns), np.arange(ground.n), part, answers)
        values = np.broadcast_to(untouched[:, None], (len(self.metrics), len(chosen), ground.n)).copy()
        enter = part.table.layer[chosen]
        lists, prompts = np.nonzero(enter >= 0)
        if len(lists):
            first, stop = (x[chosen][lists, prompts] for x in (part.table.first, part.table.stop))
            layer = enter[lists, prompts]
            for some in _passes(first, layer, ground.length, self._limit()):
                rows = Rows(chosen[lists[some]], prompts[some], layer[some], int(first[some].min()), stop[some])
                logits = self._logits(ground, rows, columns)
                values[:, lists[some], prompts[some]] = self._measured(logits, prompts[some], part, answers)
        return values, part.table.acted[chosen]

    def _ground(self, number: int) -> Ground:
        if number not in self.ground:
            self.ground.clear()
            every = list({id(item): item for entry in self.lists for item in entry}.values())
            self.ground[number] = lay(self.model, self.prepared, self.parts[number].rows, every)
        return self.ground[number]

    def _limit(self) -> int:
        return PASS_TOKENS.get(self.model.device.type, PASS_TOKENS["cuda"])

    def _logits(self, ground: Ground, rows: Rows, columns: Tensor | None) -> Tensor:
        resume, recording = self.model.resuming, ground.recording
        if recording.output.dim() == 2:
            hidden = cascade(resume, ground, self.by_layer, rows, None)
            return resume.logits(hidden, ground.prompts.inputs, recording, columns)
        read = ground.prompts.answer[torch.from_numpy(rows.prompts).to(self.model.device)] - rows.start
        hidden = cascade(resume, ground, self.by_layer, rows, read)
        return resume.logits(hidden, ground.prompts.inputs, recording, columns)[:, 0]

    def _measured(self, logits: Tensor, prompts: np.ndarray, part: Part, answers: Answers | None) -> np.ndarray:
        """The metrics of some rows' logits, [n_metrics, row]."""
        at = torch.from_numpy(prompts)
        asked = answers.take(at) if answers is not None else self.batch.subset(part.rows[at])
        return np.stack([metric(logits, asked).double().cpu().numpy() for metric in self.metrics])


def open_resumed(model: Any, batch: Any, lists: tuple[tuple[Intervention, ...], ...], prepared: Prepared,
                 metrics: tuple[Any, ...], batch_size: int | None, memory: int | None) -> Resumed:
    """See which rows have to be computed, and cut them into units."""
    by_layer = []
    for entry in lists:
        layers: dict[int, list[Intervention]] = {}
        for item in entry:
            layers.setdefault(item.layer, []).append(item)
        by_layer.append(layers)
    found = Resumed(model, batch, lists, prepared, metrics, (), (), by_layer)
    size = batch_size or 64
    order = prepared.prompts.mask.sum(dim=1).argsort(stable=True).cpu()
    parts, units = [], []
    with torch.no_grad():
        for rows in order.split(size):
            every = list({id(item): item for entry in lists for item in entry}.values())
            ground = lay(model, prepared, rows, every)
            found.ground.clear()
            found.ground[len(parts)] = ground
            answer = None if ground.recording.output.dim() == 2 else ground.prompts.answer.cpu().numpy()
            made = table(Effects(ground), lists, n_layers=model.resuming.n_layers, causal=model.resuming.causal,
                         latent=any(place.latent for place in model.resuming.places), answer=answer)
            parts.append(Part(rows, made))
            units += _units(model, parts[-1], ground.length)
    found.parts, found.units = tuple(parts), tuple(units)
    return found


def _units(model: Any, part: Part, length: int) -> list[Unit]:
    layers = model.resuming.n_layers
    tokens = np.where(part.table.layer >= 0, (layers - part.table.layer) * (length - part.table.first), 0).sum(axis=1)
    flops = 24.0 * model.d_model**2 * tokens
    last = np.where(part.table.layer >= 0, part.table.first, length).min(axis=1)
    order = np.lexsort((np.arange(len(last)), np.where(part.table.layer >= 0, part.table.layer, layers).min(axis=1), last))
    rows = tuple(part.rows.tolist())
    return [Unit(tuple(some.tolist()), rows, int(tokens[some].sum()), float(flops[some].sum()))
            for some in cut(order, flops, unit_flops(model.device))]


def _passes(first: np.ndarray, layer: np.ndarray, length: int, limit: int) -> list[np.ndarray]:
    """Rows that go up the layers together: those that start at one position, as many as the limit allows."""
    found = []
    for start in np.unique(first):
        these = np.flatnonzero(first == start)
        these = these[np.argsort(layer[these], kind="stable")]
        size = max(1, limit // (length - int(start)))
        found += [these[i:i + size] for i in range(0, len(these), size)]
    return found


def _reads_answers(metrics: Sequence[Any]) -> bool:
    return all(getattr(metric, "columns", "all") == "answers" for metric in metrics)


def _answer_logits(ground: Ground, columns: Tensor | None) -> Tensor:
    output = ground.recording.output
    if output.dim() == 3:
        output = output[torch.arange(ground.n, device=output.device), ground.prompts.answer]
    return output if columns is None else output.index_select(1, columns)

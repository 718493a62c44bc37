"""The resumed way through lists of interventions: which rows each unit has, in which passes they go, and their metrics."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.engine.cascade import ByLayer, Rows, cascade
from interp.engine.effects import Effects, Table, table
from interp.engine.forward import Prepared
from interp.engine.ground import Ground, lay
from interp.engine.intervention import Intervention
from interp.engine.memory import Halving, Line, budget, measured, warm_up
from interp.engine.units import PROMPTS, Unit, buckets, resumed_units, widest
from interp.engine.untouched import answers_suffice
from interp.models.sites import SQUARE
from interp.tasks.answers import Answers


@dataclass(frozen=True)
class Part:
    """Some prompts of the batch that are worked on together, and what the lists change in them.

    Attributes:
        rows: which prompts.
        held: bytes that their untouched run keeps.
    """

    rows: Tensor
    table: Table
    length: int
    held: int


@dataclass(eq=False)
class Resumed:
    """Lists of interventions on a batch of a model that can be resumed.

    Attributes:
        parts: the batch in parts; ``units`` the work.
        by_layer: of each list, its interventions by layer.
        batch_size, memory: bounds on the rows and on the bytes of a pass.
        ground: the part that was laid last.
        lines: bytes per row, by kind of list (``kinds``). They are the same in every process that opens these passes, so
            that the passes are, and with them every bit of the numbers.
        halving: what remembers that memory did not suffice.
    """

    model: Any
    batch: Any
    lists: tuple[tuple[Intervention, ...], ...]
    prepared: Prepared
    metrics: tuple[Any, ...]
    by_layer: ByLayer
    batch_size: int | None
    memory: int
    parts: tuple[Part, ...] = ()
    units: tuple[Unit, ...] = ()
    ground: dict[int, Ground] = field(default_factory=dict, repr=False)
    lines: dict[int, Line] = field(default_factory=dict, repr=False)
    halving: Halving = field(default_factory=Halving, repr=False)

    @cached_property
    def kinds(self) -> np.ndarray:
        """Of each list what its memory depends on, [list]: whether it changes squares, and whether z alone carries it."""
        found = [{item.site for item in entry} for entry in self.lists]
        return np.array([2 * any(site.what in SQUARE for site in sites) + self.model.resuming.within(sites)
                         for sites in found], dtype=int)

    def run(self, unit: Unit) -> tuple[np.ndarray, np.ndarray]:
        """The metrics, float64 [n_metrics, n_lists, n_rows], and whether anything acted, bool [n_lists, n_rows]."""
        number = next(i for i, part in enumerate(self.parts) if unit.rows[0] in part.rows)
        at = _places(self.parts[number].rows, unit.rows)
        part, ground, chosen = self.parts[number], self._ground(number), np.array(unit.lists)
        answers = self._answers(part)
        untouched = self._measured(ground.logits, np.arange(ground.n), part, answers)
        values = np.repeat(untouched[:, None, at], len(chosen), axis=1)
        lists, prompts = np.nonzero(part.table.layer[np.ix_(chosen, at)] >= 0)
        rows = Rows.of(part.table, chosen[lists], at[prompts])
        for some in self._passes(part, rows):
            def work(these: np.ndarray) -> None:
                values[:, lists[these], prompts[these]] = self._values(part, ground, rows.take(these), answers)

            self.halving.run(some, work)
        return values, part.table.acted[np.ix_(chosen, at)]

    def some(self, lists: np.ndarray, prompts: np.ndarray) -> tuple[Unit, ...]:
        """Units of some lists on some prompts."""
        found: list[Unit] = []
        for part in self.parts:
            at = np.flatnonzero(np.isin(part.rows.numpy(), prompts))
            found += resumed_units(self.model, part, self.lists, lists, at) if len(at) else []
        return tuple(found)

    def open(self) -> None:
        """Cut the batch into parts of similar length, see what the lists change in them, and measure what rows take."""
        lengths = self.prepared.prompts.mask.sum(dim=1).cpu()
        order, laying = lengths.argsort(stable=True), Halving()
        for rows in buckets(order, lengths, self._prompts(order)):
            laying.run(rows, self._see)
        if self.parts:
            self._measure(len(self.parts) - 1)
        self.units = tuple(unit for part in self.parts for unit in resumed_units(self.model, part, self.lists))

    def _see(self, rows: Tensor) -> None:
        """Find out what the lists change in some prompts, and add them as a part."""
        with measured(self.model.device) as peak:
            ground = self._laid(rows)
        self.ground.clear()
        self.ground[len(self.parts)] = ground
        found = table(Effects(ground), self.lists, n_layers=self.model.resuming.n_layers, causal=self.model.resuming.causal,
                      latent=any(place.latent for place in self.model.resuming.places),
                      answer=None if ground.everywhere else ground.prompts.answer.cpu().numpy())
        self.parts += (Part(rows, found, ground.length, peak.left),)

    def _prompts(self, order: Tensor) -> int:
        """How many prompts are worked on together: their untouched run has half of the memory.

        Many take at most as many times what one takes; two are run only where that would be too much.
        """
        most = min(self.batch_size or PROMPTS, PROMPTS, self.batch.n)
        if most == 1:
            return 1
        one = [self._taken(order[-1:]) for _ in (*warm_up(self.model.device), 1)][-1]
        if Line(0.0, one).fit(self.memory / 2) >= most:
            return most
        return min(most, Line.through(1, one, 2, self._taken(order[-2:])).fit(self.memory / 2))

    def _taken(self, rows: Tensor) -> int:
        """Bytes that the untouched run of some prompts takes at its peak."""
        with measured(self.model.device) as peak:
            self._laid(rows)
        return peak.most

    def _measure(self, number: int) -> None:
        """Bytes per row of each kind of list, on the longest prompts, from where the most positions are computed."""
        part, ground = self.parts[number], self._ground(number)
        answers, kinds = self._answers(part), self.kinds
        for kind in np.unique(kinds):
            lists, prompts = np.nonzero((part.table.layer >= 0) & (kinds == kind)[:, None])
            if len(lists) < 2:
                continue
            rows = Rows.of(part.table, lists, prompts)
            sites = np.array([len({item.site for item in self.lists[i]}) for i in rows.lists])
            rows = rows.take(np.lexsort((rows.layer, rows.first, -sites)))
            most = min(rows.n, widest(self.model, part.length - rows.start), self.batch_size or rows.n)
            self.lines[int(kind)] = self._line(part, ground, rows, answers, most)

    def _line(self, part: Part, ground: Ground, rows: Rows, answers: Answers | None, most: int) -> Line:
        """Bytes of a pass of one row; and of four, where ``most`` times as many as of one are too much."""
        taken: dict[int, int] = {}

        def work(at: np.ndarray) -> None:
            some = rows.take(at)
            with measured(self.model.device) as peak:
                self._values(part, ground, some.take(np.argsort(some.layer, kind="stable")), answers)
            taken[len(at)] = peak.most

        for n in (*warm_up(self.model.device), 1, 4):
            if 1 in taken and Line(0.0, taken[1]).fit(self.memory - part.held) >= most:
                break
            Halving().run(np.arange(min(n, rows.n)), work)
        few, many = min(taken), max(taken)
        return Line.through(few, taken[few], many, taken[many])

    def _laid(self, rows: Tensor) -> Ground:
        every = list({id(item): item for entry in self.lists for item in entry}.values())
        answers = self._answers_of(rows)
        return lay(self.model, self.prepared, rows, every, None if answers is None else answers.columns)

    def _ground(self, number: int) -> Ground:
        if number not in self.ground:
            self.ground.clear()
            self.ground[number] = self._laid(self.parts[number].rows)
        return self.ground[number]

    def _answers(self, part: Part) -> Answers | None:
        return self._answers_of(part.rows)

    def _answers_of(self, rows: Tensor) -> Answers | None:
        """The answers of some prompts, where nothing else of the vocabulary is read."""
        return Answers.of(self.batch.subset(rows)) if answers_suffice(self.model, self.metrics) else None

    def _passes(self, part: Part, rows: Rows) -> list[np.ndarray]:
        """Rows that go up the layers together: those of one first position, as many as memory allows."""
        found = []
        for start in np.unique(rows.first):
            these = np.flatnonzero(rows.first == start)
            these = these[np.argsort(rows.layer[these], kind="stable")]
            size = self._size(part, rows.take(these))
            found += [these[i:i + size] for i in range(0, len(these), size)]
        return found

    def _size(self, part: Part, rows: Rows) -> int:
        """How many of these rows, which start at one position, a pass may have."""
        size = widest(self.model, part.length - rows.start)
        lines = [self.lines[kind] for kind in np.unique(self.kinds[rows.lists]).tolist() if kind in self.lines]
        return min([size, self.batch_size or size, *(line.fit(self.memory - part.held) for line in lines)])

    def _values(self, part: Part, ground: Ground, rows: Rows, answers: Answers | None) -> np.ndarray:
        """The metrics of some rows, [n_metrics, row]: one pass."""
        resume, inputs = self.model.resuming, ground.prompts.inputs
        columns = None if answers is None else answers.columns.to(self.model.device)
        if ground.everywhere:
            hidden = cascade(resume, ground, self.by_layer, rows, None)
            return self._measured(resume.logits(hidden, inputs, ground.recording, columns), rows.prompts, part, answers)
        read = ground.prompts.answer[torch.from_numpy(rows.prompts).to(self.model.device)] - rows.start
        hidden = cascade(resume, ground, self.by_layer, rows, read)
        return self._measured(resume.logits(hidden, inputs, ground.recording, columns)[:, 0], rows.prompts, part, answers)

    def _measured(self, logits: Tensor, prompts: np.ndarray, part: Part, answers: Answers | None) -> np.ndarray:
        """The metrics of some rows' logits, [n_metrics, row]."""
        at = torch.from_numpy(prompts)
        asked = answers.take(at) if answers is not None else self.batch.subset(part.rows[at])
        return np.stack([metric(logits, asked).double().cpu().numpy() for metric in self.metrics])


def _places(rows: Tensor, some: Sequence[int]) -> np.ndarray:
    """Where some prompts stand among those of a part."""
    at = {row: i for i, row in enumerate(rows.tolist())}
    return np.array([at[row] for row in some])


def open_resumed(model: Any, batch: Any, lists: Sequence[tuple[Intervention, ...]], prepared: Prepared,
                 metrics: tuple[Any, ...], batch_size: int | None, memory: int | None) -> Resumed:
    """See which rows have to be computed, and cut them into units."""
    by_layer = []
    for entry in lists:
        layers: dict[int, list[Intervention]] = {}
        for item in entry:
            layers.setdefault(item.layer, []).append(item)
        by_layer.append(layers)
    found = Resumed(model, batch, tuple(lists), prepared, metrics, by_layer, batch_size, budget(memory, model.device))
    with torch.no_grad():
        found.open()
    return found

"""``HeadTable``: the effects of changing one head at a time as a table [candidate, prompt], computed where it is asked for.

A candidate is a head, or a head at a place. Order: place, then layer, then head.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from interp.engine.idle import idle_of
from interp.engine.intervention import Intervention
from interp.engine.plan import Plan, plan_sweep, read_some
from interp.engine.prompts import side, sides
from interp.engine.running import Running
from interp.engine.sweep import sweep
from interp.measures.each_head import Change, baselines, count
from interp.measures.positions import Place, Positions, places, spread
from interp.models.backend import Stack
from interp.models.sites import Site


@dataclass(frozen=True, eq=False)
class HeadTable:
    """What each head does to the metric, as a table that is filled on demand.

    Attributes:
        change: (layer, head, positions) -> what is done to that head there. what: the site that it changes.
        on: the run that is changed.
        sign: 1: effect = metric unchanged − changed; −1: changed − unchanged.
        axes, found: the extra axes of the scores and their places.
        bases: metric of the unchanged runs ``clean`` and ``corrupt`` [prompt].
        running: how its sweeps are computed. title: what their progress bar says.
    """

    model: Any
    batch: Any
    change: Change
    what: str
    stack: Stack
    on: str
    sign: int
    metric: Any
    axes: dict[str, tuple]
    found: Sequence[Place]
    bases: dict[str, np.ndarray]
    running: Running
    title: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """Places, layers, heads in a layer."""
        return len(self.found), self.stack.n_layers, count(self.stack, self.what)

    @property
    def n(self) -> int:
        """How many candidates there are."""
        return int(np.prod(self.shape))

    @property
    def everything(self) -> tuple[np.ndarray, np.ndarray]:
        """All candidates, and all prompts."""
        return np.arange(self.n), np.arange(self.batch.n)

    @property
    def exists(self) -> np.ndarray:
        """Which prompts have the candidate's place: bool [candidate, prompt]."""
        there = np.stack([place.exists for place in self.found])
        return np.repeat(there, self.n // len(self.found), axis=0)

    def interventions(self, candidates: Sequence[int]) -> list[Sequence[Intervention]]:
        """What is done to each of these candidates."""
        at = zip(*np.unravel_index(np.asarray(candidates), self.shape), strict=True)
        return [self.change(int(layer), int(head), self.found[place].at) for place, layer, head in at]

    @cached_property
    def plan(self) -> Plan:
        """The sweep over all candidates, and last the unchanged run: opened once, and read in parts."""
        return plan_sweep(self.model, self.batch, [*self.interventions(range(self.n)), ()], self.on, metric=self.metric,
                          batch_size=self.running.batch_size, memory=self.running.memory)

    def zeros(self) -> np.ndarray:
        """0 where an entry is known to be zero beforehand, NaN elsewhere, [candidate, prompt]."""
        known = idle_of(self.plan.passes)
        known = None if known is None else known[:-1]
        return np.where(known & self.exists, 0.0, np.nan) if known is not None else np.full(self.exists.shape, np.nan)

    def read(self, candidates: np.ndarray, prompts: np.ndarray) -> np.ndarray:
        """Effects [candidate, prompt] of these candidates on these prompts; exactly 0 where nothing reaches the answer.

        The unchanged run is one more entry of the sweep, so that what a change does not reach is the same to the last bit.
        """
        how = self.running
        whole = len(candidates) == self.n and len(prompts) == self.batch.n
        if not (whole or how.dry_run or how.store is not None or how.workers not in (None, "local")):
            changed = read_some(self.plan, np.append(candidates, self.n), prompts, progress=how.progress, title=self.title)
            return self.sign * (changed[-1] - changed[:-1])
        ordered = np.sort(prompts)
        some = self.batch if len(prompts) == self.batch.n else self.batch.subset(ordered.tolist())
        lists = [*self.interventions(candidates), *([] if self.running.dry_run else [()])]
        changed = sweep(self.model, some, lists, on=self.on, metric=self.metric, running=self.running, title=self.title,
                        may_be_identity=len(candidates) < self.n)
        return (self.sign * (changed[-1] - changed[:-1]))[:, np.searchsorted(ordered, prompts)]

    def scores(self, table: np.ndarray) -> np.ndarray:
        """A table as the values of a measure: [layer, head, prompt, *axes], NaN where a prompt has no such place."""
        return spread(list(table.reshape(*self.shape, self.batch.n)), self.found, self.axes)

    def table(self, values: np.ndarray) -> np.ndarray:
        """The values of a measure as a table [candidate, prompt]: the inverse of ``scores``."""
        ordered = np.moveaxis(values, -1, 0) if self.axes else values[None]
        return ordered.reshape(self.n, self.batch.n)


def head_table(model: Any, batch: Any, change: Change, *, what: str, stack: Stack, positions: Positions, on: str, sign: int,
               metric: Any, running: Running, title: str) -> HeadTable:
    """The table of the effects of ``change`` on each head, at the places that ``positions`` asks for; nothing is swept."""
    axes, found = places(model, batch, side(sides(model, batch), on), positions, Site(what, 0, stack.attention))
    bases = baselines(model, batch, metric, running.batch_size)
    return HeadTable(model, batch, change, what, stack, on, sign, metric, axes, found, bases, running, title)

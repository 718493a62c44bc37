"""A sweep as a plan: what it will cost is known before it starts, and what was finished is not lost when it stops.

``plan_sweep`` checks the lists of interventions and cuts the work into units (``interp.engine.passes``); ``Plan.cost`` says
how much work that is and about how long it takes here; ``Plan.run`` does it. With ``store=FOLDER`` every finished unit is
kept at once, and a second run of the same plan computes only the rest. With ``workers`` the units go to Ray actors; the
numbers are the same.

    plan = plan_sweep(model, batch, heads)
    print(plan.cost())
    values = plan.run(store="units").values
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from warnings import warn

import numpy as np

from interp.core.errors import InterpError
from interp.engine import unit_store
from interp.engine.forward import Interventions
from interp.engine.intervention import Intervention
from interp.engine.passes import Passes, Unit, open_passes
from interp.engine.plan_key import plan_key
from interp.engine.running import Say
from interp.engine.unit_bar import unit_bar
from interp.tasks.metrics import Metric, metric_of

Finished = tuple[Unit, np.ndarray, np.ndarray]
"""A unit, its metrics [metric, list, prompt] and what acted in it [list, prompt]."""


@dataclass(frozen=True)
class Cost:
    """What a plan costs.

    Attributes:
        lists, prompts: how many lists of interventions on how many prompts.
        units: units of work (a progress bar counts them; each is kept when it is finished).
        tokens: tokens that pass the whole network, a token that passes half of its layers counting one half.
        flops: floating-point operations that this takes.
        seconds: estimated time on this machine, without workers; None if it was not asked for.
        timed: the time measured that the estimate rests on, in seconds.
        why: why passes are whole rather than resumed where an intervention acts; empty where they are resumed.
    """

    lists: int
    prompts: int
    units: int
    tokens: float
    flops: float
    seconds: float | None = None
    timed: float | None = None
    why: str = ""

    def __str__(self) -> str:
        said = (f"{_count(self.lists, 'list')} of interventions on {_count(self.prompts, 'prompt')}: "
                f"{_count(self.units, 'unit')} of work, {self.tokens:,.0f} tokens through the whole network, "
                f"{self.flops / 1e12:,.3g} TFLOP")
        if self.why:
            said += f", in full passes ({self.why})"
        if self.seconds is None:
            return said
        return f"{said}; about {duration(self.seconds)} on this machine (an estimate from {duration(self.timed or 0)} of it)"


@dataclass(frozen=True)
class Sweep:
    """What a sweep gave.

    Attributes:
        values: metric per list of interventions and prompt, float64 [n_lists, n_prompts] ([n_metrics, n_lists, n_prompts]
            where several metrics were asked for).
        acted: whether anything in the list changed something in that prompt, bool [n_lists, n_prompts]. Where it is False,
            the metric is that of the untouched run.
        units: how many units of work there were; ``taken``: how many of them an earlier run had left in the store.
    """

    values: np.ndarray
    acted: np.ndarray
    units: int = 0
    taken: int = 0


@dataclass(frozen=True, eq=False)
class Plan:
    """A sweep that has been checked and cut into units, and not been run. Made by ``plan_sweep``.

    Attributes:
        model, batch, lists, on, metrics: what is asked.
        several: whether results have an axis of metrics.
        batch_size, memory: prompts and bytes that a pass may take at most; None: as the machine allows.
        passes: the units of work and what runs them.
    """

    model: Any
    batch: Any
    lists: tuple[tuple[Intervention, ...], ...]
    on: str
    metrics: tuple[Metric, ...]
    several: bool
    batch_size: int | None
    memory: int | None
    passes: Passes

    @property
    def units(self) -> tuple[Unit, ...]:
        """The units of work: together every list on every prompt, once."""
        return self.passes.units

    def key(self) -> str:
        """sha256 of everything that determines the numbers (see ``interp.engine.plan_key``)."""
        return plan_key(self.model, self.batch, self.lists, self.on, self.metrics)

    def cost(self, *, time: bool = True) -> Cost:
        """What the plan costs. ``time=False`` runs nothing; else some units are run and timed to estimate the whole."""
        tokens = sum(unit.tokens for unit in self.units) / max(self.model.n_layers, 1)
        flops = float(sum(unit.flops for unit in self.units))
        timed, seconds = _estimate(self.passes) if time else (None, None)
        return Cost(len(self.lists), self.batch.n, len(self.units), tokens, flops, seconds, timed, self.passes.why)

    def run(self, store: str | Path | None = None, workers: Any = None, progress: bool | None = None, *,
            title: str = "sweep", say: Say | None = None, may_be_identity: bool = False) -> Sweep:
        """Run every unit, or those that ``store`` does not hold yet, and put the results in the order of the lists.

        Args:
            store: folder that keeps each unit as soon as it is finished; units that an earlier run of the same plan left
                there are taken. A unit's file that is damaged, or is of another plan, is not used, and named.
            workers: None or ``"local"``: this process. A number or ``RayWorkers``: Ray actors (see
                ``interp.engine.distribute``); the numbers are the same.
            progress: a bar on stderr; None: where stderr is a terminal.
            say: called with what there is to say on the store; None: damaged files are warned of.
            may_be_identity: accept that nothing acts at all (a part of a larger sweep need not).

        Raises:
            InterpError: nothing acts in any prompt; the disk refuses a unit (those before it are kept).
        """
        kept = None if store is None else unit_store.UnitStore(Path(store), self.key())
        found = _stored(self, kept, say)
        values, acted, done = found.values, found.acted, found.done
        todo = [unit for unit in self.units if not done[np.ix_(unit.lists, unit.rows)].all()]
        taken = len(self.units) - len(todo)
        if taken and say:
            say(f"{title}: took {taken} of {_count(len(self.units), 'unit')} from an interrupted run")
        finished = taken
        with unit_bar(title, self.units, todo, progress) as advance, closing(_finished(self, todo, workers)) as results:
            try:
                for unit, numbers, moved in results:
                    at = np.ix_(unit.lists, unit.rows)
                    values[(slice(None), *at)], acted[at] = numbers, moved
                    if kept is not None:
                        unit_store.put(kept, unit.lists, unit.rows, numbers, moved)
                    finished += 1
                    advance(unit)
            except KeyboardInterrupt:
                if kept is not None and say:
                    say(f"{title}: interrupted; {finished} of {_count(len(self.units), 'unit')} are kept in {kept.folder}")
                raise
        if not (may_be_identity or acted.any()) and any(self.lists):
            raise InterpError(f"sweep over {len(self.lists)} interventions",
                              f"none of them changes anything in any prompt (run on {self.on})",
                              "check the source: clean and corrupted runs may not differ there")
        return Sweep(values if self.several else values[0], acted, len(self.units), taken)


def read_some(plan: Plan, lists: np.ndarray, prompts: np.ndarray, *, progress: bool | None = None,
              title: str = "sweep") -> np.ndarray:
    """Some lists on some prompts (indices) of a plan, here and now: [list, prompt] ([metric, list, prompt] for several).

    The plan stays open: what its opening found out is not found out again for the next ones.
    """
    units = plan.passes.some(lists, prompts)
    values = np.full((len(plan.metrics), len(plan.lists), plan.batch.n), np.nan)
    with unit_bar(title, units, units, progress) as advance:
        for unit in units:
            values[(slice(None), *np.ix_(unit.lists, unit.rows))] = plan.passes.run(unit)[0]
            advance(unit)
    found = values[(slice(None), *np.ix_(lists, prompts))]
    return found if plan.several else found[0]


def plan_sweep(model: Any, batch: Any, interventions: Sequence[Interventions], on: str = "clean", *, metric: Any = None,
               batch_size: int | None = None, memory: int | None = None) -> Plan:
    """The plan of a sweep over many lists of interventions: checked, cut into units, not run.

    Args:
        interventions: each entry one intervention or several that are active together: single heads, sets of heads,
            positions, q, k, v, z or pattern, whole circuits (``interp.engine.circuit_mask``).
        on: the side that is run, as for ``interp.engine.forward.run``.
        metric: None for the batch's own; a sequence of metrics gives the results one more leading axis.
        batch_size: prompts per pass at most. memory: bytes that a pass may take; None: measured.

    Raises:
        InterpError: no interventions; one that the model cannot have.
    """
    if not len(interventions):
        raise InterpError("sweep", "no interventions were given", "give at least one")
    several = isinstance(metric, list | tuple)
    metrics = tuple(_metric(one) for one in (metric if several else [metric or batch.metric]))
    passes = open_passes(model, batch, interventions, on, metrics, batch_size=batch_size, memory=memory)
    return Plan(model, batch, passes.lists, on, metrics, several, batch_size, memory, passes)


def duration(seconds: float) -> str:
    """A time in the unit that fits it: ``0.34 s``, ``45 s``, ``12 min``, ``3.5 h``."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _finished(plan: Plan, units: Sequence[Unit], workers: Any) -> Iterator[Finished]:
    if workers in (None, "local"):
        for unit in units:
            yield (unit, *plan.passes.run(unit))
    else:
        from interp.engine.distribute import run_units

        if units:
            yield from run_units(plan, units, workers)


def _stored(plan: Plan, kept: unit_store.UnitStore | None, say: Say | None) -> unit_store.Stored:
    """What an earlier run left; nothing, without a store."""
    shape = (len(plan.metrics), len(plan.lists), plan.batch.n)
    if kept is None:
        return unit_store.Stored(np.full(shape, np.nan), np.zeros(shape[1:], bool), np.zeros(shape[1:], bool), ())
    found = unit_store.read(kept, *shape)
    for line in found.bad:
        message = f"a stored unit is not used and computed again: {line}"
        if say:
            say(message)
        else:
            warn(message, stacklevel=3)
    return found


def _estimate(passes: Passes) -> tuple[float, float]:
    """Seconds measured, and seconds that all units would take.

    A cheap unit warms up; then the unit of median cost is timed (the cheap one, where that would take long).
    """
    units = sorted(passes.units, key=lambda unit: unit.flops)
    real = [unit for unit in units if unit.flops > 0] or units
    middle = real[len(real) // 2]
    cheap = next(unit for unit in real if unit.rows == middle.rows)
    first = _seconds(passes, cheap)
    chosen = middle if first * middle.flops < 20 * cheap.flops else cheap
    spent = _seconds(passes, chosen)
    share = sum(unit.flops for unit in units) / chosen.flops if chosen.flops else len(units)
    return spent, spent * share


def _seconds(passes: Passes, unit: Unit) -> float:
    start = time.perf_counter()
    passes.run(unit)
    return time.perf_counter() - start


def _metric(metric: Any) -> Metric:
    """A metric by name, itself, or any function (logits, batch) -> one number per prompt."""
    if isinstance(metric, str | Metric):
        return metric_of(metric)
    name = getattr(metric, "__name__", type(metric).__name__)
    return Metric(name, "", "", metric, needs_wrong=False)


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}" + ("" if n == 1 else "s")

"""How good is a circuit? Its behaviour by itself, what the rest does without it, curves over sizes, controls.

    found = interp.discovery.judge(model, unseen, circuit)              # other prompts than it was found on
    found.faithfulness, found.interval                                  # share of the behaviour that it carries by itself

With m the mean over prompts of the metric, C the circuit, M all edges, ∅ none (all else ablated)::

    faithfulness(C) = (m(C) − m(∅)) / (m(M) − m(∅))                     1 = as the model, 0 = as nothing; above 1 is too much
    completeness(C) = 1 − (m(M \\ C) − m(∅)) / (m(M) − m(∅))             1 = what is left does nothing of it

A ratio of means, never a mean of ratios: one prompt with a small denominator would decide it. Sources: Wang et al. 2022;
Marks et al. 2024 (faithfulness and completeness as here); Mueller et al. 2025 (CPR, CMD).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from interp.core.circuit import Circuit
from interp.core.errors import InterpError
from interp.core.hypotheses import Test, equivalence, independence, minimality
from interp.core.intervals import bootstrap
from interp.core.provenance import plain
from interp.discovery.graph import edges_of, mask_of
from interp.discovery.selection import choose
from interp.engine.edge_circuits import Ablation, run_masks
from interp.engine.edges import Edges, EdgeScores
from interp.tasks.metrics import Metric

FRACTIONS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
WORST = 0.05


@dataclass(frozen=True, eq=False)
class Judgement:
    """What a circuit does on some prompts.

    Attributes:
        size, n_edges: edges in the circuit, and in the model.
        circuit, rest, whole, empty: the metric of each prompt with the circuit alone, without it, with all edges, with none.
        ablation, metric: what stands outside the circuit, and what is measured.
        warnings: what makes these numbers say less than they seem to.
        confidence: of the intervals.
    """

    size: int
    n_edges: int
    circuit: np.ndarray
    rest: np.ndarray
    whole: np.ndarray
    empty: np.ndarray
    ablation: str
    metric: str
    warnings: tuple[str, ...] = ()
    confidence: float = 0.95

    @property
    def n(self) -> int:
        """Number of prompts."""
        return len(self.circuit)

    @property
    def gap(self) -> float:
        """m(M) − m(∅): what there is to explain, in units of the metric."""
        return float((self.whole - self.empty).mean())

    @property
    def faithfulness(self) -> float:
        """Share of the gap that the circuit carries by itself."""
        return float((self.circuit - self.empty).mean() / self.gap)

    @property
    def interval(self) -> tuple[float, float]:
        """Paired bootstrap interval of the faithfulness over prompts."""
        return self._interval(self.circuit - self.empty)

    @property
    def completeness(self) -> float:
        """1 less the share of the gap that is left without the circuit."""
        return 1 - float((self.rest - self.empty).mean() / self.gap)

    @property
    def completeness_interval(self) -> tuple[float, float]:
        """Its paired bootstrap interval."""
        low, high = self._interval(self.rest - self.empty)
        return 1 - high, 1 - low

    @property
    def worst(self) -> float:
        """Mean distance |m(C) − m(M)| on the worst 5 % of prompts (at least one), as a share of the gap."""
        off = np.sort(np.abs(self.circuit - self.whole))[::-1]
        return float(off[: max(1, round(WORST * self.n))].mean() / abs(self.gap))

    def equivalent(self, margin: float = 0.1, level: float = 0.05) -> Test:
        """Is the circuit's mean within ``margin`` (a share of the gap) of the model's?"""
        return equivalence(self.circuit, self.whole, margin * abs(self.gap), level=level)

    def independent(self, level: float = 0.05, seed: int = 0) -> Test:
        """Does what is left without the circuit still depend on the model's metric?"""
        return independence(self.rest, self.whole, level=level, seed=seed)

    def summary(self) -> dict[str, Any]:
        """The numbers by name, for tables and JSON."""
        low, high = self.interval
        below, above = self.completeness_interval
        return {"edges": self.size, "share": self.size / self.n_edges, "faithfulness": self.faithfulness, "low": low,
                "high": high, "completeness": self.completeness, "completeness_low": below, "completeness_high": above,
                "worst_5_percent": self.worst, "circuit": float(self.circuit.mean()), "whole": float(self.whole.mean()),
                "empty": float(self.empty.mean()), "n": self.n, "ablation": self.ablation, "metric": self.metric,
                "warnings": list(self.warnings)}

    def _interval(self, part: np.ndarray) -> tuple[float, float]:
        low, high = bootstrap(part[:, None], (self.whole - self.empty)[:, None], confidence=self.confidence)
        return float(low[0]), float(high[0])


def judge(model: Any, batch: Any, circuit: Circuit | np.ndarray, *, ablation: Ablation = "resample",
          metric: str | Metric | None = None, confidence: float = 0.95) -> Judgement:
    """Judge one circuit (or a mask [edge]) on a batch.

    Raises:
        InterpError: the circuit is not of this model; ``resample`` of unaligned prompts.
    """
    return judge_all(model, batch, [circuit], ablation=ablation, metric=metric, confidence=confidence)[0]


def judge_all(model: Any, batch: Any, circuits: Sequence[Circuit | np.ndarray], *, ablation: Ablation = "resample",
              metric: str | Metric | None = None, confidence: float = 0.95) -> list[Judgement]:
    """Judge many circuits in shared passes, in their order."""
    edges = edges_of(model)
    masks = np.array([mask_of(edges, one) if isinstance(one, Circuit) else np.asarray(one, dtype=bool) for one in circuits])
    if masks.ndim != 2 or masks.shape[1] != len(edges):
        raise InterpError(f"judge masks of shape {masks.shape}", f"the model has {len(edges)} edges", "give [circuit, edge]")
    n, ends = len(masks), np.array([np.ones(len(edges), dtype=bool), np.zeros(len(edges), dtype=bool)])
    found = run_masks(model, batch, np.concatenate([masks, ~masks, ends]), ablation=ablation, metric=metric)
    name = getattr(batch.metric if metric is None else metric, "name", str(metric))
    return [Judgement(int(mask.sum()), len(edges), found[i], found[n + i], found[-2], found[-1], ablation, name,
                      warnings_of(circuits[i], batch, ablation, found[-2], found[-1]), confidence)
            for i, mask in enumerate(masks)]


def curve(model: Any, batch: Any, scores: EdgeScores, *, fractions: Sequence[float] = FRACTIONS, how: str = "top",
          by: str = "size", ablation: Ablation = "resample", metric: str | Metric | None = None) -> pd.DataFrame:
    """Faithfulness of the best edges at growing sizes: a row per fraction, with its nominal and its realised share."""
    n = len(scores.edges)
    sizes = [max(1, round(fraction * n)) for fraction in fractions]
    masks = [choose(scores, size, how=how, by=by) for size in sizes]
    rows = [one.summary() for one in judge_all(model, batch, masks, ablation=ablation, metric=metric)]
    return pd.DataFrame(rows).assign(fraction=list(fractions))


def cpr(found: pd.DataFrame) -> float:
    """Area under faithfulness over the nominal fractions, from the first to 1 (MIB's CPR). Unbounded above: a circuit that
    leaves out what works against the behaviour exceeds 1, which is no merit."""
    return float(np.trapezoid(found["faithfulness"], found["fraction"]))


def cmd(found: pd.DataFrame) -> float:
    """Area of |1 − faithfulness| over the nominal fractions (MIB's CMD): 0 = like the model at every size."""
    return float(np.trapezoid((1 - found["faithfulness"]).abs(), found["fraction"]))


def random_like(edges: Edges, mask: np.ndarray, n: int, seed: int = 0) -> np.ndarray:
    """Random circuits matched to one: as many edges of each kind from each layer to each layer, [n, edge]."""
    random = np.random.default_rng(seed)
    senders, receivers = edges.senders, edges.receivers
    group = np.stack([senders.kind[edges.sender], senders.layer[edges.sender], receivers.kind[edges.receiver],
                      receivers.layer[edges.receiver]], axis=1)
    _, kind = np.unique(group, axis=0, return_inverse=True)
    drawn = np.zeros((n, len(edges)), dtype=bool)
    for one in np.unique(kind[mask]):
        members = np.flatnonzero(kind == one)
        for row in drawn:
            row[random.choice(members, int(mask[members].sum()), replace=False)] = True
    return drawn


def minimal(model: Any, batch: Any, circuit: Circuit | np.ndarray, *, n_random: int = 299, ablation: Ablation = "resample",
            metric: str | Metric | None = None, level: float = 0.05, seed: int = 0) -> pd.DataFrame:
    """Which edges does the circuit need? A row per edge: its effect, its Holm-adjusted p, whether it is needed.

    effect = mean |m(C) − m(C without the edge)|. The reference are edges put in at random: ``n_random`` times the circuit is
    inflated by random edges from outside (up to its own size), and one of these is taken out again. With E edges no p is
    below E / (n_random + 1).
    """
    edges = edges_of(model)
    mask = mask_of(edges, circuit) if isinstance(circuit, Circuit) else np.asarray(circuit, dtype=bool)
    inside, outside = np.flatnonzero(mask), np.flatnonzero(~mask)
    if not len(inside) or not len(outside):
        raise InterpError("test which edges are needed", f"the circuit has {len(inside)} of {len(edges)} edges",
                          "take one that has some edges and not all")
    if len(inside) / (n_random + 1) > level:
        raise InterpError(f"test {len(inside)} edges against {n_random} random ones",
                          f"no edge could have a p of {level} after correction for so many",
                          f"draw {round(len(inside) / level)} or more")
    random = np.random.default_rng(seed)
    without = np.repeat(mask[None], len(inside), axis=0)
    without[np.arange(len(inside)), inside] = False
    inflated, reduced = np.repeat(mask[None], n_random, axis=0), np.repeat(mask[None], n_random, axis=0)
    for more, less in zip(inflated, reduced, strict=True):
        added = random.choice(outside, random.integers(1, min(len(inside), len(outside)) + 1), replace=False)
        more[added] = True
        less[added[1:]] = True
    masks = np.concatenate([mask[None], without, inflated, reduced])
    found = run_masks(model, batch, masks, ablation=ablation, metric=metric)
    base, changed, more, less = np.split(found, [1, 1 + len(inside), 1 + len(inside) + n_random])
    effects = np.abs(changed - base).mean(1)
    p, needed = minimality(effects, np.abs(more - less).mean(1), level=level)
    return pd.DataFrame({"edge": edges.names(inside), "effect": effects, "p": p, "needed": needed})


def warnings_of(circuit: Circuit | np.ndarray, batch: Any, ablation: str, whole: np.ndarray, empty: np.ndarray
                ) -> tuple[str, ...]:
    """What makes the faithfulness of a circuit on these prompts say less than it seems to."""
    found = []
    if len(whole) > 1 and abs((whole - empty).mean()) < 2 * (whole - empty).std(ddof=1) / np.sqrt(len(whole)):
        found.append("there is hardly anything to explain: the whole model and the empty circuit differ by less than two "
                     "standard errors")
    if isinstance(circuit, Circuit):
        made = circuit.provenance
        scored = dict(made.get("options", {})).get("ablation", made.get("ablation"))
        scored = scored or ("resample" if made.get("method") else None)
        if scored and scored != ablation:
            found.append(f"found under {scored} ablation, judged under {ablation}")
        task = made.get("task")
        if task and plain(task, "task") == plain(batch.provenance_dict(), "task"):
            found.append("judged on the prompts it was found on")
    return tuple(found)

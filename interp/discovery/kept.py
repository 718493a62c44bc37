"""The faithfulness of the edges that thresholds keep, as often as it is asked for.

    measure = interp.discovery.kept.kept(model, batch, circuit)
    measure([0.05])           # the edges of the circuit whose score is 0.05 or more in size, by themselves

The stand-ins of all other edges, the whole model and the empty circuit are computed once; the same set of edges, whatever
threshold leads to it, is run once; several sets share passes. Faithfulness and its interval as in
``interp.discovery.judgement``.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from interp.core.circuit import Circuit, Edge, Node
from interp.core.errors import InterpError
from interp.core.intervals import bootstrap
from interp.discovery.graph import edges_of, mask_of
from interp.discovery.judgement import warnings_of
from interp.discovery.node_scores import NodeScores
from interp.engine.edge_circuits import Ablation, open_masks
from interp.engine.edges import EdgeScores
from interp.tasks.metrics import Metric


@dataclass(frozen=True)
class Kept:
    """What the edges above a threshold do by themselves.

    Attributes:
        threshold: smallest size of a score that is kept; edges without a score are kept always.
        edges: how many edges of the model are kept.
        faithfulness, low, high: share of the behaviour, with its bootstrap interval over the ``n`` prompts (NaN of one).
        ablation, metric: what stands outside, and what is measured. task: of which the prompts are.
        warnings: what makes these numbers say less than they seem to.
    """

    threshold: float
    edges: int
    faithfulness: float
    low: float
    high: float
    n: int
    ablation: str
    metric: str
    task: str
    warnings: tuple[str, ...] = ()


def kept(model: Any, batch: Any, shown: Circuit | EdgeScores | NodeScores, *, scores: Mapping[Edge, float] | None = None,
         ablation: Ablation = "resample", metric: str | Metric | None = None) -> Callable[[Sequence[float]], list[Kept]]:
    """A function of thresholds that measures what each keeps; nothing is run before it is called.

    Args:
        shown: a circuit (kept are edges of it alone), or the scores of all edges.
        scores: of the circuit's edges without positions; edges that are not among them are always kept.
        ablation, metric: as in ``judge``.

    Raises:
        InterpError: the circuit is not of this model; when called, as ``run_masks``.
    """
    edges = edges_of(model)
    sizes = _sizes(model, shown, scores)
    circuit = shown if isinstance(shown, Circuit) else Circuit(provenance=_made(shown))
    known: dict[bytes, Kept] = {}
    opened: list[Any] = []
    name = getattr(batch.metric if metric is None else metric, "name", str(metric))

    def measure(thresholds: Sequence[float]) -> list[Kept]:
        masks = {at: sizes >= at for at in thresholds}
        new = {mask.tobytes(): mask for mask in masks.values() if mask.tobytes() not in known}
        if new:
            if not opened:
                run = open_masks(model, batch, ablation=ablation, metric=metric)
                opened.extend([run, *run(np.array([np.ones(len(edges)), np.zeros(len(edges))]))])
            run, whole, empty = opened
            if not (gap := float((whole - empty).mean())):
                raise InterpError("measure the faithfulness of edges", "the model does the same without any edge",
                                  "choose prompts on which the behaviour shows")
            warnings = warnings_of(circuit, batch, ablation, whole, empty)
            for (key, mask), part in zip(new.items(), run(np.array(list(new.values()))) - empty, strict=True):
                low, high = bootstrap(part[:, None], (whole - empty)[:, None])
                known[key] = Kept(0.0, int(mask.sum()), float(part.mean()) / gap, float(low[0]), float(high[0]), len(part),
                                  ablation, name, str(batch.task), warnings)
        return [replace(known[masks[at].tobytes()], threshold=at) for at in thresholds]

    return measure


def thresholds(sizes: Sequence[float], most: int = 24) -> list[float]:
    """Thresholds at which at most ``most`` different numbers of edges are kept, from all to one, evenly by ratio."""
    ordered = sorted((size for size in sizes if math.isfinite(size)), reverse=True)
    if not ordered:
        return [0.0]
    ranks = np.unique(np.geomspace(1, len(ordered), most).round().astype(int))
    return list(dict.fromkeys(ordered[rank - 1] for rank in reversed(ranks)))


def _sizes(model: Any, shown: Circuit | EdgeScores | NodeScores, scores: Mapping[Edge, float] | None) -> np.ndarray:
    """Size of each edge's score, [edge]: infinite where it is always kept, -infinite where never."""
    edges = edges_of(model)
    if not isinstance(shown, Circuit):
        mean = (shown.to_edges() if isinstance(shown, NodeScores) else shown).mean()
        if len(mean) != len(edges):
            raise InterpError("run the edges of these scores", f"they are {len(mean)}, the model has {len(edges)}",
                              "give the model that was scored")
        return np.where(np.isfinite(mean), np.abs(mean), -np.inf)
    if not shown.edges:
        return np.where(mask_of(edges, shown), np.inf, -np.inf)
    index = {edge: i for i in range(len(edges)) for edge in edges.edges(i)}
    mask_of(edges, shown)      # refuses what the model does not have
    sizes = np.full(len(edges), -np.inf)
    for edge in shown.edges:
        source, target = (Node(one.kind, one.layer, one.head, one.attention) for one in (edge.source, edge.target))
        given = (scores or {}).get(Edge(source, target, edge.input))
        size = math.inf if given is None or not math.isfinite(given) else abs(given)
        inputs = {"head": ("q", "k", "v"), "mlp": ("mlp",), "logits": ("out",)}[target.kind]
        for name in inputs if edge.input is None else (edge.input,):
            at = index[Edge(source, target, name)]
            sizes[at] = max(sizes[at], size)
    return sizes


def _made(scores: EdgeScores | NodeScores) -> dict[str, Any]:
    """What a circuit of these scores would tell of how it was made."""
    made = scores.provenance
    return {"method": made.measure, "options": dict(made.options), "task": dict(made.task)}

"""Cheap scores at both ends and along the path between, then exact patching of the top and of a sample of the rest."""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from interp.core.unseen import most_unseen_of_strata
from interp.discovery.both import larger
from interp.discovery.method import method
from interp.engine.edge_attribution import edge_attribution
from interp.engine.edge_patching import edge_patching
from interp.engine.edge_paths import integrated_edges
from interp.engine.edges import RECEIVERS, Edges, EdgeScores
from interp.engine.running import Running
from interp.tasks.metrics import Metric

SOURCES = ("eap noising", "eap denoising", "mask_ig", "exact noising", "exact denoising")


@method(
    sense="larger in size = matters more; of each edge the score whose mean over prompts is largest in size",
    formula="max by size of EAP at the clean run, EAP at the corrupted run and mask-path IG, the path halved until it adds "
            "up; for the edges that are checked: of exact noising and denoising",
    source="ours, of Syed et al. 2023, Miller et al. 2024 and the verification of Kramár et al. 2024 (AtP*)",
    does_not_show=(
        "Whether unchecked edges matter: notes['missed_at_most'] bounds how many may. What sets of edges do together: "
        "judge the circuit that is selected. Scores of unchecked edges are estimates."
    ),
    cost="two EAPs, the gradients of mask_ig, and 2 · share of all edges patched exactly (from the receiver's layer on)",
)
def verified(model: Any, batch: Any, *, share: float = 0.03, sample: float = 1 / 3, confidence: float = 0.95, steps: int = 4,
             tolerance: float = 0.01, budget: int = 64, seed: int = 0, metric: str | Metric | None = None,
             batch_size: int | None = None, progress: bool | None = None, running: Running | None = None) -> EdgeScores:
    """Scores that are cheap, complete and checked: the default.

    ``notes``: ``source`` [edge] names what each edge's score is; ``exact`` the edges that were patched; ``sampled`` those of
    them that were drawn at random among the rest, in proportion from every kind of receiver; ``threshold`` the smallest
    exact effect (mean, in size) among the best that were checked; ``missed_at_most`` an upper limit, at ``confidence``, on
    how many unchecked edges have a larger exact effect than any that was sampled, and ``sampled_largest`` that effect;
    ``residual``, ``difference``, ``complete`` per prompt as of ``mask_ig``.

    Args:
        share: of all edges, how many are patched exactly, in both directions (0: none, and no bound).
        sample: the part of these that is drawn from the rest.
    """
    directions = [edge_attribution(model, batch, direction=way, metric=metric, batch_size=batch_size)
                  for way in ("noising", "denoising")]
    path = integrated_edges(model, batch, "mask", metric=metric, steps=steps, tolerance=tolerance, budget=budget,
                            batch_size=batch_size)
    candidates = [directions[0].values, directions[1].values, path.values]
    values = np.stack(candidates)
    source = np.abs(values.mean(2)).argmax(0)
    values = np.take_along_axis(values, source[None, :, None], axis=0)[0].copy()
    top, drawn, strata = _chosen(path.edges, np.abs(values.mean(1)), share, sample, np.random.default_rng(seed))
    notes: dict[str, Any] = dict(path.notes)
    notes |= {"exact": top + drawn, "sampled": drawn, "threshold": math.nan, "missed_at_most": len(values) - len(top),
              "sampled_largest": math.nan}
    if top or drawn:
        options = {"metric": metric, "batch_size": batch_size, "progress": progress, "running": running}
        at = np.array(top + drawn)
        exact = [edge_patching(model, batch, at, direction=way, **options).values[at] for way in ("noising", "denoising")]
        values[at], _ = larger(*exact)
        source[at] = 3 + np.abs(np.stack(exact).mean(2)).argmax(0)
        size = np.abs(values.mean(1))
        notes["threshold"] = float(size[top].min()) if top else math.nan
        if drawn:
            notes["sampled_largest"] = float(size[drawn].max())
            notes["missed_at_most"] = most_unseen_of_strata(*zip(*strata, strict=True), confidence)
    notes["source"] = [SOURCES[i] for i in source]
    return replace(path, values=values, notes=notes, provenance=replace(path.provenance, direction=None))


def _chosen(edges: Edges, size: np.ndarray, share: float, sample: float, random: np.random.Generator
            ) -> tuple[list[int], list[int], list[tuple[int, int]]]:
    """The edges to check: the best, some of the rest, and how many of each kind there are among these and were drawn."""
    budget = int(share * len(edges))
    n_drawn = min(round(sample * budget), len(edges) - budget)
    order = np.argsort(-size, kind="stable")
    top, rest = order[: budget - n_drawn], order[budget - n_drawn:]
    kinds = edges.receivers.kind[edges.receiver[rest]]
    groups = [random.permutation(rest[kinds == kind]) for kind in range(len(RECEIVERS)) if (kinds == kind).any()]
    exact = np.array([len(group) for group in groups]) * n_drawn / len(rest)
    counts = np.floor(exact).astype(int)
    for group in np.argsort(counts - exact, kind="stable")[: n_drawn - int(counts.sum())]:
        counts[group] += 1
    drawn = [int(i) for group, count in zip(groups, counts, strict=True) for i in group[:count]]
    return top.tolist(), drawn, [(len(group), int(count)) for group, count in zip(groups, counts, strict=True)]

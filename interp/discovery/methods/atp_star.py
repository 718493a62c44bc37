"""AtP*: attribution patching of nodes with the softmax recomputed for queries and keys, and with GradDrop."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from interp.discovery.graph import edges_of
from interp.discovery.method import method
from interp.discovery.node_scores import NodeScores
from interp.engine.edge_attribution import check_options, provenance
from interp.engine.edges import SENDERS, Edges
from interp.engine.forward import measured, run
from interp.engine.grad_drop import Dropped, dropped_gradients
from interp.engine.prompts import chunks, side, sides
from interp.measures.attribution_patching import Part, double, patched
from interp.measures.softmax_correction import whole
from interp.models.backend import Stack
from interp.models.sites import Site
from interp.tasks.metrics import Metric, metric_of

PARTS = ("z", "q", "k", "v")


@method(
    level="nodes",
    sense="larger = matters more; sizes with grad_drop, signed (as patching in the same direction) without",
    formula="Σ over layers l |(node's output clean − corrupt) · slope with l cut off the backward pass| / (L − 1); q and k: "
            "change of the pattern, recomputed with the other run's q or k, times the slope at the pattern",
    source="Kramár et al. 2024 (AtP*)",
    does_not_show=(
        "Signs (GradDrop takes sizes). What a saturated MLP hides: only the softmax is recomputed. A node whose direct and "
        "indirect effects truly cancel scores high; patching it changes nothing."
    ),
    cost="two forward passes, L + 1 backward passes, and two forward passes each for q and k",
)
def atp_star(model: Any, batch: Any, *, direction: Literal["noising", "denoising"] = "noising", qk_fix: bool = True,
             grad_drop: bool = True, metric: str | Metric | None = None, batch_size: int | None = None) -> NodeScores:
    """AtP with QK-fix and GradDrop; a head counts as the largest of its output, query, key and value.

    ``notes`` hold the four as ``z``, ``q``, ``k`` and ``v``, each [layer, head, prompt]; of keys and values that heads share
    each head of the group has the whole. A node's sums over positions are taken before the size.

    Args:
        qk_fix: recompute the softmax for q and k; without it they are linearised.
        grad_drop: cut each layer off the backward pass in turn and add up sizes (a model of one layer has nothing to cut:
            the size of the plain estimate); without it the plain estimate with its sign.
    """
    check_options(batch, direction)
    edges, of_run = edges_of(model), batch.metric if metric is None else metric_of(metric)
    on, source = ("clean", "corrupt") if direction == "noising" else ("corrupt", "clean")
    values, notes = np.empty((len(edges.senders), batch.n)), {}
    baselines = {"clean": np.empty(batch.n), "corrupt": np.empty(batch.n)}
    stack = model.stacks[0]
    for rows in chunks(model, side(sides(model, batch), on), batch_size, graph=True):
        part = batch.subset(rows.tolist())
        heads, others, metrics = _scores(model, part, stack, edges, on, source, of_run, qk_fix, grad_drop)
        values[np.ix_(edges.senders.kind != SENDERS.index("head"), rows.numpy())] = others
        for name, found in heads.items():
            notes.setdefault(name, np.empty((stack.n_layers, stack.n_heads, batch.n)))[..., rows.numpy()] = found
        for name in baselines:
            baselines[name][rows.numpy()] = metrics[name]
    stacked = np.stack([notes[name] for name in PARTS])
    largest = np.abs(stacked.mean(-1)).argmax(0)
    values[edges.senders.kind == SENDERS.index("head")] = np.take_along_axis(
        stacked, largest[None, ..., None], 0)[0].reshape(-1, batch.n)
    made = provenance(model, batch, "atp_star", {}, of_run, direction, baselines)
    return NodeScores(edges, values, made, baselines, notes)


def _scores(model: Any, batch: Any, stack: Stack, edges: Edges, on: str, source: str, metric: Metric, qk_fix: bool,
            grad_drop: bool) -> tuple[dict[str, np.ndarray], np.ndarray, dict[str, np.ndarray]]:
    """Scores of the parts of every head [layer, head, prompt], those of embedding and MLPs [node, prompt], both metrics."""
    def sites(what: str) -> list[Site]:
        return [Site(what, layer, stack.attention) for layer in range(stack.n_layers)]

    with_mlp = edges.senders.layer[edges.senders.kind == SENDERS.index("mlp")]
    mlps = [Site("mlp_write", int(layer), stack.attention) for layer in with_mlp]
    plain = [sites("resid_pre")[0], *mlps, *(site for name in ("z", "v") for site in sites(name))]
    plain += [] if qk_fix else [site for name in ("q", "k") for site in sites(name)]
    here = dropped_gradients(model, batch, [*plain, *(sites("pattern") if qk_fix else [])], on, metric, stack.attention)
    there = run(model, batch, (), plain, on=source, batch_size=batch.n)
    sign = 1.0 if on == "corrupt" else -1.0

    def linear(site: Site) -> Tensor:
        change = double(there.captured[site]) - double(here.activations[site])
        return _combined(here, grad_drop, lambda slopes: sign * _summed(change * double(slopes[site]), site))

    heads = {name: torch.stack([_by_query_head(linear(site), stack) for site in sites(name)])
             for name in (("z", "v") if qk_fix else PARTS)}
    for name in ("q", "k") if qk_fix else ():
        heads[name] = _through_pattern(model, batch, stack, on, source, metric, name, here, grad_drop, sign)
    others = torch.stack([linear(site) for site in plain[:1 + len(mlps)]])
    metrics = {on: here.metric, source: measured(there.logits, batch, metric)}
    return {name: found.numpy() for name, found in heads.items()}, others.numpy(), metrics


def _through_pattern(model: Any, batch: Any, stack: Stack, on: str, source: str, metric: Metric, name: str, here: Dropped,
                     grad_drop: bool, sign: float) -> Tensor:
    """Change of the pattern with the other run's q or k, times the slope at the pattern: [layer, head, prompt]."""
    part = Part(model, batch, name, stack, on, source, metric, ())
    patterns = part.sites("pattern")
    _, moved = patched(part, {site: here.activations[site] for site in patterns})
    layers = []
    for site in patterns:
        real = part.rows(moved[site].shape[2])

        def through(slopes: Mapping[Site, Tensor], site: Site = site, real: Tensor = real) -> Tensor:
            by_row = whole(double(here.activations[site]), double(moved[site]), double(slopes[site]))      # [n, head, query]
            return sign * (by_row * real[:, None]).sum(-1).T

        layers.append(_combined(here, grad_drop, through))
    made = torch.stack(layers)
    return made if name == "q" else _shared(made, stack)


def _combined(here: Dropped, grad_drop: bool, score: Any) -> Tensor:
    """The plain estimate, or sizes with each layer cut off added up."""
    cut = here.gradients[1:]
    if not grad_drop:
        return score(here.gradients[0])
    if len(cut) == 1:
        return score(here.gradients[0]).abs()
    return sum(score(slopes).abs() for slopes in cut) / (len(cut) - 1)


def _summed(products: Tensor, site: Site) -> Tensor:
    """Sum over tokens and components: [head, prompt], or [prompt] of a residual site."""
    return products.sum((1, 3)).T if site.head_axis is not None else products.sum((1, 2))


def _by_query_head(scores: Tensor, stack: Stack) -> Tensor:
    """Scores of key-value heads [kv head, prompt] for each query head that shares them."""
    return scores if len(scores) == stack.n_heads else scores.repeat_interleave(stack.group, 0)


def _shared(scores: Tensor, stack: Stack) -> Tensor:
    """Heads that share keys act together: each has the sum over its group, [layer, head, prompt]."""
    return scores.unflatten(1, (stack.n_kv_heads, stack.group)).sum(2).repeat_interleave(stack.group, 1)

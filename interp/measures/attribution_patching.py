"""Attribution patching (AtP): the first-order estimate of activation patching, all heads from one gradient."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.engine.activations import activations
from interp.engine.gradients import gradients
from interp.engine.prompts import Prompts, chunks, side, sides
from interp.measures.each_head import baselines, count, metric_of_run, units
from interp.measures.measure import Measured, measure
from interp.measures.positions import Place, places, tokens
from interp.measures.softmax_correction import mixed_keys, one_key_at_a_time, whole
from interp.models.backend import Stack
from interp.models.sites import Site
from interp.tasks.metrics import Metric


@measure(
    sense="larger = matters more, as activation patching of the same direction, which it estimates to first order",
    formula=(
        "noising: −Σ (a_corrupt − a_clean) · ∂metric/∂a at clean; denoising: Σ (a_clean − a_corrupt) · ∂metric/∂a at "
        "corrupt; sums over tokens and components; q and k with qk_fix: the same with a = pattern, recomputed with the "
        "patched q or k"
    ),
    source="Nanda 2023 (attribution patching); Syed et al. 2023; softmax correction for q and k: Kramár et al. 2024 (AtP*)",
    does_not_show=(
        "It is an estimate: where the metric saturates, or where a head acts through several paths that cancel, the "
        "gradient is small and the head is missed. Verify the heads it finds, and a sample of those it does not, by "
        "activation patching."
    ),
    cost=(
        "one forward and backward pass and one forward pass of the other prompts; one more forward pass with qk_fix; two "
        "for the baselines"
    ),
)
def attribution_patching(
    model: Any,
    batch: Any,
    *,
    component: Literal["z", "q", "k", "v", "pattern"] = "z",
    direction: Literal["noising", "denoising"] = "noising",
    positions: str | tuple[str, ...] | None = None,
    qk_fix: bool = True,
    attention: str | None = None,
    metric: str | Metric | None = None,
    batch_size: int | None = None,
    progress: Any = None,
) -> Measured:
    """First-order estimate of activation patching: activation difference times gradient of the metric.

    ``values[layer, head, prompt]`` in units of the metric; sign, direction, positions and units as ``activation_patching``.
    Exact where the metric is linear in the activation.

    With ``qk_fix`` (queries and keys only) the softmax is not linearised: the pattern is recomputed with the other run's q
    (or k) and everything else unchanged, and the change of the *pattern* is multiplied by the gradient at the pattern. For
    keys of grouped attention the change goes through every query head of the group. With ``positions``, keys are patched
    at those tokens alone and every row that sees them is recomputed.

    Args:
        component: ``z``, ``q``, ``k``, ``v`` or ``pattern``; k and v count key-value heads.
        positions: None (all tokens at once), ``"each"``, a named span, or several in turn; for patterns the querying rows.
        qk_fix: the softmax correction for ``q`` and ``k``; without it q and k are linearised like the others.
        attention: ``self``, ``encoder``, ``cross`` or ``vision``; None: the model's main attention.
        metric: None: the batch's. It must be differentiable.
        batch_size: prompts per pass; changes no number. progress: shown while running.

    Raises:
        InterpError: clean and corrupted prompts are not aligned; unknown option.
    """
    if not batch.aligned:
        raise InterpError(
            "estimate patching by gradients",
            f"clean and corrupted prompts of {batch.task} are not aligned token by token",
            "use prompts of equal length, or activation_patching at the position 'end'",
        )
    stack, measured = model.stack(attention), metric_of_run(batch, metric)
    fixed = qk_fix and component in ("q", "k")
    on, source = ("clean", "corrupt") if direction == "noising" else ("corrupt", "clean")
    runs = sides(model, batch)
    axes, found = places(batch, runs[on], positions, stack.attention)
    estimate = _through_pattern if fixed else _linear
    values = np.full((len(found), stack.n_layers, count(stack, component), batch.n), np.nan)
    for rows in chunks(model, runs[on], batch_size, graph=True):
        part = batch.subset(rows.tolist())
        changes = estimate(model, part, component, stack, on, source, measured, found, positions == "each")
        values[..., rows.numpy()] = changes
    exists = np.stack([place.exists for place in found])
    values = np.where(exists[:, None, None, :], values if direction == "denoising" else -values, np.nan)
    bases = baselines(model, batch, measured, batch_size)
    return Measured(
        values=np.moveaxis(values, 0, -1) if axes else values[0],
        axes=axes,
        baselines=bases,
        normalizer=bases["clean"] - bases["corrupt"],
        metric=measured.name,
        **units(stack, component),
    )


def _linear(
    model: Any,
    batch: Any,
    component: str,
    stack: Stack,
    on: str,
    source: str,
    metric: Any,
    found: Sequence[Place],
    each: bool,
) -> np.ndarray:
    """(a_source − a_on) · gradient, summed over the tokens of each place: [place, layer, head, prompt]."""
    sites = [Site(component, layer, stack.attention) for layer in range(stack.n_layers)]
    _, here, slopes = gradients(model, batch, sites, on=on, metric=metric)
    there = _read(model, batch, sites, source)
    layers = []
    for site in sites:
        product = (double(there[site]) - double(here[site])) * double(slopes[site])
        by_token = product.sum(-1)  # [n, position, head], or [n, head, query] of a pattern
        layers.append(by_token if site.position_axis == 1 else by_token.transpose(1, 2))
    return _at_places(torch.stack(layers), side(sides(model, batch), on), stack, found)


def _through_pattern(
    model: Any,
    batch: Any,
    component: str,
    stack: Stack,
    on: str,
    source: str,
    metric: Any,
    found: Sequence[Place],
    each: bool,
) -> np.ndarray:
    """Change of the pattern, recomputed with the patched q or k, times the gradient at the pattern."""
    layers = range(stack.n_layers)
    patterns = [Site("pattern", layer, stack.attention) for layer in layers]
    _, here, slopes = gradients(model, batch, patterns, on=on, metric=metric, batch_size=batch.n)
    prompts = side(sides(model, batch), on)
    by_key = component == "k" and not (len(found) == 1 and found[0].at is None)
    scores = [Site("scores", layer, stack.attention) for layer in layers]
    plain = _read(model, batch, scores, on) if by_key else {}
    patched_scores, patched_patterns = patched(model, batch, component, stack, on, source, here)
    if not by_key:
        by_token = torch.stack([whole(double(here[p]), double(patched_patterns[p]), double(slopes[p])) for p in patterns])
        by_token = by_token.transpose(2, 3)  # [layer, n, query, head]
        if component == "q":
            return _at_places(by_token, prompts, stack, found)
        rows = tokens(prompts, None, stack.attention, by_token.shape[2]).to(by_token)
        return _grouped(torch.einsum("lnqh,nq->lhn", by_token, rows)[None], stack).numpy()
    made = []
    for score, pattern in zip(scores, patterns, strict=True):
        args = [double(x) for x in (plain[score], patched_scores[score], here[pattern], slopes[pattern])]
        real = tokens(prompts, None, stack.attention, args[0].shape[2]).cpu()
        if each:
            by_key_effect = one_key_at_a_time(*args, sink=stack.learned_sink, rows=real)  # [n, head, key]
            masks = torch.stack([tokens(prompts, place.at, stack.attention, args[0].shape[3]).cpu() for place in found])
            made.append(torch.einsum("nhk,pnk->phn", by_key_effect, masks.to(by_key_effect)))
        else:
            keys = [tokens(prompts, place.at, stack.attention, args[0].shape[3]).cpu() for place in found]
            made.append(torch.stack([mixed_keys(*args, keys=k, sink=stack.learned_sink, rows=real).T for k in keys]))
    return _grouped(torch.stack(made, dim=1), stack).numpy()


def patched(
    model: Any, batch: Any, component: str, stack: Stack, on: str, source: str, kept: dict[Site, Tensor]
) -> tuple[dict[Site, Tensor], dict[Site, Tensor]]:
    """Scores and patterns that every layer would have with the other run's q (or k), all else as in the run ``on``.

    One pass: q (or k) is replaced in each layer, what follows from it is noted, and the pattern is put back to ``kept``, so
    that every later layer still sees the unpatched run.
    """
    sites = [Site(component, layer, stack.attention) for layer in range(stack.n_layers)]
    there = _read(model, batch, sites, source)
    scores: dict[Site, Tensor] = {}
    patterns: dict[Site, Tensor] = {}
    edits: dict[Site, Any] = {}

    def note(site: Site, into: dict[Site, Tensor], after: Tensor | None) -> Any:
        def edit(tensor: Tensor) -> Tensor:
            into[site] = tensor.detach().clone()
            return tensor if after is None else after.to(tensor)

        return edit

    for site in sites:
        edits[site] = lambda tensor, site=site: there[site].to(tensor)
        score, pattern = Site("scores", site.layer, site.attention), Site("pattern", site.layer, site.attention)
        edits[score], edits[pattern] = note(score, scores, None), note(pattern, patterns, kept[pattern])
    with torch.no_grad():
        model.run(side(sides(model, batch), on).inputs, edits=edits)
    return scores, patterns


def double(tensor: Tensor) -> Tensor:
    """The tensor in float64 on the CPU: differences of nearly equal activations lose nothing more."""
    return tensor.detach().cpu().double()


def _read(model: Any, batch: Any, sites: Sequence[Site], on: str) -> dict[Site, Tensor]:
    return activations(model, batch, sites, on=on, batch_size=batch.n)


def _at_places(by_token: Tensor, prompts: Prompts, stack: Stack, found: Sequence[Place]) -> np.ndarray:
    """[layer, n, position, head] summed over the tokens of each place: [place, layer, head, n]."""
    masks = torch.stack([tokens(prompts, place.at, stack.attention, by_token.shape[2]).cpu() for place in found])
    return torch.einsum("lnth,pnt->plhn", by_token, masks.to(by_token)).numpy()


def _grouped(by_head: Tensor, stack: Stack) -> Tensor:
    """[place, layer, head, n] summed over the query heads that share a key."""
    return by_head.unflatten(2, (stack.n_kv_heads, stack.group)).sum(3)

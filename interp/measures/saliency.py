"""Saliency of tokens: how much the metric depends on the vector of each token at one place of the residual stream."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp.engine.activations import activations
from interp.engine.forward import metric_values
from interp.engine.gradients import gradients
from interp.engine.intervention import Intervention, Replace
from interp.engine.prompts import Prompts, selected, side, sides
from interp.engine.sweep import sweep
from interp.models.sites import Site


@dataclass(frozen=True)
class Saliency:
    """Saliency of each token, float64 [prompt, position] ≥ 0 (0 for padding), and ``facts`` per prompt [prompt]."""

    tokens: NDArray[np.float64]
    facts: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)


def saliency(model: Any, batch: Any, site: Site, by: str, metric: Any, *, baseline: str = "mean", steps: int = 16,
             batch_size: int | None = None) -> Saliency:
    """How much the metric depends on the vector x of each token at a residual site, on the clean side.

    Args:
        by: ``gradient``: ‖∂m/∂x‖; ``gradient x input``: |x · ∂m/∂x|; ``integrated gradients``: |(x − x₀) · mean over the
            path x₀ + α(x − x₀), all tokens together, of ∂m/∂x|; ``occlusion``: |m − m(x → x₀)|, one token at a time.
        baseline: x₀: ``mean`` of the prompt's own tokens at the site, or ``zero``. steps: midpoints of the path.
    """
    prompts = side(sides(model, batch), "clean")
    if by in ("gradient", "gradient x input"):
        found = gradients(model, batch, [site], metric=metric, batch_size=batch_size)
        x, slope = found.activations[site].double(), found.gradients[site].double()
        rows = slope.norm(dim=-1) if by == "gradient" else (x * slope).sum(-1).abs()
        return Saliency(_real(rows, prompts, site))
    x = activations(model, batch, [site], batch_size=batch_size)[site]
    start = start_of(x, selected(prompts, None, site.attention, length=x.shape[1]), baseline)
    if by == "occlusion":
        return Saliency(_occluded(model, batch, site, metric, start, prompts, batch_size))
    total = torch.zeros_like(x, dtype=torch.float64)
    for step in range(steps):
        between = start + (step + 0.5) / steps * (x - start)
        total += gradients(model, batch, [site], metric=metric, interventions=_put(site, between), batch_size=batch_size,
                           may_be_identity=True).gradients[site].double() / steps
    parts = _real((total * (x - start).double()).sum(-1), prompts, site)
    far = metric_values(model, batch, _put(site, start), metric=metric, batch_size=batch_size, may_be_identity=True)
    difference = metric_values(model, batch, metric=metric, batch_size=batch_size) - far
    return Saliency(np.abs(parts), {"difference": difference, "residual": parts.sum(1) - difference})


def start_of(x: Tensor, real: Tensor, baseline: str) -> Tensor:
    """The baseline of each token, like ``x`` [prompt, position, d]: zero, or the mean over the prompt's real tokens."""
    if baseline == "zero":
        return torch.zeros_like(x)
    weights = real.to(x)[..., None]
    return ((x * weights).sum(1, keepdim=True) / weights.sum(1, keepdim=True)).expand_as(x)


def _put(site: Site, tensor: Tensor, at: int | None = None) -> tuple[Intervention, ...]:
    return (Intervention(site.what, site.layer, None, None if at is None else (at,), Replace(tensor), site.attention),)


def _occluded(model: Any, batch: Any, site: Site, metric: Any, start: Tensor, prompts: Prompts,
              batch_size: int | None) -> NDArray[np.float64]:
    real = selected(prompts, None, site.attention, length=start.shape[1])
    longest = int(real.sum(1).max())
    clean = metric_values(model, batch, metric=metric, batch_size=batch_size)
    without = sweep(model, batch, [_put(site, start, at) for at in range(longest)], metric=metric, batch_size=batch_size,
                    progress=False, title="occlusion")
    change = np.abs(clean - without)                        # [k-th real token, prompt]
    tokens = np.zeros(tuple(real.shape))
    for i, row in enumerate(real.cpu().numpy()):
        tokens[i, row] = change[: row.sum(), i]
    return tokens


def _real(rows: Tensor, prompts: Prompts, site: Site) -> NDArray[np.float64]:
    real = selected(prompts, None, site.attention, length=rows.shape[1])
    return torch.where(real, rows, 0).cpu().numpy()

"""Tokens with massive activations: which hidden dimensions are massive in a model, and which tokens carry them.

A few dimensions of the residual stream hold values hundreds of times larger than the rest, at the first token and a few
others, which attention then rests on. Kang et al. (2025) test a token by φ = max over these dimensions of |x_d| / rms(x) and
name the dimensions of each model in a table; here they are found. The residual stream is read once, where it enters each
layer; of each token the largest dimensions are kept.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.engine.streaming import Block, Fold
from interp.measures.sink_statistics import Received
from interp.models.backend import Stack

TAU, WIDTH, FIRST, DEPTH = 20.0, 4096, 2, 32
"""Published for LLaMA-2-7B: φ > 20, from layer 2 on, in a model of 4096 dimensions and 32 layers."""
PERSISTENT = 0.5
"""A dimension is massive where some token passes the threshold in it in at least this share of the layers tested."""
MAGNITUDE, OVER_MEDIAN = 100.0, 1000.0
"""Sun et al. (2024): larger than 100 and than a thousand times the median magnitude."""


@dataclass(frozen=True, eq=False)
class MassiveTokens:
    """What was found.

    Attributes:
        flagged: per prompt, which tokens carry a massive activation where each layer reads: bool [layer, key].
        strength: per prompt, φ (for the rule ``norm``: the norm over the median norm) [layer, key].
        dimensions: the massive dimensions (none for the rule ``norm``). tested: which layers were tested, bool [layer].
        threshold: that ``strength`` was compared with; NaN for the rule ``magnitude``, which has two.
    """

    flagged: list[np.ndarray]
    strength: list[np.ndarray]
    dimensions: tuple[int, ...]
    tested: np.ndarray
    threshold: float

    @property
    def notes(self) -> dict[str, Any]:
        """For the provenance: the dimensions and threshold, the first layer tested, tokens found per prompt and layer."""
        counts = [int(one[self.tested].sum()) for one in self.flagged]
        per = sum(counts) / (len(counts) * max(1, int(self.tested.sum())))
        return {"massive_dimensions": list(self.dimensions), "massive_threshold": round(self.threshold, 4),
                "massive_from_layer": int(self.tested.argmax()), "massive_tokens_per_prompt": round(per, 4)}


def default_tau(d_model: int) -> float:
    """20 from 4096 dimensions on, as published; below, the same share (5/16) of the largest φ there can be, √d_model, but no
    less than half as much again as the largest of d_model normal values, √(2 ln d_model), which is nothing massive."""
    largest = math.sqrt(d_model)
    return min(TAU, max(TAU * largest / math.sqrt(WIDTH), 1.5 * math.sqrt(2 * math.log(d_model))), 0.95 * largest)


def default_first_layer(n_layers: int) -> int:
    """The same share of the depth as published (2 of 32), rounded."""
    return min(FIRST, round(FIRST / DEPTH * n_layers)) if n_layers < DEPTH else FIRST


def residual_folds(model: Any, tau: float | None = None, rule: str = "phi") -> dict[str, Fold]:
    """What of the residual stream is kept for ``massive_tokens``: of each token the dimensions in which φ can pass ``tau``
    (their squares sum to d_model, so that no more than d_model/τ² can), the norm, and for the rule ``magnitude`` the median
    magnitude (NaN for the others)."""
    width = model.d_model
    most = min(width, max(1, math.floor(width / (default_tau(width) if tau is None else tau) ** 2)))

    def fold(kept: list[Tensor] | None, block: Block) -> list[Tensor]:
        x = block.tensor.float().abs()
        rms = x.pow(2).mean(dim=-1, keepdim=True).sqrt()
        top = (x / rms).topk(most, dim=-1)
        median = x.median(dim=-1, keepdim=True).values if rule == "magnitude" else torch.full_like(rms, torch.nan)
        facts = [x.norm(dim=-1, keepdim=True), median, top.values, top.indices.float()]
        return [*(kept or []), torch.cat(facts, dim=-1)]

    return {"residual": Fold("resid_pre", fold, lambda kept: torch.cat(kept, dim=1))}


def massive_tokens(found: Sequence[Received], model: Any, stack: Stack, *, rule: str = "phi", tau: float | None = None,
                   dimensions: tuple[int, ...] | None = None, first_layer: int | None = None,
                   ratio: float = 3.0) -> MassiveTokens:
    """Which tokens carry massive activations, from statistics that were read with ``residual_folds(model, tau, rule)``.

    Args:
        rule: ``phi``: max over ``dimensions`` of |x_d| / rms(x) > ``tau`` (Kang et al. 2025). ``magnitude``: some
            |x_d| > 100 and > 1000 times the token's median magnitude (Sun et al. 2024). ``norm``: ‖x‖ > ``ratio`` times the
            median norm of the prompt's tokens in that layer (the register-like patches of Darcet et al. 2024, who choose
            their threshold by eye).
        tau: None: see ``default_tau``. dimensions: None: those in which some token of some prompt passes ``tau`` in at least
            half of the layers tested. first_layer: None: see ``default_first_layer``.

    Raises:
        InterpError: a threshold that no token can pass in a model of this width; a dimension or layer the model lacks.
    """
    width = stack.d_model
    limit = default_tau(width) if tau is None else tau
    first = default_first_layer(stack.n_layers) if first_layer is None else first_layer
    asked = "find massive activations"
    if rule == "phi" and not 0 < limit < math.sqrt(width):
        true = f"φ lies between 0 and √{width} = {math.sqrt(width):.3g} in a model of {width} dimensions"
        raise InterpError(f"{asked} with tau={limit:g}", true, "leave tau to its default, or choose one in between")
    if not 0 <= first < stack.n_layers:
        raise InterpError(f"{asked} from layer {first} on", f"there are {stack.n_layers} layers", "choose an earlier layer")
    for d in dimensions or ():
        if not 0 <= d < width:
            raise InterpError(f"{asked} in dimension {d}", f"the model has {width}", "choose dimensions of the model")
    tested = np.arange(stack.n_layers) >= first
    facts = [_unpacked(one.extra["residual"]) for one in found]
    if rule == "norm":
        strength = [norms / np.median(norms, axis=-1, keepdims=True) for norms, _, _, _ in facts]
        return MassiveTokens([(x > ratio) & tested[:, None] for x in strength], strength, (), tested, ratio)
    if rule == "magnitude":
        flagged, strength, seen = [], [], set()
        for norms, medians, phi, indices in facts:
            size = phi * (norms / math.sqrt(width))[..., None]
            large = (size > MAGNITUDE) & (size > OVER_MEDIAN * medians[..., None]) & tested[:, None, None]
            seen |= set(indices[large].tolist())
            flagged.append(large.any(-1))
            strength.append(phi.max(-1))
        return MassiveTokens(flagged, strength, tuple(sorted(seen)), tested, float("nan"))
    used = _persistent(facts, limit, tested) if dimensions is None else tuple(dimensions)
    strength = [np.where(np.isin(indices, used), phi, 0).max(-1) for _, _, phi, indices in facts]
    return MassiveTokens([(x > limit) & tested[:, None] for x in strength], strength, used, tested, limit)


def _persistent(facts: Sequence[tuple[np.ndarray, ...]], limit: float, tested: np.ndarray) -> tuple[int, ...]:
    """Dimensions in which some token passes ``limit`` in enough of the layers tested."""
    layers: dict[int, set[int]] = {}
    for _, _, phi, indices in facts:
        for layer, token, place in zip(*np.nonzero((phi > limit) & tested[:, None, None]), strict=True):
            layers.setdefault(int(indices[layer, token, place]), set()).add(int(layer))
    return tuple(sorted(d for d, seen in layers.items() if len(seen) >= PERSISTENT * tested.sum()))


def _unpacked(residual: np.ndarray) -> tuple[np.ndarray, ...]:
    """Norms [layer, token], medians [layer, token], φ of the largest dimensions [layer, token, k] and which they are."""
    most = (residual.shape[-1] - 2) // 2
    norms, medians, phi = residual[..., 0], residual[..., 1], residual[..., 2 : 2 + most]
    return norms.astype(np.float64), medians, phi, residual[..., 2 + most :].astype(np.int64)



"""Where in the prompts a measure acts: everywhere at once, each token in turn, or named spans in turn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.core.registry import unknown
from interp.engine.activations import activations
from interp.engine.prompts import Prompts, selected
from interp.models.sites import PER_KV_HEAD, Site

Positions = str | tuple[str, ...] | None
"""None: all tokens at once. ``"each"``: every token in turn. A span's name: that span. Several names: each span in turn."""


@dataclass(frozen=True)
class Place:
    """One set of tokens per prompt: the positions of an ``Intervention`` (None: all), and which prompts have any."""

    at: str | tuple[int, ...] | None
    exists: np.ndarray


def places(model: Any, batch: Any, prompts: Prompts, positions: Positions, site: Site) -> tuple[dict, list[Place]]:
    """The extra axis that ``positions`` asks for at ``site`` ({} for None and for a single name) and its places, in order.

    Tokens are counted from the prompt's first real token, whatever the padding; a prompt too short for an index does not
    have that place. Keys and values of cross-attention stand at the encoder's tokens, an image's at its patches.

    Raises InterpError for a span that the batch does not name, and where clean and corrupted prompts are not aligned token
    by token (then there are ``None`` and ``"end"`` only).
    """
    if positions not in (None, "end") and not batch.aligned:
        raise InterpError(
            f"measure at the positions {positions!r}",
            f"clean and corrupted prompts of {batch.task} are not aligned token by token",
            "use prompts of equal length, or positions that need no alignment (all, 'end')",
        )
    length = _length(model, prompts, site)
    axes: dict[str, tuple] = {}
    if positions == "each":
        axes = {"position": tuple(range(int(tokens(prompts, None, site, length).sum(1).max())))}
        wanted: list[str | tuple[int, ...] | None] = [(token,) for token in axes["position"]]
    elif positions is None or isinstance(positions, str):
        wanted = [positions]
    else:
        wanted, axes = list(positions), {"position": tuple(positions)}
    if len(set(wanted)) < len(wanted):
        raise InterpError(f"measure at the positions {positions!r}", "a position is named twice", "name each once")
    if "each" in wanted:
        raise InterpError(f"measure at the positions {positions!r}", "'each' means every token in turn and stands alone",
                          "use positions='each', or name the positions")
    for name in wanted:
        if isinstance(name, str) and name != "end" and name not in batch.spans:
            raise unknown(f"position of {batch.task}", name, sorted({"each", "end", *batch.spans}))
    return axes, [Place(at, tokens(prompts, at, site, length).any(1).cpu().numpy()) for at in wanted]


def tokens(prompts: Prompts, at: str | tuple[int, ...] | None, site: Site, length: int) -> Tensor:
    """[n, position] bool: the tokens of a place, padding never among them (none where every prompt is too short)."""
    keys = site.what in PER_KV_HEAD
    real = selected(prompts, None, site.attention, of_keys=keys, length=length)
    if isinstance(at, tuple) and at[0] >= int(real.sum(1).max()):
        return real & False
    return selected(prompts, at, site.attention, of_keys=keys, length=length)


def spread(values: Sequence[np.ndarray], found: Sequence[Place], axes: Mapping[str, tuple]) -> np.ndarray:
    """Stack [layer, head, prompt] arrays, one per place, along the extra axis; NaN where a prompt has no such place."""
    made = [np.where(place.exists, value, np.nan) for place, value in zip(found, values, strict=True)]
    return np.stack(made, axis=-1) if axes else made[0]


def _length(model: Any, prompts: Prompts, site: Site) -> int:
    """How many positions ``site`` has; an image's patches are counted in a run."""
    if site.attention == "vision":
        return activations(model, prompts.take(torch.tensor([0])).inputs, [site])[site].shape[site.position_axis]
    return prompts.real(site.attention, site.what in PER_KV_HEAD, prompts.mask.shape[1]).shape[1]

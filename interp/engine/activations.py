"""Activations at sites, per prompt, and their means over a reference set."""

from collections.abc import Collection
from typing import Any

from torch import Tensor

from interp.core.registry import unknown
from interp.engine.forward import Interventions, run
from interp.engine.prompts import side, sides
from interp.engine.sources import Spec, mean_over
from interp.models.sites import Site


def activations(model: Any, batch: Any, sites: Collection[Site], on: str = "clean", *, interventions: Interventions = (),
                batch_size: int | None = None) -> dict[Site, Tensor]:
    """Activations at ``sites`` in the layout of ``interp.models.sites``, over all prompts, padded positions included.

    What is returned is what the network goes on with: after ``interventions``, if there are any.
    """
    return dict(run(model, batch, interventions, sites, on=on, batch_size=batch_size, logits=False).captured)


def mean_activations(model: Any, batch: Any, sites: Collection[Site], on: str = "clean", *, mode: str = "position",
                     positions: Spec = None, batch_size: int | None = None) -> dict[Site, Tensor]:
    """Means of untouched activations over a reference set, float64.

    ``mode="token"``: over all real tokens of all prompts, [head, d] or [d_model]. ``mode="position"``: entry k is the mean
    over the k-th selected tokens of those prompts that have one, [k, head, d], [k, d_model] or [k, head, key] (keys count
    real tokens; a key that a prompt lacks counts 0). Padding is never counted.
    """
    if mode not in ("position", "token"):
        raise unknown("mode of a mean", mode, ["position", "token"])
    sites = list(sites)
    means = mean_over(model, side(sides(model, batch), on), [(site, mode, positions) for site in sites], batch_size)
    return dict(zip(sites, means, strict=True))

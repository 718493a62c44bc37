"""Gradients with one layer's contribution to the residual stream cut off the backward pass (GradDrop).

Where a node acts directly and through a later layer with opposite sign, the two gradients cancel though neither effect is
small. With the later layer cut off the backward pass they do not. One forward pass; a backward pass for each layer.

Source: Kramár et al. 2024 (AtP*), section 3.1.2.
"""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.engine.edits import Edit
from interp.engine.forward import answer_logits
from interp.engine.prompts import side, sides
from interp.models.sites import Site


class Dropped(NamedTuple):
    """Metric per prompt float64 [n], activations by site, and gradients by site: first with nothing cut, then with the
    layers of ``dropped`` cut one at a time."""

    metric: np.ndarray
    activations: Mapping[Site, Tensor]
    gradients: tuple[Mapping[Site, Tensor], ...]


def dropped_gradients(model: Any, batch: Any, sites: Collection[Site], on: str = "clean", metric: Any = None,
                      attention: str | None = None) -> Dropped:
    """d metric / d activation at ``sites``, whole and with each layer of one attention stack cut off in turn.

    Cut is what attention and MLP of the layer add to the residual stream; activations of that layer itself, which act
    through it alone, get 0 then. All prompts in one pass.

    Raises:
        InterpError: a metric without a gradient.
    """
    metric, stack = metric or batch.metric, model.stack(attention)
    prompts = side(sides(model, batch), on)
    known = model.backend.sites()
    writes = [[site for what in ("attn_write", "mlp_write") if (site := Site(what, layer, stack.attention)) in known]
              for layer in range(stack.n_layers)]
    cut: list[int | None] = [None]
    nudges: dict[Site, Tensor] = {}
    read: dict[Site, Tensor] = {}

    def edit(site: Site, layer: int | None) -> Edit:
        def edited(x: Tensor) -> Tensor:
            if site in sites:
                read[site] = x.detach()
                nudges[site] = torch.zeros_like(x, requires_grad=True)
                x = x + nudges[site]
            if layer is not None and x.requires_grad:
                x = x * 1      # a tensor of its own, whose gradient is what reaches this site
                x.register_hook(lambda slope: torch.zeros_like(slope) if cut[0] == layer else None)
            return x

        return edited

    edits = {site: edit(site, None) for site in sites}
    edits |= {site: edit(site, layer) for layer, of_layer in enumerate(writes) for site in of_layer}
    with torch.enable_grad():
        values = metric(answer_logits(model.run(prompts.inputs, edits), prompts), batch)
    if not values.requires_grad or not getattr(metric, "differentiable", True):
        raise InterpError(f"take the gradient of the metric {getattr(metric, 'name', metric)!r}",
                          "it does not change smoothly with the logits", "use one that does, such as logit_diff")
    found = []
    for layer in (None, *range(stack.n_layers)):
        cut[0] = layer
        slopes = torch.autograd.grad(values.sum(), list(nudges.values()), allow_unused=True, materialize_grads=True,
                                     retain_graph=layer != stack.n_layers - 1)
        found.append(dict(zip(nudges, slopes, strict=True)))
    return Dropped(values.detach().cpu().double().numpy(), read, tuple(found))

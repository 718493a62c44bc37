"""Gradients of a metric with respect to activations at any site, per prompt."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.engine.edits import Edit, Record
from interp.engine.forward import Interventions, answer_logits, as_tuple, chunk, did_act, prepare, refuse_identity
from interp.engine.prompts import chunks
from interp.engine.sources import resampled
from interp.models.sites import Site


class Gradients(NamedTuple):
    """Metric per prompt float64 [n], activations and gradients by site, each [n, ...] in the site's layout."""

    metric: np.ndarray
    activations: Mapping[Site, Tensor]
    gradients: Mapping[Site, Tensor]


def gradients(model: Any, batch: Any, sites: Collection[Site], on: str = "clean", metric: Any = None, *,
              interventions: Interventions = (), batch_size: int | None = None, may_be_identity: bool = False) -> Gradients:
    """d metric[i] / d activation[i] at each site, for every prompt i, with everything downstream recomputed.

    Prompts do not influence each other, so one backward pass of the summed metric gives the gradient of each. Interventions
    are active, and differentiated through; the gradient at a site is with respect to what the network goes on with there.
    Activations that do not reach the metric (those after the last read position) get 0; a pattern's entries for masked keys
    get the slope of a weight that the network never gives. Parameters get no gradient, and the
    caller's gradient mode is as it was.

    Raises:
        InterpError: for a metric without a gradient (accuracy), a site that was not reached, or as for ``run``.
    """
    interventions = as_tuple(interventions)
    prepared = prepare(model, batch, interventions, on, batch_size)
    metric = metric or batch.metric
    sites = list(dict.fromkeys(sites))
    missing = [site for site in sites if site not in model.backend.sites()]
    if missing or not sites:
        raise InterpError("take gradients", f"the model has no {missing[0]}" if missing else "no site was given",
                          "choose sites of this model")
    parts, acted = [], []
    for rows in chunks(model, prepared.prompts, batch_size, graph=True, held=[*sites, *resampled(interventions)]):
        part = chunk(model, prepared, rows, interventions)
        records = [Record() for _ in interventions]
        nudges: dict[Site, Tensor] = {}
        read: dict[Site, Tensor] = {}
        edits = part.edits(interventions, records)
        edits.update({site: _nudged(edits.get(site), site, nudges, read) for site in sites})
        with torch.enable_grad():
            values = metric(answer_logits(model.run(part.prompts.inputs, edits), part.prompts), batch.subset(rows))
            for site in sites:
                if site not in nudges:
                    raise InterpError(f"take the gradient at {site}", "the pass never reached it", "choose another site")
            if not values.requires_grad or not getattr(metric, "differentiable", True):
                raise InterpError(f"take the gradient of the metric {getattr(metric, 'name', metric)!r}",
                                  "it does not change smoothly with the logits", "use one that does, such as logit_diff")
            slopes = torch.autograd.grad(values.sum(), [nudges[site] for site in sites], allow_unused=True,
                                         materialize_grads=True)
        parts.append((values.detach().cpu().double(), read, dict(zip(sites, slopes, strict=True))))
        acted.append(did_act(interventions, records, len(rows)))
    if not may_be_identity:
        refuse_identity(interventions, torch.cat(acted, dim=1), on)
    return Gradients(torch.cat([part[0] for part in parts]).numpy(),
                     {site: torch.cat([part[1][site] for part in parts]) for site in sites},
                     {site: torch.cat([part[2][site] for part in parts]) for site in sites})


def _nudged(edit: Edit | None, site: Site, nudges: dict[Site, Tensor], read: dict[Site, Tensor]) -> Edit:
    """An edit that adds a zero whose gradient is that of the activation."""
    def nudged(x: Tensor) -> Tensor:
        x = x if edit is None else edit(x)
        read[site] = x.detach()
        nudges[site] = torch.zeros_like(x, requires_grad=True)
        return x + nudges[site]

    return nudged

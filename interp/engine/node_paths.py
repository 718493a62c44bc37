"""Integrated gradients of heads: along the input path, the mask path, and the activation path of each layer.

* ``mask``: every head's z is m · clean + (1 − m) · corrupt with one m for all heads, where the side that is run is live (it
  sees what earlier heads were mixed to) and the other is as it was recorded. Completeness is an identity: the scores add up
  to the effect of exchanging all heads together (not the whole difference, part of which embeddings and MLPs carry by
  themselves). Masks as in Miller et al. 2024.
* ``activation``: the same for the heads of one layer at a time, layer by layer. An identity for each layer: its scores add
  up to the effect of exchanging its heads (Hanna et al. 2024, EAP-IG activations).
* ``input``: the embeddings move from corrupt to clean, and a head scores its difference times the mean slope along the way
  (Hanna et al. 2024, EAP-IG inputs). No identity for heads: what adds up to the whole difference are the embeddings' own
  integrals. Their residual says whether the path was followed closely enough, and is taken as the residual here.

At the ends of the mask path the slopes are attribution patching's: at m = 1 with the clean side live (noising), at m = 0
with the corrupted side live (denoising). In a linear network all paths give what exact patching gives.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.core.registry import unknown
from interp.engine.edits import Edit
from interp.engine.forward import answer_logits
from interp.engine.path_integral import PathIntegral, Point, check, integrate
from interp.engine.prompts import Prompts, chunks, side, sides
from interp.models.backend import Stack
from interp.models.sites import Site

PATHS = ("mask", "activation", "input")


@dataclass(frozen=True)
class HeadIntegrals:
    """Integrated gradients of heads.

    Attributes:
        values: [place, layer, head, prompt]; one place, all tokens, unless places were asked for.
        difference: what the scores should add up to, per path and prompt [path, prompt]; paths are layers for
            ``activation``, one otherwise.
        residual: integral along the path less ``difference``, [path, prompt].
        evaluations: gradients evaluated, [path, prompt].
        complete: whether the residual is within the tolerance, [path, prompt].
        metric: of the unchanged runs, ``clean`` and ``corrupt`` [prompt].
    """

    values: np.ndarray
    difference: np.ndarray
    residual: np.ndarray
    evaluations: np.ndarray
    complete: np.ndarray
    metric: Mapping[str, np.ndarray]

    @property
    def whole(self) -> PathIntegral:
        """All paths as one integral, for what there is to say of them."""
        flat = (x.ravel() for x in (self.difference, self.residual, self.evaluations, self.complete))
        return PathIntegral(self.values, *flat)


def integrated_heads(model: Any, batch: Any, path: str = "mask", *, on: str = "clean", metric: Any = None,
                     stack: Stack | None = None, places: Callable[[int], Tensor] | None = None, steps: int = 8,
                     tolerance: float | None = 0.01, budget: int = 64, rule: str = "trapezoid",
                     batch_size: int | None = None) -> HeadIntegrals:
    """Integrated gradients of every head (see the module), larger = matters more.

    Args:
        on: the side that is run; the other is exchanged into it (no difference to the input path).
        places: sets of tokens that are scored one by one: (number of positions) -> bool [place, prompt, position]. The path
            stays that of all tokens, so the scores of places that make up the prompt add up to those without places.
        steps, tolerance, budget, rule: as for ``interp.engine.path_integral.integrate``; gradients per path and prompt.

    Raises:
        InterpError: unaligned prompts; a metric without gradient; an input path into a model of two stacks.
    """
    if path not in PATHS:
        raise unknown("path of integrated gradients", str(path), list(PATHS))
    check(steps, tolerance, budget, rule)
    batch.check_aligned("integrate gradients between clean and corrupted prompts")
    stack, metric = stack or model.stacks[0], metric or batch.metric
    if path == "input" and len(model.stacks) > 1:
        raise InterpError(f"integrate along the input of {model.name}", "its stacks have inputs of their own",
                          "use path='mask' or path='activation'")
    if not getattr(metric, "differentiable", True):
        raise InterpError(f"take the gradient of the metric {getattr(metric, 'name', metric)!r}",
                          "it does not change smoothly with the logits", "use one that does, such as logit_diff")
    runs, found = sides(model, batch), []
    for rows in chunks(model, side(runs, on), batch_size, graph=True):
        taken = {name: run.take(rows) for name, run in runs.items()}
        part = _Part(model, batch.subset(rows.tolist()), stack, metric, on, taken,
                     None if places is None else lambda length, rows=rows: places(length)[:, rows].cpu())
        found.append(_of_part(part, path, {"steps": steps, "tolerance": tolerance, "budget": budget, "rule": rule}))
    joined = (np.concatenate([getattr(one, name) for one in found], axis=-1)
              for name in ("values", "difference", "residual", "evaluations", "complete"))
    metrics = {name: np.concatenate([one.metric[name] for one in found]) for name in ("clean", "corrupt")}
    return HeadIntegrals(*joined, metrics)


@dataclass(frozen=True)
class _Part:
    """Some prompts, both sides."""

    model: Any
    batch: Any
    stack: Stack
    metric: Any
    on: str
    runs: Mapping[str, Prompts]
    places: Callable[[int], Tensor] | None

    @property
    def sites(self) -> list[Site]:
        return [Site("z", layer, self.stack.attention) for layer in range(self.stack.n_layers)]

    @property
    def embed(self) -> Site:
        return Site("resid_pre", 0, self.stack.attention)

    def recorded(self, name: str, sites: Sequence[Site]) -> tuple[dict[Site, Tensor], np.ndarray]:
        """Activations and metric of an unchanged run."""
        prompts = self.runs[name]
        with torch.no_grad():
            passed = self.model.run(prompts.inputs, capture=sites)
            values = self.metric(answer_logits(passed, prompts), self.batch)
        return {site: x.detach() for site, x in passed.captured.items()}, values.cpu().double().numpy()

    def sloped(self, rows: np.ndarray, edits: Mapping[Site, Edit], by: Callable[[], Sequence[Tensor]]
               ) -> tuple[np.ndarray, tuple[Tensor, ...]]:
        """The metric of some prompts with edits active, and its gradients by the tensors that ``by`` names afterwards."""
        at = torch.from_numpy(rows)
        prompts = self.runs[self.on].take(at)
        with torch.enable_grad():
            passed = self.model.run(prompts.inputs, edits)
            values = self.metric(answer_logits(passed, prompts), self.batch.subset(rows.tolist()))
            slopes = torch.autograd.grad(values.sum(), by(), allow_unused=True, materialize_grads=True)
        return values.detach().cpu().double().numpy(), slopes

    def summed(self, rows: np.ndarray, by_token: Sequence[Tensor]) -> np.ndarray:
        """Scores by layer, each [row, position, head], summed over the tokens of each place: [row, place, layer, head]."""
        stacked = torch.stack([x.cpu().double() for x in by_token], dim=1)
        if self.places is None:
            return stacked.sum(2)[:, None].numpy()
        return torch.einsum("nlth,pnt->nplh", stacked, self.places(stacked.shape[2])[:, rows].double()).numpy()


def _of_part(part: _Part, path: str, options: Mapping[str, Any]) -> HeadIntegrals:
    sites = [*part.sites, part.embed] if path == "input" else part.sites
    (clean, of_clean), (corrupt, of_corrupt) = (part.recorded(name, sites) for name in ("clean", "corrupt"))
    n, options = part.batch.n, {**options, "finest": 2 * torch.finfo(clean[sites[0]].dtype).eps}
    if path == "input":
        evaluate = _along_input(part, clean, corrupt)
        made = [integrate(evaluate, n, **options)]
    elif path == "mask":
        made = [integrate(_along_mask(part, part.sites, clean, corrupt), n, **options)]
    else:
        made = [integrate(_along_mask(part, [site], clean, corrupt), n, **options) for site in part.sites]
    values = np.concatenate([np.moveaxis(one.parts, 0, -1) for one in made], axis=1)
    rest = (np.stack([getattr(one, name) for one in made]) for name in ("difference", "residual", "evaluations", "complete"))
    return HeadIntegrals(values, *rest, {"clean": of_clean, "corrupt": of_corrupt})


def _along_mask(part: _Part, sites: Sequence[Site], clean: Mapping[Site, Tensor], corrupt: Mapping[Site, Tensor]
                ) -> Callable[[np.ndarray, np.ndarray], Point]:
    """A gate on every head of some layers: 1 is the clean run's z, 0 the corrupted one's; the side that is run is live."""
    def evaluate(rows: np.ndarray, at: np.ndarray) -> Point:
        taken = torch.from_numpy(rows)
        gates: dict[Site, Tensor] = {}

        def gated(site: Site) -> Edit:
            other = (corrupt if part.on == "clean" else clean)[site][taken]

            def edit(x: Tensor) -> Tensor:
                level = torch.as_tensor(at, dtype=x.dtype, device=x.device)
                gates[site] = level[:, None, None].expand(x.shape[:3]).contiguous().requires_grad_()
                gate = gates[site][..., None]
                return gate * x + (1 - gate) * other if part.on == "clean" else gate * other + (1 - gate) * x

            return edit

        values, slopes = part.sloped(rows, {site: gated(site) for site in sites}, lambda: [gates[site] for site in sites])
        rate = sum(slope.double().sum((1, 2)) for slope in slopes)
        return Point(values, part.summed(rows, slopes), rate.cpu().numpy())

    return evaluate


def _along_input(part: _Part, clean: Mapping[Site, Tensor], corrupt: Mapping[Site, Tensor]
                 ) -> Callable[[np.ndarray, np.ndarray], Point]:
    """The embeddings at corrupt + α (clean − corrupt); slopes by z times its difference."""
    moved = {site: clean[site] - corrupt[site] for site in clean}

    def evaluate(rows: np.ndarray, at: np.ndarray) -> Point:
        taken = torch.from_numpy(rows)
        nudges: dict[Site, Tensor] = {}

        def nudge(site: Site, x: Tensor) -> Tensor:
            nudges[site] = torch.zeros_like(x, requires_grad=True)
            return x + nudges[site]

        def enter(x: Tensor) -> Tensor:
            level = torch.as_tensor(at, dtype=x.dtype, device=x.device)[:, None, None]
            return nudge(part.embed, corrupt[part.embed][taken] + level * moved[part.embed][taken])

        edits = {site: (lambda x, site=site: nudge(site, x)) for site in part.sites} | {part.embed: enter}
        values, slopes = part.sloped(rows, edits, lambda: [nudges[site] for site in edits])
        products = [(slope.double() * moved[site][taken].double()).sum(-1)
                    for site, slope in zip(edits, slopes, strict=True)]
        return Point(values, part.summed(rows, products[:-1]), products[-1].sum(1).cpu().numpy())

    return evaluate

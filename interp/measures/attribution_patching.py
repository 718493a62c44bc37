"""Attribution patching (AtP): the first-order estimate of activation patching, all heads from one gradient."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.engine.forward import measured, run
from interp.engine.gradients import gradients
from interp.engine.prompts import Prompts, chunks, side, sides
from interp.measures.each_head import count, metric_of_run, units
from interp.measures.measure import Measured, measure
from interp.measures.positions import Place, places, tokens
from interp.measures.softmax_correction import mixed_keys, one_key_at_a_time, whole
from interp.models.backend import Edit, Stack
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
        "one forward and backward pass and one forward pass of the other prompts, for all heads at all positions; with "
        "qk_fix one or two forward passes more"
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
    stack, of_run = model.stack(attention), metric_of_run(batch, metric)
    on, source = ("clean", "corrupt") if direction == "noising" else ("corrupt", "clean")
    prompts = side(sides(model, batch), on)
    axes, found = places(model, batch, prompts, positions, Site(component, 0, stack.attention))
    values = np.full((len(found), stack.n_layers, count(stack, component), batch.n), np.nan)
    bases = {"clean": np.empty(batch.n), "corrupt": np.empty(batch.n)}
    for rows in chunks(model, prompts, batch_size, graph=True):
        part = Part(model, batch.subset(rows.tolist()), component, stack, on, source, of_run, found)
        values[..., rows.numpy()] = (through_pattern if qk_fix and component in ("q", "k") else linear)(part).numpy()
        for which in bases:
            bases[which][rows.numpy()] = part.metrics[which]
    exists = np.stack([place.exists for place in found])[:, None, None, :]
    values = np.where(exists, values if direction == "denoising" else -values, np.nan)
    return Measured(
        values=np.moveaxis(values, 0, -1) if axes else values[0],
        axes=axes,
        baselines=bases,
        normalizer=bases["clean"] - bases["corrupt"],
        metric=of_run.name,
        **units(stack, component),
    )


@dataclass(frozen=True)
class Part:
    """Some prompts of the batch, and what is estimated on them: ``component`` of the run ``on`` taken from ``source``.

    ``metrics`` gathers the metric of the unchanged runs, by side, as they are run.
    """

    model: Any
    batch: Any
    component: str
    stack: Stack
    on: str
    source: str
    metric: Metric
    found: Sequence[Place]
    metrics: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def prompts(self) -> Prompts:
        return side(sides(self.model, self.batch), self.on)

    def sites(self, what: str) -> list[Site]:
        """The site ``what`` of every layer."""
        return [Site(what, layer, self.stack.attention) for layer in range(self.stack.n_layers)]

    def read(self, what: str, on: str) -> dict[Site, Tensor]:
        read = run(self.model, self.batch, (), self.sites(what), on=on, batch_size=self.batch.n)
        self.metrics[on] = measured(read.logits, self.batch, self.metric)
        return dict(read.captured)

    def slopes(self, what: str) -> tuple[Mapping[Site, Tensor], Mapping[Site, Tensor]]:
        """Activations of the run ``on`` and gradients of the metric by them."""
        found = gradients(self.model, self.batch, self.sites(what), on=self.on, metric=self.metric, batch_size=self.batch.n)
        self.metrics[self.on] = found.metric
        return found.activations, found.gradients

    def masks(self, what: str, length: int) -> Tensor:
        """[place, n, position] bool: the tokens of each place."""
        site = Site(what, 0, self.stack.attention)
        return torch.stack([tokens(self.prompts, place.at, site, length).cpu() for place in self.found])

    def rows(self, length: int) -> Tensor:
        """[n, query] bool: the real querying tokens."""
        return tokens(self.prompts, None, Site("q", 0, self.stack.attention), length).cpu()


def linear(part: Part) -> Tensor:
    """(a_source − a_on) · gradient, summed over the tokens of each place: [place, layer, head, prompt]."""
    (here, slopes), there = part.slopes(part.component), part.read(part.component, part.source)
    layers = []
    for site in part.sites(part.component):
        by_token = ((double(there[site]) - double(here[site])) * double(slopes[site])).sum(-1)
        layers.append(by_token if site.position_axis == 1 else by_token.transpose(1, 2))  # a pattern's are [n, head, query]
    return _at_places(torch.stack(layers), part.masks(part.component, layers[0].shape[1]))


def through_pattern(part: Part) -> Tensor:
    """Change of the pattern, recomputed with the patched q or k, times the gradient there: [place, layer, head, prompt]."""
    here, slopes = part.slopes("pattern")
    scores, patterns = patched(part, here)
    everywhere = len(part.found) == 1 and part.found[0].at is None
    if part.component == "q" or everywhere:
        changes = torch.stack(
            [whole(double(here[p]), double(patterns[p]), double(slopes[p])) for p in part.sites("pattern")]
        )
        by_token = changes.transpose(2, 3)  # [layer, n, query, head]
        masks = part.masks("q", by_token.shape[2]) if part.component == "q" else part.rows(by_token.shape[2])[None]
        made = _at_places(by_token, masks)
    else:
        plain = part.read("scores", part.on)
        made = torch.stack(
            [
                _by_keys(part, plain[s], scores[s], here[p], slopes[p])
                for s, p in zip(part.sites("scores"), part.sites("pattern"), strict=True)
            ],
            dim=1,
        )
    # The query heads that share a key act together.
    return made.unflatten(2, (part.stack.n_kv_heads, part.stack.group)).sum(3) if part.component == "k" else made


def _by_keys(part: Part, *of_layer: Tensor) -> Tensor:
    """Effect of patching the keys of each place, and no others, in one layer: [place, head, prompt]."""
    args = [double(tensor) for tensor in of_layer]
    rows, keys = part.rows(args[0].shape[2]), part.masks("k", args[0].shape[3])
    how = {"sink": part.stack.learned_sink, "rows": rows, "tolerance": 1e-3 if of_layer[0].dtype == torch.float32 else 3e-2}
    if isinstance(part.found[0].at, tuple):
        each = one_key_at_a_time(*args, **how)  # [n, head, key]
        return torch.einsum("nhk,pnk->phn", each, keys.to(each))
    return torch.stack([mixed_keys(*args, keys=k, **how).T for k in keys])


def patched(part: Part, kept: Mapping[Site, Tensor]) -> tuple[dict[Site, Tensor], dict[Site, Tensor]]:
    """Scores and patterns that every layer would have with the other run's q (or k), all else as in the run ``on``.

    One pass: q (or k) is replaced in each layer, what follows from it is noted, and the pattern is put back to ``kept``, so
    that every later layer still sees the unpatched run.
    """
    there = part.read(part.component, part.source)
    scores: dict[Site, Tensor] = {}
    patterns: dict[Site, Tensor] = {}

    def replace(new: Tensor) -> Edit:
        return lambda tensor: new.to(tensor)

    def note(site: Site, into: dict[Site, Tensor], after: Tensor | None) -> Edit:
        def edit(tensor: Tensor) -> Tensor:
            into[site] = tensor.detach().clone()
            return tensor if after is None else after.to(tensor)

        return edit

    edits = {site: replace(new) for site, new in there.items()}
    edits |= {site: note(site, scores, None) for site in part.sites("scores")}
    edits |= {site: note(site, patterns, kept[site]) for site in part.sites("pattern")}
    with torch.no_grad():
        part.model.run(part.prompts.inputs, edits)
    return scores, patterns


def double(tensor: Tensor) -> Tensor:
    """The tensor in float64 on the CPU: differences of nearly equal activations lose nothing more."""
    return tensor.detach().cpu().double()


def _at_places(by_token: Tensor, masks: Tensor) -> Tensor:
    """[layer, n, position, head] summed over the tokens of each place [place, n, position]: [place, layer, head, n]."""
    return torch.einsum("lnth,pnt->plhn", by_token, masks.to(by_token))

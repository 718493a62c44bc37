"""Head divergence: how far each head's output moves when a named part of the context is taken away."""

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.engine.parts import Without, part_of, without
from interp.engine.prompts import Prompts, chunks, side, sides
from interp.measures.divergence import Z_VARIANTS, at_tokens, mean_over_tokens, of_outputs, of_patterns, without_outliers
from interp.measures.logit_decomposition import final_runs
from interp.measures.measure import Measured, measure
from interp.measures.positions import places, spread, tokens
from interp.models.sites import Site


@measure(
    about="output",
    sense=(
        "larger = the head's output depends more on that part of the context; variant='answer' is signed: positive = "
        "because of the part, the head pushes the answer over the wrong answers"
    ),
    formula=(
        "l2: ||z(with the part) − z(without)||; relative: that / ||z(with)||; cosine: 1 − cos; pattern: Jensen–Shannon "
        "divergence of the attention rows in bits; answer: [z(with) − z(without)] · W_O on the answer's logit difference, "
        "norms frozen"
    ),
    source=(
        "He et al. 2025, arXiv 2412.13949 (vision-aware head divergence, VHD, Eq. 4 and 6: the part is the image, and it is "
        "removed); masking: attention knockout, Geva et al. 2023; other parts and variants are ours"
    ),
    does_not_show=(
        "Sensitivity, not importance: a head may move far in a direction that nothing reads (compare variant='answer', or "
        "patching). The plain norm favours heads of large output and late layers. A prompt without the part may be unlike "
        "anything seen in training, and removing tokens also moves those that follow."
    ),
    cost="two forward passes (three with variant='answer')",
)
def head_divergence(
    model: Any,
    batch: Any,
    *,
    part: str | tuple[str, ...] | None = None,
    how: Literal["removed", "replaced", "masked"] = "removed",
    filler: int | None = None,
    variant: Literal["l2", "relative", "cosine", "pattern", "answer"] = "l2",
    outliers: Literal["keep", "zero"] = "keep",
    positions: str | tuple[str, ...] | None = "end",
    batch_size: int | None = None,
    progress: Any = None,
) -> Measured:
    """How far each head's output moves when a part of the context is taken away.

    ``values[layer, head, prompt]``: the divergence at a token of the clean prompt against the same token of the prompt
    without the part; the mean over its tokens where a position has several. Units: of z (``l2``), none (``relative``,
    ``cosine``, 0 to 2), bits (``pattern``), logits (``answer``).

    Args:
        part: a span's name, several, ``"A..B"`` from one span (or ``start``) to another; None: the tokens in which the
            corrupted prompt differs.
        how: ``removed`` (as published), ``replaced`` by the corrupted prompt's tokens or by ``filler``, or ``masked`` (the
            tokens stay, nobody else attends to them, positions do not move).
        filler: a token id to replace the part's tokens by.
        variant: see the formula. ``answer`` is read at the answer position only and needs wrong answers.
        outliers: ``zero``: published outlier removal, per prompt and layer: 0 where both the divergence and the squared
            norm of the output without the part exceed mean + standard deviation over the layer's heads. For ``l2``.
        positions: where it is read: ``end``, a span, several (a further axis), ``each``, None (all tokens); tokens of the
            part itself are left out (NaN where nothing is left).
        batch_size: prompts per pass; changes no number. progress: unused.

    Raises:
        InterpError: an unknown part, a prompt that lacks it or has nothing else; no filler; outliers with another variant.
    """
    if outliers == "zero" and variant != "l2":
        raise InterpError(f"remove outliers of variant={variant!r}", "the published rule is for l2", "use outliers='keep'")
    if variant == "answer" and positions != "end":
        raise InterpError(f"read variant='answer' at {positions!r}", "the answer is read off the answer position",
                          "use positions='end'")
    stack = model.stack("self")
    runs = sides(model, batch)
    prompts, other = side(runs, "clean"), runs.get("corrupt")
    gone = part_of(prompts, part, other)
    axes, found = places(model, batch, prompts, positions, Site("z", 0))
    read = [tokens(prompts, place.at, Site("z", 0), prompts.mask.shape[1]) & ~gone for place in found]
    what = "pattern" if variant == "pattern" else "z"
    wanted = [Site(what, layer) for layer in range(stack.n_layers)]
    values = np.full((len(found), stack.n_layers, stack.n_heads, batch.n), np.nan)
    for rows in chunks(model, prompts, batch_size, held=wanted + wanted):
        here = prompts.take(rows)
        fill = filler if filler is not None else None if other is None else other.take(rows)
        less = without(model, here, gone[rows], how, fill)
        with torch.no_grad():
            one = model.run(here.inputs, capture=wanted).captured
            two = model.run(less.prompts.inputs, less.edits, wanted).captured
        for layer, site in enumerate(wanted):
            if variant == "answer":
                continue
            moved = _moved(variant, one[site], two[site], less, outliers)
            for i, chosen in enumerate(read):
                values[i, layer][:, rows.numpy()] = mean_over_tokens(moved, chosen[rows]).T.cpu().numpy()
        if variant == "answer":
            values[0][:, :, rows.numpy()] = _pushed(model, batch, here, rows, less, one, two)
    return Measured(values=spread(list(values), found, axes), attention="self", axes=axes, metric=f"divergence ({variant})",
                    signed=variant == "answer",
                    notes={"tokens in the part": float(gone.sum(1).double().mean())})


def _moved(variant: str, one: Tensor, two: Tensor, less: Without, outliers: str) -> Tensor:
    """[n, token, head]: the divergence at each token of the full prompts."""
    if variant not in Z_VARIANTS:
        return of_patterns(one, two, less.index, less.shift)
    same = at_tokens(two, less.index)
    moved = of_outputs(variant, one, same)
    return without_outliers(moved, same.double().pow(2).sum(-1)) if outliers == "zero" else moved


def _pushed(model: Any, batch: Any, here: Prompts, rows: Tensor, less: Without, one: Any, two: Any) -> np.ndarray:
    """[layer, head, n]: what the change of each head's output adds to the answer's logit difference."""
    (run,) = final_runs(model, batch.subset(rows.tolist()), "clean", False, len(rows))
    made = []
    at = here.answer[:, None]
    for layer in range(model.n_layers):
        site = Site("z", layer)
        change = (at_tokens(one[site], at) - at_tokens(two[site], less.index.gather(1, at)))[:, 0]
        results = torch.einsum("nhd,hdm->hnm", change, model.W_O(layer).to(change))
        made.append(run.contribution(run.write(layer, results)))
    there = (less.index.gather(1, at)[:, 0] >= 0).cpu()
    return torch.where(there, torch.stack(made), torch.nan).numpy()

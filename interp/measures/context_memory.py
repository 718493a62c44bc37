"""Context against memory: which way each head pushes the answer with a part of the context, and without it."""

from typing import Any, Literal

import numpy as np
import torch

from interp.engine.parts import part_of, without
from interp.engine.prompts import chunks, side, sides
from interp.measures.divergence import at_tokens
from interp.measures.logit_decomposition import final_runs
from interp.measures.measure import Measured, measure
from interp.models.sites import Site

RUNS = ("with", "without", "change")


@measure(
    about="output",
    sense=(
        "larger = more towards the prompt's answer (in a knowledge conflict: the context's) and away from the wrong ones "
        "(the learnt one): a context head has a positive change, a memory head a negative value without the context"
    ),
    formula=(
        "z · W_O on logit(answer) − mean logit(wrong), norms frozen: in the prompt, in the prompt without the part, and the "
        "difference"
    ),
    source=(
        "memory and context heads: Jin et al. 2024, arXiv 2402.18154; the divergence view is ours (their score is not "
        "published in full)"
    ),
    does_not_show=(
        "Only the direct path to the logits counts. One head may do both, and the sign may turn with the wording of the "
        "conflict (Li et al. 2025, arXiv 2503.10996): compare several frames. Without the part the prompt may be unusual."
    ),
    cost="two forward passes of each side",
)
def context_memory(
    model: Any,
    batch: Any,
    *,
    part: str | tuple[str, ...] | None = None,
    how: Literal["removed", "replaced", "masked"] = "masked",
    filler: int | None = None,
    batch_size: int | None = None,
    progress: Any = None,
) -> Measured:
    """Which way each head pushes the answer with a part of the context, without it, and the difference.

    ``values[layer, head, prompt, run]`` in logits, ``run`` being ``with``, ``without`` and ``change`` (with − without). On
    ``interp.tasks.override`` with ``kind="overridden"`` and ``part="start..stated_capital"`` the answer is the context's
    capital and the wrong one the learnt capital.

    Args:
        part, how, filler: as for ``head_divergence``; masked by default, so that no position moves.
        batch_size: prompts per pass; changes no number. progress: unused.

    Raises:
        InterpError: a prompt without wrong answers; an unknown part; a model without direct logits.
    """
    runs = sides(model, batch)
    prompts, other = side(runs, "clean"), runs.get("corrupt")
    gone = part_of(prompts, part, other)
    sites = [Site(what, layer) for layer in range(model.n_layers) for what in ("z", "attn_out")]
    last = Site("resid_post", model.n_layers - 1)
    values = np.full((model.n_layers, model.n_heads, batch.n, len(RUNS)), np.nan)
    for rows in chunks(model, prompts, batch_size, held=sites):
        here = prompts.take(rows)
        fill = filler if filler is not None else None if other is None else other.take(rows)
        less = without(model, here, gone[rows], how, fill)
        (run,) = final_runs(model, batch.subset(rows.tolist()), "clean", False, len(rows))
        with torch.no_grad():
            captured = model.run(less.prompts.inputs, less.edits, [*sites, last]).captured
        at = less.prompts.answer[:, None]
        there = {site: at_tokens(tensor, at)[:, 0] for site, tensor in captured.items()}
        second = type(run)(model, run.attention, there, there[last], run.columns, run.weights)
        pushes = [run.heads().numpy(), second.heads().numpy()]
        values[:, :, rows.numpy()] = np.stack([*pushes, pushes[0] - pushes[1]], axis=-1)
    return Measured(values=values, attention="self", axes={"run": RUNS}, metric="logit_diff", signed=True,
                    notes={"tokens in the part": float(gone.sum(1).double().mean())})

"""Direct logit attribution: what each head writes onto the answer, past all later layers."""

from dataclasses import replace
from typing import Any, Literal

import torch

from interp.measures.logit_decomposition import decoder, final_runs
from interp.measures.measure import Measured, measure


@measure(
    sense="larger = the head itself pushes the answer over the wrong answers more; negative = it pushes the other way",
    formula="(z · W_O at the answer position, final norm frozen) · (W_U[answer] − mean W_U[wrong])",
    source="Elhage et al. 2021; nostalgebraist 2020 (logit lens); Wang et al. 2022",
    does_not_show=(
        "Only the direct path counts: a head that acts through later heads or MLPs scores zero. What a head writes that "
        "is the same for clean and corrupted prompts counts too. The final norm is held fixed, so that contributions add "
        "up, and a final soft cap is left out."
    ),
    cost="one forward pass; one more of the corrupted prompts for contrast='corrupt'",
)
def direct_logit_attribution(
    model: Any,
    batch: Any,
    *,
    contrast: Literal["none", "corrupt"] = "none",
    wrong: Literal["as metric", "mean", "best"] = "as metric",
    batch_size: int | None = None,
    progress: Any = None,
) -> Measured:
    """What each head adds directly to the answer's logit minus the wrong answers'.

    ``values[layer, head, prompt]`` in logits: the head's output (z times W_O) at the answer position, passed through a
    post-norm (where the model has one) and the final norm, both frozen at this run, onto the unembedding of the answer (mean
    over several) minus the wrong answers. Together with ``logit_decomposition``'s other parts the values sum to the logit
    difference. The normalizer is that logit difference itself: the normalised score is the head's share of it.

    A final soft cap (Gemma 2) is not linear: the logits before it are split, and the provenance says so.

    Args:
        contrast: ``corrupt``: minus the same of the corrupted run (with the clean prompt's answers), so that only what
            differs between the prompts counts; the normalizer is then the difference of the logit differences.
        wrong: the answers' mean against the ``mean`` of the wrong ones (the metric logit_diff), or the best answer against
            the ``best`` wrong one of the clean run (logit_diff_max). ``as metric``: best where logit_diff_max is the
            batch's metric, else mean, whatever the metric (a probability is no sum of contributions).
        batch_size: prompts per pass; changes no number. progress: unused, one pass.

    Raises:
        InterpError: the model is no decoder-only language model, or its residual stream is not a sum up to the logits; a
            prompt has no wrong answer.
    """
    stack = decoder(model)
    best = wrong == "best" or (wrong == "as metric" and batch.metric.name == "logit_diff_max")
    runs = list(final_runs(model, batch, "clean", best, batch_size))
    sides = {"clean": [(run.heads(), run.total()) for run in runs]}
    if contrast == "corrupt":
        others = final_runs(model, batch, "corrupt", False, batch_size)
        same = [replace(other, weights=run.weights) for run, other in zip(runs, others, strict=True)]
        sides["corrupt"] = [(run.heads(), run.total()) for run in same]
    heads = {on: torch.cat([part for part, _ in made], -1) for on, made in sides.items()}
    total = {on: torch.cat([part for _, part in made]) for on, made in sides.items()}
    values = heads["clean"] - heads["corrupt"] if "corrupt" in heads else heads["clean"]
    whole = total["clean"] - total["corrupt"] if "corrupt" in total else total["clean"]
    return Measured(
        values=values.numpy(),
        attention=stack.attention,
        baselines={on: t.numpy() for on, t in total.items()},
        normalizer=whole.numpy(),
        metric="logit_diff_max" if best else "logit_diff",
        notes={"logits": "before a final soft cap, if the model has one"},
    )

"""Direct logit attribution: what each head writes onto the answer, past all later layers."""

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
    wrong: Literal["mean", "best"] = "mean",
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
        wrong: the answer against the ``mean`` of the wrong answers (as the metric logit_diff), or the best answer against
            the ``best`` wrong answer of the clean run (as logit_diff_max).
        batch_size: prompts per pass; changes no number. progress: unused, one pass.

    Raises:
        InterpError: the model is no decoder-only language model, or its residual stream is not a sum up to the logits.
    """
    stack = decoder(model)
    heads: dict[str, torch.Tensor] = {}
    total: dict[str, torch.Tensor] = {}
    for on in ("clean",) if contrast == "none" else ("clean", "corrupt"):
        made = [(run.heads(), run.total()) for run in final_runs(model, batch, on, wrong == "best", batch_size, [])]
        heads[on], total[on] = torch.cat([h for h, _ in made], -1), torch.cat([t for _, t in made])
    values, whole = heads["clean"], total["clean"]
    if contrast == "corrupt":
        values, whole = values - heads["corrupt"], whole - total["corrupt"]
    return Measured(
        values=values.numpy(),
        attention=stack.attention,
        baselines={on: t.numpy() for on, t in total.items()},
        normalizer=whole.numpy(),
        metric="logit_diff" if wrong == "mean" else "logit_diff_max",
        notes={"logits": "before a final soft cap, if the model has one"},
    )

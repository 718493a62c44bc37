"""MLP outputs decomposed by the heads that feed them: is what a head wrote amplified or erased?"""

from typing import Any, Literal

import numpy as np

from interp.core.errors import InterpError
from interp.measures.measure import Measured, measure
from interp.measures.mlp_decomposition import mlp_decomposition


@measure(
    sense=(
        "contribution: larger = through that MLP the head pushes the answer over the wrong answers more; coefficient: "
        "positive = the MLP amplifies what the head wrote, negative = it erases it (−1: entirely)"
    ),
    formula=(
        "regression: MLP output ≈ Σ_parts w_part · part + b over prompts and dimensions, parts = heads, earlier MLPs, "
        "embedding; contribution = w_head · (direct logit attribution of the head); gradient: ∂(MLP output on the answer) / "
        "∂(stream it reads) · z W_O"
    ),
    source=(
        "Lv et al. 2024 (arXiv 2403.19521): linear regression of MLP outputs with a task-aware intercept; its details are "
        "not known to us, the fit described here and the method gradient are ours"
    ),
    does_not_show=(
        "Whether the answer depends on it: nothing is intervened on. One number per head says that the MLP scales what the "
        "head wrote, not that it turns it into something else (that goes into intercept and rest: look at the share "
        "explained in the provenance). Heads that write the same on all prompts have no coefficient (0), and those that "
        "vary together share theirs arbitrarily. A gradient is local: where neurons saturate it is 0."
    ),
    cost="one forward pass; for method='gradient' one more and a small backward pass per layer",
    about="output",
)
def mlp_by_head(
    model: Any,
    batch: Any,
    *,
    method: Literal["regression", "gradient"] = "regression",
    value: Literal["contribution", "coefficient"] = "contribution",
    batch_size: int | None = None,
) -> Measured:
    """What each MLP makes of what each head wrote, at the answer position.

    ``values[layer, head, prompt, mlp]``: in logits of the answer's difference (``contribution``) or a plain number
    (``coefficient``); 0 for an MLP before the head. ``interp.measures.mlp_decomposition`` gives all parts of the sum.

    Args:
        method: ``regression`` (published) or ``gradient`` (per prompt, of this run).
        value: ``coefficient`` is one number per head and MLP for all prompts together; the values of single prompts are
            jackknife pseudo-values, so that their mean and its interval are the coefficient's. Of a regression only.
        batch_size: prompts per pass; changes no number.

    Raises:
        InterpError: as ``mlp_decomposition``; a coefficient of another method.
    """
    if value == "coefficient" and method != "regression":
        raise InterpError(f"take the coefficient of method={method!r}", "only a regression has coefficients",
                          "use method='regression'")
    split = mlp_decomposition(model, batch, method, batch_size=batch_size)
    values = split.heads if value == "contribution" else split.coefficients
    notes = {} if split.explained is None else {"share explained": [round(float(x), 4) for x in split.explained]}
    return Measured(values=np.moveaxis(values, 0, -1), attention="self", axes={"mlp": tuple(range(model.n_layers))},
                    metric="logits" if value == "contribution" else "coefficient", signed=True, notes=notes)

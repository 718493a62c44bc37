"""Output-value weights: do heads read one entry only, and do they sum to zero, as in attention that regresses in context?"""

from typing import Any, Literal

import numpy as np
import torch

from interp.core.errors import InterpError
from interp.measures.measure import Measured, measure


@measure(
    about="output",
    sense=(
        "entry share: larger = the head reads that entry and nothing else; entry weight: what it makes of it, with sign; "
        "signed share: of the layer's weights on that entry; shares that sum to 0 over the heads are the zero-sum pattern"
    ),
    formula=(
        "u_h = W_V W_O[:, readout]; entry share |u_h[entry]| / Σ_i |u_h[i]|; entry weight u_h[entry]; "
        "signed share u_h[entry] / Σ_h' |u_h'[entry]|, so that its sum over heads is ±|Σ_h u_h[entry]| / Σ_h |u_h[entry]|"
    ),
    source=(
        "He et al. 2025 (arXiv 2503.12734): OV reads the last entry (the response y) only, and the heads' weights sum to "
        "zero; the released code follows the last entry over training; the shares as one number are ours"
    ),
    does_not_show=(
        "Anything of the data: single entries of the residual stream mean something in their model, where inputs stand "
        "there as they are, and are arbitrary in a language model. Norms before attention and the value bias are left out."
    ),
    cost="no pass",
)
def ov_pattern(
    model: Any,
    batch: Any,
    *,
    value: Literal["entry share", "entry weight", "signed share"] = "entry share",
    entry: int = -1,
    readout: int = -1,
) -> Measured:
    """What each head carries from one entry of the residual stream to another.

    ``values[layer, head, prompt]``: shares from 0 (−1 with sign) to 1, or a weight. Every prompt has the same
    value, since weights know no prompts: an interval over prompts is of no width, and none is meant.

    Args:
        entry: the entry that is read (published: the last, which holds y); negative ones count from the end.
        readout: the entry that is written, where the prediction is read off (published: the only output).

    Raises:
        InterpError: an entry that the residual stream does not have; a model whose values are no linear map of the stream.
    """
    stack = model.stack("self")
    for name, index in (("entry", entry), ("readout", readout)):
        if not -stack.d_model <= index < stack.d_model:
            raise InterpError(f"read {name}={index}", f"the residual stream has {stack.d_model} entries",
                              "choose one of them")
    layers = []
    for layer in range(stack.n_layers):
        with torch.no_grad():
            outputs, reads = model.W_O(layer).double().cpu(), model.W_V(layer).double().cpu()
        vectors = torch.stack([reads[head // stack.group] @ outputs[head, :, readout] for head in range(stack.n_heads)])
        layers.append(_statistic(vectors, value, entry))
    return Measured(values=np.repeat(np.stack(layers)[:, :, None], batch.n, axis=2), attention="self", metric=value,
                    signed=False)


def _statistic(vectors: torch.Tensor, value: str, entry: int) -> np.ndarray:
    """[head] from the heads' vectors [head, d_model]; NaN where there is nothing to divide by."""
    at = vectors[:, entry]
    if value == "entry weight":
        return at.numpy()
    whole = vectors.abs().sum(1) if value == "entry share" else at.abs().sum().expand(len(at))
    part = at.abs() if value == "entry share" else at
    return torch.where(whole > 0, part / whole.clamp(min=torch.finfo(whole.dtype).tiny), torch.nan).numpy()

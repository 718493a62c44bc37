"""Key-query weights: are they diagonal and homogeneous, as in attention that does regression in context?"""

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.measures.measure import Measured, measure
from interp.models.sites import Site


@measure(
    about="attention",
    sense=(
        "diagonal share: larger = more of the weight compares like with like; mean diagonal: positive = likes attract; "
        "homogeneity: larger = the diagonal is more even"
    ),
    formula=(
        "M = W_K W_Qᵀ · scale on the chosen entries; diagonal share Σ_i |M_ii| / Σ_ij |M_ij|; mean diagonal mean_i M_ii; "
        "homogeneity |mean_i M_ii| / (|mean_i M_ii| + std_i M_ii), 1 = all equal, 0 = mean zero"
    ),
    source=(
        "He et al. 2025 (arXiv 2503.12734): KQ is diagonal and homogeneous on the covariates; their released code follows "
        "the mean of the diagonal over training; share and homogeneity as one number are ours"
    ),
    does_not_show=(
        "Anything of the data: the residual basis means something where inputs are read as they stand, as in their model; "
        "in a language model it is arbitrary, and basis='tokens' asks the same of the prompt's own embeddings. Norms before "
        "attention, biases and rotary embedding are left out. Heads with one sign each may undo one another (ov_pattern)."
    ),
    cost="no pass (basis='tokens': one)",
)
def kq_pattern(
    model: Any,
    batch: Any,
    *,
    value: Literal["diagonal share", "mean diagonal", "homogeneity"] = "diagonal share",
    basis: Literal["residual", "tokens"] = "residual",
    entries: tuple[int, ...] | None = None,
    batch_size: int | None = None,
) -> Measured:
    """How far each head's key-query weights are a multiple of the identity.

    ``values[layer, head, prompt]``: shares from 0 to 1, or a score per squared entry. In the residual basis every prompt has
    the same value, since weights know no prompts: an interval over prompts is then of no width, and none is meant.

    Args:
        basis: ``residual``: entries are those of the residual stream, as published. ``tokens``: rows and columns are the
            different tokens of the prompt, as they are embedded at their first place (position included): how a token's
            query scores each token's key.
        entries: (first, stop) of the entries that count, such as the covariates of a regression; None: all. Of the residual
            basis only.
        batch_size: prompts per pass; changes no number.

    Raises:
        InterpError: a model whose keys are no linear map of the stream; entries that do not exist, or in another basis.
    """
    stack = model.stack("self")
    if entries is not None and basis != "residual":
        raise InterpError(f"choose entries {entries} in the basis of tokens", "tokens have no entries", "leave entries out")
    chosen = _slice(entries, stack.d_model)
    with torch.no_grad():
        weights = [matrices(model, layer) for layer in range(stack.n_layers)]
    if basis == "residual":
        each = np.array([[_statistic(k[chosen] @ q[chosen].T * scale, value) for q, k, scale in heads] for heads in weights])
        return Measured(values=np.repeat(each[:, :, None], batch.n, axis=2), attention="self", metric=value, signed=False)
    embedded = embeddings(model, batch, batch_size)
    values = np.array([[[_statistic((x @ k) @ (x @ q).T * scale, value) for x in embedded] for q, k, scale in heads]
                       for heads in weights])
    return Measured(values=values, attention="self", metric=value, signed=False)


def matrices(model: Any, layer: int) -> list[tuple[Tensor, Tensor, float]]:
    """W_Q and W_K [d_model, d_qk] of each query head, float64, and the factor 1/√d_qk by which scores are usually scaled."""
    stack = model.stack("self")
    queries, keys = (w.detach().double().cpu() for w in (model.W_Q(layer), model.W_K(layer)))
    return [(queries[head], keys[head // stack.group], stack.d_qk**-0.5) for head in range(stack.n_heads)]


def embeddings(model: Any, batch: Any, batch_size: int | None) -> list[Tensor]:
    """What enters the first block at the first place of each different token, per prompt: [token, d_model], float64."""
    from interp.engine.activations import activations

    site = Site("resid_pre", 0)
    stream = activations(model, batch, [site], batch_size=batch_size)[site].double().cpu()
    rows = []
    for ids, start, one in zip(batch.clean.rows(), batch.clean.start.tolist(), stream, strict=True):
        rows.append(one[[start + ids.index(token) for token in dict.fromkeys(ids)]])
    return rows


def _statistic(m: Tensor, value: str) -> float:
    diagonal = m.diagonal()
    if value == "diagonal share":
        whole = float(m.abs().sum())
        return float(diagonal.abs().sum()) / whole if whole else float("nan")
    mean = float(diagonal.mean())
    if value == "mean diagonal":
        return mean
    spread = abs(mean) + float(diagonal.std(correction=0))
    return abs(mean) / spread if spread else float("nan")


def _slice(entries: tuple[int, ...] | None, size: int) -> slice:
    if entries is None:
        return slice(0, size)
    if len(entries) != 2 or not 0 <= entries[0] < entries[1] <= size:
        raise InterpError(f"choose the entries {entries}", f"the residual stream has entries 0 to {size - 1}",
                          f"give (first, stop) with 0 <= first < stop <= {size}")
    return slice(*entries)

"""How far a head's output (or attention) moves between two runs at corresponding tokens: the variants, as functions.

Each takes one layer's tensors of both runs at the same tokens and returns [n, token, head]. What the variants have in common
is here; ``head_divergence`` takes a part of the context away, ``model_divergence`` exchanges the model.
"""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.core.scores import HeadScores

Variant = Literal["l2", "relative", "cosine", "pattern", "answer"]
Z_VARIANTS = ("l2", "relative", "cosine")


def of_outputs(variant: str, one: Tensor, two: Tensor) -> Tensor:
    """Divergence of outputs ``one`` and ``two`` [..., head, d]: ``l2`` ||a − b||; ``relative`` ||a − b|| / ||a||; ``cosine``
    1 − cos(a, b). Zero where both are zero."""
    one, two = one.double(), two.double()
    apart = (one - two).norm(dim=-1)
    if variant == "l2":
        return apart
    size = one.norm(dim=-1)
    if variant == "relative":
        return torch.where(apart > 0, apart / size, 0.0)
    same = (one * two).sum(-1) / (size * two.norm(dim=-1))
    return torch.where((size > 0) & (two.norm(dim=-1) > 0), 1 - same, (apart > 0).double()).clamp(min=0)


def jensen_shannon(one: Tensor, two: Tensor) -> Tensor:
    """Jensen–Shannon divergence in bits along the last axis, 0 (equal) to 1 (no key in common)."""
    one, two = one.double(), two.double()
    middle = (one + two) / 2
    return ((_information(one, middle) + _information(two, middle)) / 2).clamp(min=0)


def without_outliers(divergence: Tensor, reference: Tensor) -> Tensor:
    """Published outlier removal: 0 for a head whose divergence and whose squared output norm in the run without the part,
    ``reference``, both lie above mean plus (population) standard deviation over the heads of its layer. Heads are last."""
    def high(x: Tensor) -> Tensor:
        return x > x.mean(-1, keepdim=True) + x.std(-1, keepdim=True, correction=0)

    return divergence.masked_fill(high(divergence) & high(reference), 0.0)


def token_divergence(scores: HeadScores, top: int = 3) -> np.ndarray:
    """T-VHD: the sum over layers of the ``top`` largest divergences in each layer, [prompt] or [prompt, position].

    He et al. 2025, Eq. 5; the paper's value of k is not known to us, so the default is ours. NaN counts as absent.
    """
    heads = scores.values.shape[1]
    if not 1 <= top <= heads:
        raise InterpError(f"sum the {top} largest divergences of each layer", f"a layer has {heads} heads",
                          f"choose 1 to {heads}")
    return np.nansum(np.sort(np.nan_to_num(scores.values, nan=-np.inf), axis=1)[:, -top:], axis=(0, 1))


def amplified_heads(scores: HeadScores) -> np.ndarray:
    """VHR's choice of heads: those above the median of their layer in mean divergence, bool [layer, head] (Eq. 7; strict:
    where all are equal none is chosen)."""
    mean = scores.mean() if scores.values.ndim == 3 else np.nanmean(scores.values, axis=tuple(range(2, scores.values.ndim)))
    return mean > np.median(mean, axis=1, keepdims=True)


def at_tokens(tensor: Tensor, index: Tensor) -> Tensor:
    """``tensor`` [n, position, ...] at ``index`` [n, k] (whatever stands at 0 where the index is negative)."""
    shape = (*index.shape, *[1] * (tensor.dim() - 2))
    return tensor.gather(1, index.clamp(min=0).view(shape).expand(*index.shape, *tensor.shape[2:]))


def mean_over_tokens(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of ``values`` [n, token, head] over the tokens ``chosen`` [n, token]: [n, head]; NaN where none is chosen."""
    total = values.masked_fill(~chosen[:, :, None], 0).sum(1)
    count = chosen.sum(1)[:, None].double()
    return torch.where(count > 0, total / count, torch.nan)


def of_patterns(one: Tensor, two: Tensor, index: Tensor, shift: Tensor) -> Tensor:
    """Jensen–Shannon divergence (bits) of the rows of two patterns [n, head, query, key]: [n, query, head].

    ``index`` [n, query] says which row of ``two`` belongs to each of ``one``, ``shift`` [n, key] which key; keys that
    ``two`` does not have keep their weight in ``one`` and have none in ``two``. Rows are scaled to sum 1 first, so that a
    learned sink does not count as divergence.
    """
    n, heads, queries, keys = one.shape
    rows = two.gather(2, index.clamp(min=0)[:, None, :, None].expand(n, heads, queries, two.shape[3]))
    columns = rows.gather(3, shift.clamp(min=0)[:, None, None, :].expand(n, heads, queries, keys))
    columns = columns.masked_fill((shift < 0)[:, None, None, :], 0)
    scaled = [x.double() / x.double().sum(-1, keepdim=True).clamp(min=1e-300) for x in (one, columns)]
    return jensen_shannon(*scaled).transpose(1, 2)


def _information(p: Tensor, q: Tensor) -> Tensor:
    return torch.where(p > 0, p * (p.clamp(min=1e-300) / q.clamp(min=1e-300)).log2(), 0.0).sum(-1)

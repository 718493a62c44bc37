"""The softmax correction of AtP* (QK-fix): the change of the pattern when q or k is patched, times the gradient there.

All tensors are [prompt, head, query, key] in float64. The softmax is never linearised; only what follows the pattern is.
Source: Kramár et al. 2024, section 3.1 (their node is one key or query at one token; several at once are treated jointly).
"""

import torch
from torch import Tensor

from interp.core.errors import InterpError


def whole(pattern: Tensor, patched: Tensor, slope: Tensor) -> Tensor:
    """Effect of exchanging each row of the pattern: Σ over keys of (patched − pattern) · slope, [prompt, head, query]."""
    return ((patched - pattern) * slope).sum(-1)


def mixed_keys(
    scores: Tensor,
    patched: Tensor,
    pattern: Tensor,
    slope: Tensor,
    *,
    keys: Tensor,
    sink: bool,
    rows: Tensor,
    tolerance: float = 1e-3,
) -> Tensor:
    """Effect of patching the ``keys`` [prompt, key] (bool) together, summed over the real ``rows``: [prompt, head].

    The columns of those keys take the patched scores, the others keep theirs, and every row is normalised anew.
    """
    scores, patched, slope = with_sink(scores, patched, pattern, slope, sink, rows, tolerance)
    chosen = torch.nn.functional.pad(keys, (0, slope.shape[-1] - keys.shape[-1]))
    mixed = torch.where(chosen[:, None, None, :], patched, scores)
    change = ((mixed.softmax(-1) - scores.softmax(-1)) * slope).sum(-1)
    return change.masked_fill(~rows[:, None, :], 0).sum(-1)


def one_key_at_a_time(
    scores: Tensor,
    patched: Tensor,
    pattern: Tensor,
    slope: Tensor,
    *,
    sink: bool,
    rows: Tensor,
    tolerance: float = 1e-3,
) -> Tensor:
    """Effect of patching each key alone, summed over the real ``rows``: [prompt, head, key].

    In a row, let L be the log-sum-exp of the other keys' scores and G their average slope under the pattern without key t.
    With the patched score s' the key gets the weight w = sigmoid(s' − L), and the row's average slope becomes
    w · slope_t + (1 − w) · G. One pass over the square, without a softmax per key.
    """
    n_keys = scores.shape[-1]
    scores, patched, slope = with_sink(scores, patched, pattern, slope, sink, rows, tolerance)
    weights = scores.softmax(-1)
    mean = (weights * slope).sum(-1, keepdim=True)
    total = scores.logsumexp(-1, keepdim=True)
    # Leaving out the largest key of a row cannot be had by subtraction: it may hold all the weight. It is summed apart.
    largest = torch.nn.functional.one_hot(scores.argmax(-1), scores.shape[-1]).bool()
    lesser = weights.masked_fill(largest, 0)
    others = total + torch.log1p(-lesser)
    others_mean = (mean - lesser * slope) / (1 - lesser)
    rest = scores.masked_fill(largest, -torch.inf)
    alone = torch.isneginf(rest).all(-1, keepdim=True)
    rest_mean = (rest.masked_fill(alone, 0).softmax(-1) * slope).sum(-1, keepdim=True)
    others = torch.where(largest, rest.logsumexp(-1, keepdim=True), others)
    others_mean = torch.where(largest, rest_mean, others_mean)
    weight = torch.where(alone & largest, torch.ones_like(others), torch.sigmoid(patched - others))
    change = weight * slope + (1 - weight) * others_mean - mean
    return change.masked_fill(~rows[:, None, :, None], 0).sum(2)[..., :n_keys]


def with_sink(
    scores: Tensor, patched: Tensor, pattern: Tensor, slope: Tensor, sink: bool, rows: Tensor, tolerance: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, patched scores and slope, a learned sink appended as one more key of slope 0.

    Raises InterpError where the pattern is further than ``tolerance`` from the softmax of the scores (with that sink): the
    correction would be wrong.
    """
    empty = torch.isneginf(scores).all(-1, keepdim=True)  # rows of padding
    scores, patched = scores.masked_fill(empty, 0), patched.masked_fill(empty, 0)
    if sink:
        column = _sink_score(scores, pattern, rows)[None, :, None, None].expand(*scores.shape[:3], 1)
        scores, patched = torch.cat([scores, column], -1), torch.cat([patched, column], -1)
        slope = torch.nn.functional.pad(slope, (0, 1))
    padding = ~rows[:, None, :, None]
    off = (scores.softmax(-1)[..., : pattern.shape[-1]] - pattern).abs().masked_fill(padding, 0).max()
    if off > tolerance:
        raise InterpError(
            "correct keys for the softmax",
            f"the pattern is not the softmax of the scores (it differs by {off:.2g})",
            "use qk_fix=False, or positions=None",
        )
    return scores, patched, slope


def _sink_score(scores: Tensor, pattern: Tensor, rows: Tensor) -> Tensor:
    """The learned score of each head's sink [head], from the row that leaves the sink the share nearest to one half."""
    share = pattern.sum(-1).clamp(1e-12, 1 - 1e-12)
    score = scores.logsumexp(-1) + torch.log1p(-share) - share.log()
    middle = (share - 0.5).abs().masked_fill(~rows[:, None, :], torch.inf).transpose(0, 1).flatten(1).argmin(1)
    return score.transpose(0, 1).flatten(1).gather(1, middle[:, None])[:, 0]

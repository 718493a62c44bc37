"""The softmax correction against a second implementation in plain numpy loops."""

import numpy as np
import pytest
import torch

from interp.core.errors import InterpError
from interp.measures.softmax_correction import mixed_keys, one_key_at_a_time, whole


def softmax(row, sink):
    row = np.append(row, sink) if sink is not None else row
    e = np.exp(row - row.max())
    return (e / e.sum())[: len(row) - (sink is not None)]


def slow(scores, patched, slope, keys, rows, sink):
    """Σ over real rows of (softmax with the patched columns − softmax) · slope, one row at a time: [prompt, head]."""
    n, heads, queries, _ = scores.shape
    out = np.zeros((n, heads))
    for i in range(n):
        for h in range(heads):
            for q in range(queries):
                if rows[i, q]:
                    mixed = np.where(keys[i], patched[i, h, q], scores[i, h, q])
                    s = None if sink is None else sink[h]
                    out[i, h] += (softmax(mixed, s) - softmax(scores[i, h, q], s)) @ slope[i, h, q]
    return out


def example(gain, seed, masked):
    """Causal scores of 2 prompts, 3 heads, 6 tokens; the second prompt has 4 real tokens."""
    rng = np.random.default_rng(seed)
    scores, patched, slope = (gain * rng.normal(size=(2, 3, 6, 6)) for _ in range(3))
    rows = np.array([[1] * 6, [1] * 4 + [0] * 2], dtype=bool)
    visible = np.tril(np.ones((6, 6), dtype=bool)) & rows[:, None, None, :]
    return np.where(visible, scores, masked), np.where(visible, patched, masked), slope / gain, rows, rng


@pytest.mark.parametrize("masked", [-np.inf, float(np.finfo(np.float32).min)])
@pytest.mark.parametrize(
    ("gain", "with_sink"), [(0.1, False), (1.0, False), (30.0, False), (1000.0, False), (0.1, True), (5.0, True)]
)
def test_agrees_with_loops(gain, masked, with_sink):
    scores, patched, slope, rows, rng = example(gain, 0, masked)
    sink = gain * rng.normal(size=3) if with_sink else None
    with np.errstate(invalid="ignore"):
        pattern = np.stack(
            [[[softmax(r, None if sink is None else sink[h]) for r in m] for h, m in enumerate(p)] for p in scores]
        )
    tensors = [torch.from_numpy(np.ascontiguousarray(x)) for x in (scores, patched, np.nan_to_num(pattern), slope)]
    args = {"sink": with_sink, "rows": torch.from_numpy(rows)}
    each = one_key_at_a_time(*tensors, **args).numpy()
    for t in range(6):
        keys = np.zeros((2, 6), dtype=bool)
        keys[:, t] = True
        np.testing.assert_allclose(each[..., t], slow(scores, patched, slope, keys, rows, sink), rtol=1e-7, atol=1e-9)
    keys = rng.random((2, 6)) < 0.5
    got = mixed_keys(*tensors, keys=torch.from_numpy(keys), **args).numpy()
    np.testing.assert_allclose(got, slow(scores, patched, slope, keys, rows, sink), rtol=1e-7, atol=1e-9)


def test_nothing_patched_changes_nothing_and_the_whole_is_the_sum():
    scores, patched, slope, rows, _ = (
        torch.from_numpy(x) if isinstance(x, np.ndarray) else x for x in example(1.0, 1, -1e9)
    )
    pattern = scores.softmax(-1)
    same = one_key_at_a_time(scores, scores, pattern, slope, sink=False, rows=rows)
    assert same.abs().max() < 1e-12
    everything = mixed_keys(scores, patched, pattern, slope, keys=torch.ones(2, 6, dtype=torch.bool), sink=False, rows=rows)
    by_row = whole(pattern, patched.softmax(-1), slope).masked_fill(~rows[:, None, :], 0).sum(-1)
    assert torch.allclose(everything, by_row)
    assert everything.abs().max() > 0.1


def test_refuses_a_pattern_that_is_not_the_softmax_of_its_scores():
    scores = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    with pytest.raises(InterpError, match="not the softmax"):
        one_key_at_a_time(
            scores, scores, torch.eye(3).double()[None, None], scores, sink=False, rows=torch.ones(1, 3).bool()
        )

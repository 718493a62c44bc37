"""Metrics against loops over prompts, and their gradients."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.core.errors import InterpError
from interp.tasks import from_tokens
from interp.tasks.metrics import METRICS, logit_diff_weights, metric_of

ANSWERS = [[3], [1, 2], [0]]
WRONG = [[4, 5, 6], [7], [2, 3]]


def batch():
    return from_tokens([[1], [2], [3]], [[4], [5], [6]], ANSWERS, WRONG)


def slow(name, row, right, wrong):
    """One prompt, in plain python."""
    row = row.tolist()
    total = sum(math.exp(x) for x in row)
    prob = [math.exp(x) / total for x in row]
    mean = {"logit_diff": lambda xs: sum(row[x] for x in xs) / len(xs), "logit_diff_max": lambda xs: max(row[x] for x in xs)}
    if name in mean:
        return mean[name](right) - mean[name](wrong)
    return {
        "answer_logprob": math.log(sum(prob[x] for x in right)),
        "prob_diff": sum(prob[x] for x in right) - sum(prob[x] for x in wrong),
        "accuracy": float(max(range(len(row)), key=row.__getitem__) in right),
        "beats_wrong": float(max(row[x] for x in right) > max(row[x] for x in wrong)),
    }[name]


@pytest.mark.parametrize("name", METRICS)
@settings(deadline=None)
@given(seed=st.integers(0, 2**31))
def test_a_metric_is_what_it_says(name, seed):
    logits = torch.randn(3, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3
    found = METRICS[name](logits, batch())
    assert found.shape == (3,)
    for value, row, right, wrong in zip(found.tolist(), logits, ANSWERS, WRONG, strict=True):
        assert value == pytest.approx(slow(name, row, right, wrong))


@pytest.mark.parametrize("name", METRICS)
def test_gradients_and_dtypes(name):
    metric = METRICS[name]
    logits = torch.randn(3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    value = metric(logits, batch())
    assert metric(logits.detach().bfloat16(), batch()).dtype == torch.float32
    assert value.requires_grad == metric.differentiable
    if metric.differentiable:
        assert torch.autograd.gradcheck(lambda x: metric(x, batch()), logits)


def test_which_metric_is_linear():
    one, other = torch.randn(2, 3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for name in METRICS:
        metric = METRICS[name]
        if not metric.differentiable:
            continue
        whole, parts = metric(one + other, batch()), metric(one, batch()) + metric(other, batch())
        assert torch.allclose(whole, parts) == metric.linear, name
    columns, weights = logit_diff_weights(batch())
    assert torch.allclose((one.gather(1, columns) * weights).sum(1), METRICS["logit_diff"](one, batch()))


def test_adding_a_constant_to_all_logits_changes_no_metric():
    logits = torch.randn(3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for name in METRICS:
        torch.testing.assert_close(METRICS[name](logits + 5, batch()), METRICS[name](logits, batch()))


def test_by_name_or_itself():
    metric = METRICS["logit_diff"]
    assert metric_of(metric) is metric
    assert metric_of("logit_diff") is metric
    with pytest.raises(InterpError, match="did you mean 'accuracy'"):
        metric_of("acuracy")


def test_without_wrong_answers_only_some_metrics_are_defined():
    for name in METRICS:
        if METRICS[name].needs_wrong:
            with pytest.raises(InterpError, match="no wrong answer"):
                from_tokens([[1]], [[2]], [3], [[]], metric=name)
        else:
            from_tokens([[1]], [[2]], [3], [[]], metric=name)

"""Pretrained models: a few heads carry each behaviour, and unlike measures name the same ones."""

import numpy as np
import pytest

import interp
from interp.core.head import Head
from interp.engine.activations import activations
from interp.engine.baselines import baselines
from interp.models.sites import Site

pytestmark = pytest.mark.weights

MEASURES = (
    ("activation_patching", {"direction": "noising"}),
    ("activation_patching", {"direction": "denoising"}),
    ("ablation", {"kind": "mean"}),
    ("ablation", {"kind": "zero"}),
    ("attribution_patching", {}),
    ("direct_logit_attribution", {}),
)
CARRIERS = {
    "name_copying": {Head(4, 0), Head(4, 7), Head(4, 1)},
    "pronoun": {Head(4, 2), Head(4, 0)},
}


@pytest.fixture(scope="module")
def stories(weights):
    return interp.load(weights / "stories260K")


@pytest.fixture(scope="module")
def two_layers(weights):
    return interp.load(weights / "induction-2L")


def first(scores, k):
    means = scores.mean().ravel()
    return {scores.heads[i] for i in np.argsort(-means, kind="stable")[:k]}


@pytest.mark.parametrize("task", CARRIERS)
def test_the_same_few_heads_carry_a_behaviour_by_every_causal_measure(stories, task):
    batch = getattr(interp.tasks, task).batch(stories, n=40, seed=0)
    assert baselines(stories, batch).beats_wrong.mean() > 0.95
    carriers = CARRIERS[task]
    for name, options in MEASURES:
        scores = getattr(interp.measures, name)(stories, batch, progress=False, **options)
        assert first(scores, len(carriers)) == carriers, (name, options)
        test, low = scores.test(), scores.interval(n_boot=500)[0]
        mean = scores.mean()
        for head in carriers:
            assert test.significant[head.layer, head.head]
            assert low[head.layer, head.head] > 0
        rest = np.delete(mean.ravel(), [head.layer * scores.n_heads + head.head for head in carriers])
        assert min(mean[head.layer, head.head] for head in carriers) > 1.1 * rest.max(), (name, options)
    patching = interp.measures.activation_patching(stories, batch, progress=False).normalized()
    share = sum(patching.values[head.layer, head.head] for head in carriers)
    assert share > 0.5  # single effects of the carriers make up more than half of the whole effect


def test_attribution_ranks_heads_as_patching_does_on_a_trained_model(stories):
    batch = interp.tasks.pronoun.batch(stories, n=24, seed=0)
    for component in ("z", "v", "k", "q"):
        exact = interp.measures.activation_patching(stories, batch, component=component, progress=False).mean().ravel()
        fixed = interp.measures.attribution_patching(stories, batch, component=component).mean().ravel()
        assert np.corrcoef(exact, fixed)[0, 1] > 0.8, component
        if component in "qk":
            rough = interp.measures.attribution_patching(stories, batch, component=component, qk_fix=False)
            rough = rough.mean().ravel()
            assert np.abs(fixed - exact).sum() < np.abs(rough - exact).sum(), component


def test_induction_heads_come_first(two_layers):
    """Induction heads are told by where they look: at the token after the last one's earlier occurrence."""
    batch = interp.tasks.induction.batch(two_layers, n=24, seed=0)
    looks = looking(two_layers, batch)
    induction = {head for head, (_, after_earlier) in looks.items() if after_earlier > 0.3}
    assert len(induction) == 3
    assert {head.layer for head in induction} == {1}
    for name, options in MEASURES:
        scores = getattr(interp.measures, name)(two_layers, batch, progress=False, **options)
        if name == "ablation":
            continue
        assert first(scores, 3) == induction, (name, options)
        assert scores.top(3)["low"].min() > 0


def test_ablation_also_names_the_head_that_induction_reads(two_layers):
    """A head that does the same on both prompts has no part in patching, but the behaviour falls without it."""
    batch = interp.tasks.induction.batch(two_layers, n=24, seed=0)
    looks = looking(two_layers, batch)
    previous = max(looks, key=lambda head: looks[head][0])
    assert looks[previous][0] > 0.5
    ablated = interp.measures.ablation(two_layers, batch, progress=False)
    assert first(ablated, 1) == {previous}
    assert previous not in first(interp.measures.activation_patching(two_layers, batch, progress=False), 4)


def looking(model, batch):
    """Of each head: attention of the last token to the one before it (mean over tokens), and to what followed it earlier."""
    sites = [Site("pattern", layer) for layer in range(model.n_layers)]
    patterns = activations(model, batch, sites)
    found = {}
    for site in sites:
        for head in range(model.n_heads):
            to_previous, to_after = [], []
            for i in range(batch.n):
                start, last = int(batch.clean.start[i]), int(batch.clean.last[i])
                ids, pattern = batch.clean.ids[i], patterns[site][i, head]
                earlier = [t for t in range(start, last) if ids[t] == ids[last]]
                to_after.append(sum(float(pattern[last, t + 1]) for t in earlier))
                to_previous.append(float(pattern.diagonal(-1)[start:last].mean()))
            found[Head(site.layer, head)] = (np.mean(to_previous), np.mean(to_after))
    return found

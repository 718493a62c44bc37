"""On the built-in organism: the heads that patterns tell to be of a kind are those that matter for induction by patching."""

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

import interp

NAMED = 0.4
"""Attention to its target from which on a head is called by it."""


@pytest.fixture(scope="module")
def organism():
    return interp.load("organism")


@pytest.fixture(scope="module")
def batches(organism):
    """Induction with only the answer's earlier occurrence changed, and with nothing that repeats."""
    return {corruption: interp.tasks.induction.batch(organism, n=12, seed=0, corruption=corruption, length=12)
            for corruption in ("successor", "no_repeat")}


@pytest.fixture(scope="module")
def effects(organism, batches):
    """Mean effect of patching each head [layer, head]."""
    return {name: interp.measures.activation_patching(organism, batch, progress=False).mean()
            for name, batch in batches.items()}


@pytest.fixture(scope="module")
def looks(organism, batches):
    """What each head gives to each target [layer, head]."""
    return {target: interp.measures.attends_to(organism, batches["no_repeat"], target=target).mean()
            for target in ("induction", "previous token", "duplicate token")}


def ranks(values):
    """0 for the largest."""
    return (-values).ravel().argsort().argsort().reshape(values.shape)


def test_induction_heads_matter_more_than_the_heads_beside_and_after_them(organism, batches, effects, looks):
    prefix = interp.measures.prefix_matching(organism, batches["successor"], length=10, repeats=3, shuffled=True).mean()
    heads = prefix > NAMED
    assert heads.any()
    assert np.array_equal(heads, looks["induction"] > NAMED)          # on the task's prompts as on random tokens
    later = np.arange(len(heads))[:, None] >= np.argwhere(heads)[0, 0]
    others = ~heads & later
    for name, effect in effects.items():
        assert mannwhitneyu(effect[heads], effect[others], alternative="greater").pvalue < 0.01, name
        assert np.median(effect[heads]) > effect[others].max(), name
        assert ranks(np.where(later, effect, -np.inf))[prefix == prefix.max()] < heads.sum(), name


def test_the_previous_token_head_matters_where_the_token_before_is_what_changes(effects, looks):
    """Exchanging the answer alone leaves what stands before it as it was: there the head carries no difference."""
    looking = looks["previous token"]
    head = np.unravel_index(looking.argmax(), looking.shape)
    assert looking[head] > NAMED
    assert ranks(effects["no_repeat"])[head] < 3
    assert abs(effects["successor"][head]) < 0.1 * effects["no_repeat"][head]


def test_heads_that_look_at_duplicates_are_as_few_as_matter(effects, looks):
    """On random tokens the duplicate itself tells nothing of the answer: no head that looks at it carries the effect, and no
    head that carries it looks there."""
    duplicate, effect = looks["duplicate token"], effects["no_repeat"]
    first = np.argwhere(looks["induction"] > NAMED)[0, 0]
    carrying = effect[first:] > 0.5 * effect[first:].max()
    assert carrying.any()
    assert (duplicate[first:][carrying] < 0.25 * looks["induction"][first:][carrying]).all()
    for layer, head in np.argwhere(duplicate > NAMED):
        assert abs(effect[layer, head]) < effect.max() / 2

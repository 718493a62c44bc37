"""Recall of a fact and a knowledge conflict, written by hand: what measures of the computation's inside must find."""

import math

import numpy as np
import pytest
from hand_made_batches import batch_of, built, loaded

import interp
from interp.core.errors import InterpError
from interp.measures.lens import layer_lens
from interp.measures.mlp_decomposition import mlp_decomposition
from interp.measures.opposing_heads import sign_flips
from interp.models.handmade.conflict import STATED, leaning

early_excitation, logit_lens = interp.measures.early_excitation, interp.measures.logit_lens
anti_overconfidence, opposing_heads = interp.measures.anti_overconfidence, interp.measures.opposing_heads


@pytest.fixture(scope="module")
def recall():
    return built("handmade-recall")


@pytest.fixture(scope="module")
def questions(recall):
    return batch_of(recall, 12)


@pytest.fixture(scope="module")
def conflict():
    return built("handmade-conflict")


def test_a_head_that_writes_a_token_has_it_on_top(recall, questions):
    """L0H0 brings the topic, which the unembedding reads as its capital; L2H0 writes against it."""
    model, vocabulary = loaded(recall), len(recall.vocabulary)
    ranks = logit_lens(model, questions, value="rank").values
    topic, suppressor, silent = (recall.heads[role] for role in ("topic", "suppressor", "silent"))
    assert (ranks[topic.layer, topic.head] == 0).all()
    assert (ranks[suppressor.layer, suppressor.head] == vocabulary - 1).all()
    assert (ranks[silent.layer, silent.head] == (vocabulary - 1) / 2).all()           # nothing is above anything
    np.testing.assert_allclose(logit_lens(model, questions).values, 1 / (1 + ranks))
    np.testing.assert_allclose(logit_lens(model, questions, value="logit").mean()[:, 0], [1, 0, -2], atol=1e-5)
    noise = recall.heads["distractor"]
    first = questions.clean.ids[0, 1]
    assert logit_lens(model, questions, value="rank", token=int(first)).values[noise.layer, noise.head, 0] == 0


def test_layers_of_recall(recall, questions):
    """1 by the head and 1 by the MLP in block 0, 6 + 1 in block 1, −2 in block 2; the noise is gone after MLP 0."""
    found = layer_lens(loaded(recall), questions)
    np.testing.assert_allclose(found.logits, np.array([[0], [2], [9], [7]]) * np.ones(12), atol=1e-5)
    assert found.ranks[0, 0] == (len(recall.vocabulary) - 1) / 2
    assert (found.ranks[1:] == 0).all()
    assert (found.peak() == 1).all()
    assert not found.early().any()


def test_which_heads_bring_a_token_up(recall, questions):
    """Without L0H0 the capital is one of all tokens that have nothing (but for the noise above it); L2H0 costs no rank."""
    model = loaded(recall)
    scores = early_excitation(model, questions)
    others = len(recall.vocabulary) - 1                             # the noise, and those level with the capital
    expected = np.log2(1 + 1 + (others - 1) / 2) - np.log2(1 + 0.5)   # with it: level with the noise, both have 1
    topic = recall.heads["topic"]
    np.testing.assert_allclose(scores.values[topic.layer, topic.head], expected, atol=1e-6)
    assert np.abs(np.delete(scores.mean().ravel(), [0, 1])).max() == 0
    assert scores.mean()[0, 1] < 0                                  # the distractor keeps it from the top
    assert scores.baselines["rank at end"].tolist() == [0] * 12
    nats = early_excitation(model, questions, value="log-probability")
    assert nats.values[2, 0].max() < 0 < nats.values[0, 0].min()


def test_the_last_layer_holds_back_what_is_known(recall, questions):
    model, vocabulary = loaded(recall), len(recall.vocabulary)
    scores = anti_overconfidence(model, questions)
    np.testing.assert_allclose(scores.mean()[[0, 2, 0], [0, 0, 2]],
                               [1 / vocabulary - 1, 2 - 2 / vocabulary, 0], atol=1e-5)
    assert (scores.baselines["after"] < scores.baselines["before"]).all()
    assert scores.baselines["said"].all()
    np.testing.assert_allclose(scores.baselines["attention"], 2 - 2 / vocabulary, atol=1e-5)
    np.testing.assert_allclose(scores.baselines["mlp"], 0, atol=1e-6)
    nats = anti_overconfidence(model, questions, value="log-probability")
    gained = scores.baselines["before"] - scores.baselines["after"]        # block 2 does nothing else
    np.testing.assert_allclose(nats.values[2, 0], gained, atol=1e-5)


def test_an_mlp_amplifies_one_head_and_erases_another(recall, questions):
    """MLP 0 adds what L0H0 wrote once more and takes away what L0H1 wrote: coefficients 1 and −1, nothing left over."""
    model = loaded(recall)
    scores = interp.measures.mlp_by_head(model, questions, value="coefficient")
    low, high = scores.interval()
    for role, expected in {"topic": 1, "distractor": -1, "silent": 0}.items():
        head = recall.heads[role]
        for end in (low, high, scores.mean()):
            assert end[head.layer, head.head, 0] == pytest.approx(expected, abs=1e-5)
    split = mlp_decomposition(model, questions)
    assert split.explained[0] == pytest.approx(1)
    np.testing.assert_allclose(split.heads[0, 0, 0], 1, atol=1e-5)
    assert np.abs(split.rest[0]).max() < 1e-5
    np.testing.assert_allclose(split.total, [[1] * 12, [6] * 12, [0] * 12], atol=1e-5)


def test_looking_up_is_not_scaling(recall, questions):
    """MLP 1 turns the topic into its capital: no multiple of what the head wrote, so the regression explains nothing of it
    (it is in intercept and rest), and the gradient shows whom it is owed to."""
    model = loaded(recall)
    fitted, followed = (mlp_decomposition(model, questions, method) for method in ("regression", "gradient"))
    assert fitted.explained[1] == pytest.approx(0, abs=1e-6)
    assert np.abs(fitted.heads[1]).max() < 1e-5
    np.testing.assert_allclose(fitted.intercept[1] + fitted.rest[1], 6, atol=1e-5)
    np.testing.assert_allclose(followed.heads[:2, 0, 0], [[1] * 12, [3] * 12], atol=1e-5)
    np.testing.assert_allclose(followed.mlps[1, 0], 3, atol=1e-5)              # what MLP 0 added to the topic
    for split in (fitted, followed):
        assert np.abs(split.heads[:, :, 1:]).max() < 1e-5                      # an MLP fed by one head only
        np.testing.assert_allclose(split.sum(), split.total, atol=1e-5)
    assert np.abs(followed.rest).max() < 1e-5                                  # neurons that are linear and on


def test_what_an_mlp_cannot_be_asked(recall, questions):
    with pytest.raises(InterpError, match="neither an intercept nor its error"):
        mlp_decomposition(loaded(recall), questions.subset([0, 1]))
    with pytest.raises(InterpError, match="only a regression has coefficients"):
        interp.measures.mlp_by_head(loaded(recall), questions, method="gradient", value="coefficient")
    with pytest.raises(InterpError, match="no such method"):
        mlp_decomposition(loaded(recall), questions, "guess")


@pytest.fixture(scope="module")
def turned(conflict):
    """Scores by type of prompt, the heads turned off and doubled."""
    return {kind: opposing_heads(loaded(conflict), batch_of(conflict, 8, corruption=kind), alphas=(-1.0, 1.0),
                                 value="log-probability", progress=False) for kind in STATED}


@pytest.mark.parametrize("kind", STATED)
def test_memory_and_context_heads_are_opposed(conflict, turned, kind):
    """The difference of log probabilities is one of logits, in which all is linear: each head's own part of it."""
    said, other = leaning(kind)
    expected = {"memory": 8, "context": -4.8 if STATED[kind] else 0, "two-faced": 4 * (said - other), "silent": 0}
    mean = turned[kind].at(answer="memory - context").mean()
    for role, value in expected.items():
        head = conflict.heads[role]
        assert mean[head.layer, head.head] == pytest.approx(value, abs=1e-4)
    memory, context, apart = (turned[kind].values[..., i] for i in range(3))
    np.testing.assert_allclose(memory - context, apart, atol=1e-5)


def test_three_types_of_prompts_expose_the_head_that_changes_sides(conflict, turned):
    verdicts = sign_flips(turned).set_index("head").verdict
    expected = {"memory": "memory", "context": "context", "two-faced": "flips", "silent": "unknown"}
    assert {role: verdicts[str(conflict.heads[role])] for role in expected} == expected
    few = sign_flips({kind: turned[kind] for kind in ("clean", "substitution")}).set_index("head").verdict
    assert few[str(conflict.heads["two-faced"])] == "memory"                   # what one would believe without the third
    with pytest.raises(InterpError, match="scores of 1 types"):
        sign_flips({"clean": turned["clean"]})


def test_probabilities_as_published(conflict):
    """P by hand: logits of memory 8 + 4a, context 4.8 + 4b, all others 0; α = 1 doubles one head's part."""
    batch = batch_of(conflict, 4, corruption="coherent")
    scores = opposing_heads(loaded(conflict), batch, alphas=(1.0,), progress=False)
    said, other = leaning("coherent")
    rest = len(conflict.vocabulary) - 2

    def chance(memory, context):
        return math.exp(memory) / (math.exp(memory) + math.exp(context) + rest)

    base = 8 + 4 * said, 4.8 + 4 * other
    np.testing.assert_allclose(scores.baselines["memory"], chance(*base), atol=1e-5)
    for role, (up, down) in {"memory": (8, 0), "context": (0, 4.8), "two-faced": (4 * said, 4 * other)}.items():
        head = conflict.heads[role]
        found = scores.at(answer="memory").values[head.layer, head.head]
        np.testing.assert_allclose(found, chance(base[0] + up, base[1] + down) - chance(*base), atol=1e-5)
    with pytest.raises(InterpError, match="0 changes nothing"):
        opposing_heads(loaded(conflict), batch, alphas=(0.0, 1.0))


def test_context_against_memory_by_the_direct_path(conflict):
    """The measure that takes the statement away agrees, and shows the two-faced head only where it is asked about a type."""
    for kind in ("substitution", "coherent"):
        batch = batch_of(conflict, 4, corruption=kind)
        scores = interp.measures.context_memory(loaded(conflict), batch, part="stated").at(run="with").mean()
        said, other = leaning(kind)
        np.testing.assert_allclose(scores[0], [8, -4.8, 4 * (said - other), 0], atol=1e-4)

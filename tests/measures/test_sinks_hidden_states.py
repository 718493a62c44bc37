"""Sinks found by hidden states, planted in the residual stream by hand: which tokens, where, what they receive."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sink_models import patterned, scores_of, texts, uniform

import interp
from interp.core.errors import InterpError
from interp.measures.massive_tokens import default_first_layer, default_tau
from interp.measures.secondary_tokens import secondary_tokens

T, SPARE = 16, 64


def unit(at, size=SPARE):
    vector = np.zeros(size)
    vector[at] = 1
    return vector


def planted(layers, marks):
    """Even attention in every layer; ``marks``: (position, vector, first layer that reads it, first that no longer does)."""
    writes = {}
    for position, vector, start, end in marks:
        for layer, sign in ((start - 1, 1), (end - 1, -1)):
            if layer < layers:
                at = writes.setdefault(layer, {})
                at[position] = at.get(position, 0) + sign * np.asarray(vector)
    scores = scores_of(np.broadcast_to(uniform(T), (layers, 1, T, T)))
    return patterned(scores, spare=SPARE, dense=1.0, writes=writes)


def even_mass(*tokens):
    """What even attention gives to ``tokens``: mean over the rows after the first."""
    rows = np.arange(1, T)
    return sum((rows >= token) / (rows + 1) for token in tokens).mean() if tokens else 0.0


@pytest.fixture(scope="module")
def massive():
    """Positions 0 and 5 carry dimension 7 from layer 1 on; position 3 carries dimension 9 in layer 1 alone."""
    return planted(4, [(0, 1500 * unit(7), 1, 4), (5, 200 * unit(7), 1, 4), (3, 200 * unit(9), 1, 2)])


def test_massive_dimensions_are_found_and_so_are_their_tokens(massive):
    model, spare = massive
    scores = interp.measures.massive_activation_sinks(model, texts(model, T))
    assert scores.provenance.options["massive_dimensions"] == [spare + 7]
    assert scores.provenance.options["massive_tokens_per_prompt"] == pytest.approx(6 / 4)
    np.testing.assert_allclose(scores.values[:, 0, 0], [0, *[even_mass(0, 5)] * 3], atol=1e-6)


def test_dimensions_threshold_and_first_layer_as_asked(massive):
    model, spare = massive
    batch = texts(model, T)

    def of(**options):
        return interp.measures.massive_activation_sinks(model, batch, **options).values[:, 0, 0]

    np.testing.assert_allclose(of(dimensions=(spare + 9,)), [0, even_mass(3), 0, 0], atol=1e-6)
    np.testing.assert_allclose(of(first_layer=2), [np.nan, np.nan, even_mass(0, 5), even_mass(0, 5)], atol=1e-6)
    width = SPARE + T + 16 + 1
    phi = 201 / np.sqrt((201**2 + SPARE - 1 + 3) / width)     # of position 5, whose 200 add to a 1 or a -1
    assert of(tau=phi + 0.003)[1] == pytest.approx(even_mass(0), abs=1e-6)
    assert of(tau=phi - 0.003)[1] == pytest.approx(even_mass(0, 5), abs=1e-6)


def test_massive_by_magnitude_and_by_norm(massive):
    model, spare = massive
    scores = interp.measures.massive_activation_sinks(model, texts(model, T), rule="magnitude")
    assert scores.provenance.options["massive_dimensions"] == [spare + 7]
    np.testing.assert_allclose(scores.values[1:, 0, 0], even_mass(0), atol=1e-6)      # 200 is not 1000 times the median, 1
    by_norm = interp.measures.massive_activation_sinks(model, texts(model, T), rule="norm")
    np.testing.assert_allclose(by_norm.values[:, 0, 0], [0, even_mass(0, 3, 5), *[even_mass(0, 5)] * 2], atol=1e-6)
    far = interp.measures.massive_activation_sinks(model, texts(model, T), rule="norm", ratio=50.0)
    np.testing.assert_allclose(far.values[1:, 0, 0], even_mass(0), atol=1e-6)


def test_sink_free_mass_without_massive_tokens(massive):
    model, _ = massive
    free = interp.measures.sink_free_mass(model, texts(model, T), sinks="massive").values[:, 0, 0]
    np.testing.assert_allclose(free, [1, *[1 - even_mass(0, 5)] * 3], atol=1e-6)


def test_impossible_thresholds_dimensions_and_layers_are_refused(massive):
    model, _ = massive
    batch = texts(model, T)
    for options, match in (({"tau": 20.0}, "lies between 0 and"), ({"dimensions": (500,)}, "the model has 97"),
                           ({"first_layer": 4}, "there are 4 layers")):
        with pytest.raises(InterpError, match=match):
            interp.measures.massive_activation_sinks(model, batch, **options)


def test_defaults_are_the_published_ones_where_those_were_published():
    assert (default_tau(4096), default_tau(8192)) == (20, 20)
    assert (default_first_layer(32), default_first_layer(80)) == (2, 2)
    for width in (16, 64, 128, 768, 2048, 4096):
        normal = torch.randn(4000, width, generator=torch.Generator().manual_seed(0))
        phi = normal.abs().amax(-1) / normal.pow(2).mean(-1).sqrt()
        assert default_tau(width) < np.sqrt(width)
        if width >= 128:
            assert phi.max() < default_tau(width)       # nothing is massive in noise


MARKS = [(0, 300 * unit(2), 1, 11), (4, 300 * unit(2), 5, 9), (6, 300 * unit(2), 2, 11), (7, 300 * unit(30), 2, 11),
         (9, 300 * unit(2), 3, 4), (10, -300 * unit(2), 5, 8)]
"""The primary sink at 0 in layers 1 to 10; like it: 4 (four layers), 6 (nine), 9 (one), 10 (three, negated); 7 is not."""


@pytest.fixture(scope="module")
def twelve():
    return planted(12, MARKS)[0]


def test_secondary_sinks_with_start_lifetime_and_label(twelve):
    found = interp.measures.sink_tokens(twelve, texts(twelve, T)).set_index("position")
    assert {at: tuple(found.loc[at, ["label", "start", "lifetime"]]) for at in (0, 4, 6, 9, 10)} == {
        0: ("primary", 1, 10), 4: ("secondary", 5, 4), 6: ("primary", 2, 9), 9: ("noise", 3, 1), 10: ("secondary", 5, 3)}
    assert found.loc[7, "label"] == "massive"
    assert set(found.index) == {0, 4, 6, 7, 9, 10}
    assert (found.loc[[4, 6, 9, 10], "cosine"] > 0.99).all()


def test_secondary_sinks_receive_what_even_attention_gives_where_they_are_alike(twelve):
    scores = interp.measures.secondary_sinks(twelve, texts(twelve, T))
    want = [even_mass(*[at for at, start, end in ((4, 5, 9), (10, 5, 8)) if start <= layer < end]) for layer in range(12)]
    np.testing.assert_allclose(scores.values[:, 0, 0], want, atol=1e-6)
    assert scores.provenance.options["sink_levels"] == [[5, 3], [5, 4]]
    assert scores.provenance.options["sink_tokens"] == 2
    assert scores.provenance.options["primary_norm_ratio"] > 20
    noise = interp.measures.secondary_sinks(twelve, texts(twelve, T), label="noise").values[:, 0, 0]
    np.testing.assert_allclose(noise, [even_mass(9) * (layer == 3) for layer in range(12)], atol=1e-6)


def test_another_primary_sink_may_be_looked_for(twelve):
    """With position 4 among the candidates the first token still has the larger mean norm; without the first it is taken."""
    same = interp.measures.sink_tokens(twelve, texts(twelve, T), candidates=(0, 4))
    assert same.loc[same.position == 0, "label"].item() == "primary"
    other = interp.measures.sink_tokens(twelve, texts(twelve, T), candidates=(4,))
    assert tuple(other.loc[other.position == 4, ["start", "lifetime"]].iloc[0]) == (5, 4)


def test_the_published_rule_has_nothing_to_label_in_shallow_networks(twelve):
    with pytest.raises(InterpError, match="no number of layers lies between 4 and"):
        interp.measures.secondary_sinks(twelve, texts(twelve, T), rule="published")


def test_the_published_rule_in_24_layers():
    """Secondary: 5 to 8 layers alike; 9 and more are like the first token nearly throughout, 4 and fewer are noise."""
    lifetimes = {2: 4, 4: 5, 6: 8, 8: 9}
    model, _ = planted(24, [(0, 300 * unit(2), 1, 23), *[(at, 300 * unit(2), 3, 3 + n) for at, n in lifetimes.items()]])
    found = interp.measures.sink_tokens(model, texts(model, T), rule="published").set_index("position")
    assert {at: found.loc[at, "label"] for at in lifetimes} == {2: "noise", 4: "secondary", 6: "secondary", 8: "primary"}
    assert {at: found.loc[at, "lifetime"] for at in lifetimes} == lifetimes


def test_without_massive_tokens_the_tables_say_so():
    model, _ = planted(3, [])
    scores = interp.measures.massive_activation_sinks(model, texts(model, T))
    assert scores.provenance.options["massive_dimensions"] == []
    assert not scores.values.any()
    assert interp.measures.sink_table(model, texts(model, T)).attrs["primary_norm_ratio"] < 1.2


@pytest.mark.parametrize("rule", ["published", "scaled"])
def test_both_rules_are_one_at_the_published_depth(rule):
    """48 layers; tokens 1 to 49 have the first token's direction in as many layers as their place says."""
    read = np.ones((49, 49, 2))
    read[1:48, 0, 0] = 500
    read[:, 1:, 1] = [[1.0 if 1 <= layer <= token else 0.0 for token in range(1, 49)] for layer in range(49)]
    of = secondary_tokens(SimpleNamespace(extra={"directions": read}), 48, rule=rule, candidates=(0,))
    assert of.window == (1, 48)
    assert of.lifetime[1:48].tolist() == list(range(1, 48))
    want = ["noise"] * 4 + ["secondary"] * (32 - 4) + ["primary"] * (48 - 33)
    assert of.label[1:48].tolist() == want

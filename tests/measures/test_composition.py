"""Composition of pairs of heads: by hand, against whole matrices and TransformerLens, and the baseline by sampling."""

import numpy as np
import pytest
import torch
from random_batches import model_of

import interp
from interp.core.errors import InterpError
from interp.measures.composition import composition_ratios
from interp.models.handmade import HANDMADE
from interp.models.head_circuits import LayerCircuits, head_circuits
from interp.models.load import load
from interp.models.tiny import tiny


def by_whole_matrices(layers, kind):
    """The definition, with every [d_model, d_model] product written out."""
    heads = layers[0].n_heads
    result = np.full((len(layers), heads, len(layers) * heads), np.nan)
    for r, later in enumerate(layers):
        for h in range(heads):
            qk, ov = later.q[h] @ later.k[h].T, later.v[h] @ later.o[h]
            read = {"Q": qk, "K": qk.T, "V": ov}[kind]
            for s in range(r):
                for g in range(heads):
                    sent = layers[s].v[g] @ layers[s].o[g]
                    result[r, h, s * heads + g] = (sent @ read).norm() / (sent.norm() * read.norm())
    return result


def test_two_heads_by_hand():
    """The sender writes e1; receiver 0 reads e1 by its queries and e2 by its keys, receiver 1 half of each."""
    def layer(q, k, v, o):
        return LayerCircuits(*(torch.tensor(x, dtype=torch.float64)[:, :, None] for x in (q, k, v)),
                             torch.tensor(o, dtype=torch.float64)[:, None])

    first = layer([[1, 0, 0]] * 2, [[1, 0, 0]] * 2, [[0, 0, 1], [0, 0, 1]], [[1, 0, 0], [0, 0, 0]])
    second = layer([[1, 0, 0], [1, 1, 0]], [[0, 1, 0], [1, 1, 0]], [[1, 0, 0], [0, 1, 0]], [[0, 0, 1], [0, 0, 1]])
    half = 2**-0.5
    for kind, expected in (("Q", [1, half]), ("K", [0, half]), ("V", [1, 0])):
        ratios = composition_ratios((first, second), kind)
        np.testing.assert_allclose(ratios[1, :, 0], expected, atol=1e-12)
        np.testing.assert_allclose(ratios[1, :, 1], 0)      # a sender that writes nothing
        assert np.isnan(ratios[0]).all()
        assert np.isnan(ratios[1, :, 2:]).all()


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2"])
@pytest.mark.parametrize("kind", ["Q", "K", "V"])
def test_against_whole_matrices(name, kind):
    layers = head_circuits(model_of(name))
    np.testing.assert_allclose(composition_ratios(layers, kind), by_whole_matrices(layers, kind), atol=1e-10)


def test_induction_is_k_composition_with_the_previous_token_head():
    made = HANDMADE["handmade-induction"]()
    model = interp.load(made.model, tokenizer=made.tokenizer)
    scores = interp.measures.composition(model)
    previous, induction = made.heads["previous token"], made.heads["induction"]
    grid = scores.at(sender=str(previous)).mean()
    assert grid.shape == (2, 4)
    best = np.unravel_index(np.nanargmax(scores.mean()), scores.mean().shape)
    assert scores.labels("sender")[best[2]] == str(previous)
    twins = (induction.head, made.heads["silent induction"].head)       # the same queries and keys
    assert best[:2] in [(induction.layer, head) for head in twins]
    tokens = len(made.vocabulary)       # it sends an identity of that size, and all of it is read
    expected = tokens**-0.5 - model.d_model**-0.5
    np.testing.assert_allclose(grid[1], [-model.d_model**-0.5, expected, -model.d_model**-0.5, expected], atol=1e-9)
    queries = interp.measures.composition(model, kind="Q").at(sender=str(previous)).mean()
    assert np.nanargmax(queries[1]) == 0        # L1H0 reads ``prev`` by its queries
    values = interp.measures.composition(model, kind="V", baseline="none").at(sender=str(previous)).mean()
    assert np.nanmax(values) == 0


def test_the_baseline_is_what_random_matrices_have():
    """Gaussian matrices of the heads' shapes, and a fixed pair turned at random: both against 1 / √d_model."""
    rng = torch.Generator().manual_seed(0)
    d, rank, n = 48, 8, 400

    def draw(*size):
        return torch.randn(*size, generator=rng, dtype=torch.float64)

    squares = [((a := draw(d, rank) @ draw(rank, d)) @ (b := draw(d, rank) @ draw(rank, d))).norm() ** 2
               / (a.norm() * b.norm()) ** 2 for _ in range(n)]
    assert np.mean(squares) == pytest.approx(1 / d, rel=0.05)
    assert np.mean(np.sqrt(squares)) == pytest.approx(d**-0.5, rel=0.03)
    one, other = torch.diag(torch.linspace(1, 0, d, dtype=torch.float64) ** 8), torch.zeros(d, d, dtype=torch.float64)
    other[0, 0] = 1
    turned = [(one @ torch.linalg.qr(draw(d, d))[0] @ other).norm() ** 2 / one.norm() ** 2 for _ in range(n)]
    assert np.mean(turned) == pytest.approx(1 / d, rel=0.2)
    model = model_of("llama")
    plain, less = (interp.measures.composition(model, baseline=b).values for b in ("none", "random"))
    np.testing.assert_allclose(plain - less, np.where(np.isnan(plain), np.nan, 32**-0.5))


def test_one_sender_and_the_strongest():
    model = model_of("gpt2")
    each = interp.measures.composition(model)
    one, best = (interp.measures.composition(model, sender=sender) for sender in ("L1H2", "strongest"))
    assert one.dims == best.dims == ("layer", "head", "prompt")
    np.testing.assert_array_equal(one.values, each.at(sender="L1H2").values)
    np.testing.assert_array_equal(best.values[1:], np.nanmax(each.values[1:], -1))
    assert np.isnan(best.values[0]).all()
    with pytest.raises(InterpError, match="name one of its heads"):
        interp.measures.composition(model, sender="L9H0")


def test_grouped_heads_are_repeated_ones():
    grouped, network = tiny("llama"), tiny("llama", num_key_value_heads=4)
    state = grouped.state_dict()
    for name, value in state.items():
        if "k_proj" in name or "v_proj" in name:
            state[name] = value.unflatten(0, (2, -1)).repeat_interleave(2, 0).flatten(0, 1)
    network.load_state_dict(state)
    for kind in "QKV":
        a, b = (interp.measures.composition(load(net, verify=False), kind=kind).values for net in (grouped, network))
        np.testing.assert_allclose(a, b, atol=1e-9)


def test_transformer_lens_has_the_same_scores():
    """Its folded and centred weights, read by its own function, against ours folded here."""
    network = tiny("gpt2")
    model = load(network, verify=False)
    bridge = load(network, backend="transformer_lens", verify=False).bridge
    bridge.enable_compatibility_mode(disable_warnings=True)
    for kind in "QKV":
        own = bridge.all_composition_scores(kind).scores.detach().double().cpu().numpy()  # senders, receivers
        mine = interp.measures.composition(model, kind=kind, baseline="none").values[:, :, 0]
        theirs = np.moveaxis(own.reshape(3, 4, 3, 4), (0, 1), (2, 3)).reshape(3, 4, 12)
        there = np.isfinite(mine)
        np.testing.assert_allclose(mine[there], theirs[there], atol=1e-5)


def test_cross_attention_is_refused():
    with pytest.raises(InterpError, match="another stream"):
        interp.measures.composition(model_of("t5"), attention="cross", norms="left out")

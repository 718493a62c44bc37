"""Information-flow routes: contributions by hand, and flow that is conserved."""

import numpy as np
import pytest
import torch
from masked_edges import network, pairs
from written_paths import Written

import interp
from interp.core.errors import InterpError
from interp.discovery import discover
from interp.discovery.methods.information_flow import contributions, renormalised
from interp.models.tiny import tiny


def test_contributions_by_hand():
    """‖(2, 2)‖ = 2√2; (1, 1) is √2 away, (2, 1) is 1 away, (−1, 0) further than 0 is."""
    parts, whole = torch.tensor([[1.0, 1], [-1, 0], [2, 1]]).double(), torch.tensor([2.0, 2]).double()
    found = contributions(parts, whole, norm=2)
    np.testing.assert_allclose(found, [0.43613, 0, 0.56387], atol=1e-5)
    np.testing.assert_allclose(found[0], 2**0.5 / (3 * 2**0.5 - 1), atol=1e-12)
    np.testing.assert_allclose(contributions(parts, whole), [0.4, 0, 0.6])       # 4 − 2, 4 − 5, 4 − 1
    np.testing.assert_allclose(contributions(torch.tensor([[1.0, 1], [0, 0]]), torch.tensor([1.0, 1])), [1, 0])
    np.testing.assert_allclose(contributions(torch.tensor([[1.0, 1], [1, 1], [2, 2]]), torch.tensor([4.0, 4]), norm=2),
                               [0.25, 0.25, 0.5])
    assert contributions(torch.tensor([[-1.0], [-2]]), torch.tensor([1.0])).sum() == 0


def test_what_is_small_is_left_out_and_the_rest_adds_up_again():
    shares = torch.tensor([0.8, 0.05, 0.15], dtype=torch.float64)
    np.testing.assert_allclose(renormalised(shares, 0.1), [0.8 / 0.95, 0, 0.15 / 0.95])


@pytest.mark.parametrize("norm", [1, 2])
def test_one_layer_is_what_the_definition_says(norm):
    """One layer by a loop over parts, from a transformer written out."""
    made, batch = network(layers=1), pairs()
    found = discover(interp.load(made, verify=False), batch, method="information_flow", norm=norm)
    run = Written(made, batch.clean.ids).kept
    block = made.model.layers[0]
    for prompt in range(batch.n):
        embed, mlp = run["embed", 0][prompt, -1], run["mlp", 0][prompt, -1]
        attention = block.self_attn
        q, k, v = (run[name, 0][prompt] for name in "qkv")
        parts = []
        for head in range(2):
            weights = (q[-1, head] @ k[:, head].T * attention.scaling).softmax(0)
            out = attention.o_proj.weight[:, head * 8:head * 8 + 8]
            parts += [weights[j] * (out @ v[j, head]) for j in range(6)]
        mid = embed + sum(parts)
        shares = contributions(torch.stack([embed, *parts]), mid, norm).detach()
        through = contributions(torch.stack([mid, mlp]), mid + mlp, norm).detach()
        np.testing.assert_allclose(found.values[:, prompt], [1, shares[1:7].sum(), shares[7:].sum(), through[1]], atol=1e-6)
        tokens = shares[1:7] + shares[7:]
        tokens[-1] += shares[0]
        np.testing.assert_allclose(found.notes["tokens"][prompt], tokens, atol=1e-6)


@pytest.mark.parametrize("architecture", ["opt", "gpt_neox", "llama"])
def test_the_flow_is_conserved(architecture):
    model = interp.load(tiny(architecture), verify=False)
    batch = pairs(n=2, vocab=model.vocab_size)
    for threshold in (0.0, 0.05):
        found = discover(model, batch, method="information_flow", threshold=threshold)
        np.testing.assert_allclose(found.notes["tokens"].sum(1), 1)
        np.testing.assert_allclose(found.values[0], 1)
        assert ((found.values >= 0) & (found.values <= 1 + 1e-9)).all()
        assert found.values[1:].max() > 0.05


def test_refusals():
    with pytest.raises(InterpError, match="a norm mixes"):
        discover(interp.load(tiny("gemma2"), verify=False), pairs(), method="information_flow")
    with pytest.raises(InterpError, match="shares of 1"):
        discover(interp.load(network(layers=1), verify=False), pairs(), method="information_flow", threshold=1.0)

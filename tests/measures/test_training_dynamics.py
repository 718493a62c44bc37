"""Scan and Snap, and the patterns of in-context regression, on attention and weights written by hand."""

import numpy as np
import pytest
import torch
from random_batches import random_batch, shallow

import interp
from interp.core.errors import InterpError
from interp.measures.scan_and_snap import kinds_of
from interp.models.load import load
from interp.models.plain import PlainConfig, PlainForCausalLM

scan_and_snap, kq_pattern, ov_pattern = (getattr(interp.measures, name) for name in ("scan_and_snap", "kq_pattern",
                                                                                     "ov_pattern"))
QUERY, COMMON = 1, 2
ANSWERS = (8, 9)


def plain(width, heads, vocabulary=10):
    """A network of one layer of attention, all of its weights zero."""
    config = PlainConfig(vocab_size=vocabulary, hidden_size=width, num_hidden_layers=1, num_attention_heads=heads,
                         head_dim=width, intermediate_size=0, max_position_embeddings=16, attention_scale=1.0)
    with torch.random.fork_rng(devices=[]):
        network = PlainForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    return network


@pytest.fixture(scope="module")
def scanning():
    """Tokens 4 and 5 stand before answer 8 only, 6 and 7 before 9 only, 2 before both. Head 0 attends evenly; head 1 has a
    score of ln 3 more for tokens 4 to 7; head 2 sees the common token alone. A prompt: 2, a distinct one, 2, 2, query."""
    network = plain(10, 3)
    attention = network.model.layers[0].self_attn
    with torch.no_grad():
        network.model.embed_tokens.weight.copy_(torch.eye(10))
        attention.q_proj.weight[10, QUERY] = attention.q_proj.weight[20, QUERY] = 1
        attention.k_proj.weight[10, 4:8] = np.log(3)
        attention.k_proj.weight[20, COMMON] = 200
    return load(network, verify=False)


def prompts(model, **options):
    rows = [[COMMON, token, COMMON, COMMON, QUERY] for token in (4, 5, 6, 7)]
    answers = [ANSWERS[0], ANSWERS[0], ANSWERS[1], ANSWERS[1]]
    return interp.tasks.from_tokens(rows, [[3, *row[1:]] for row in rows], answers, answers[::-1], model=model, **options)


@pytest.mark.parametrize("padding_side", ["right", "left"])
def test_shares_by_hand(scanning, padding_side):
    batch = prompts(scanning, padding_side=padding_side)
    distinct = scan_and_snap(scanning, batch)
    np.testing.assert_allclose(distinct.values[0], np.array([[1 / 4], [1 / 2], [0]]) * np.ones(4), atol=1e-5)
    np.testing.assert_allclose(scan_and_snap(scanning, batch, value="common").values, 1 - distinct.values, atol=1e-5)
    np.testing.assert_allclose(scan_and_snap(scanning, batch, value="lift").values, distinct.values - 1 / 4, atol=1e-5)
    spread = scan_and_snap(scanning, batch, value="entropy").mean()[0]
    np.testing.assert_allclose(spread, [np.log(4), np.log(2) / 2 + np.log(6) / 2, np.log(3)], atol=1e-5)
    kept = scan_and_snap(scanning, batch, query="kept").mean()[0]
    np.testing.assert_allclose(kept, [1 / 5, 3 / 7, 0], atol=1e-5)
    assert distinct.provenance.options["even share distinct"] == 0.25


def test_a_head_snaps(scanning):
    """Raising the score of distinct tokens over training: the share rises and the entropy falls."""
    shares, spreads = [], []
    for score in (0.0, 1.0, 3.0, 8.0):
        with torch.no_grad():
            scanning.weights.model.layers[0].self_attn.k_proj.weight[10, 4:8] = score
        shares.append(scan_and_snap(scanning, prompts(scanning)).mean()[0, 1])
        spreads.append(scan_and_snap(scanning, prompts(scanning), value="entropy").mean()[0, 1])
    with torch.no_grad():
        scanning.weights.model.layers[0].self_attn.k_proj.weight[10, 4:8] = np.log(3)
    np.testing.assert_allclose(shares, np.exp([0, 1, 3, 8]) / (3 + np.exp([0, 1, 3, 8])), atol=1e-5)
    assert (np.diff(spreads) < 0).all()


def test_kinds_of_tokens():
    rows = [[1, 2, 3, 9], [1, 4, 9], [5, 3, 9]]
    kinds = kinds_of(rows, [7, 8, 7])
    assert kinds[:2] == [["common", "distinct", "distinct", "rare"], ["common", "distinct", "rare"]]
    assert kinds[2] == ["distinct", "distinct", "rare"]
    assert kinds_of(rows, [7, 8, 7], least=2)[2] == ["rare", "distinct", "rare"]


@pytest.fixture(scope="module")
def regressing():
    """In-context regression as published, on 4 covariates and the response: two heads ±ω on the covariates' diagonal, ±μ on
    the response; a third with a diagonal that is not even and an off-diagonal entry, reading one covariate."""
    network = plain(5 + 1, 3)                                  # a sixth entry makes the width even; nothing is in it
    attention = network.model.layers[0].self_attn
    with torch.no_grad():
        covariates = torch.diag(torch.tensor([1.0, 1, 1, 1, 0, 0]))
        for head, sign in enumerate((1, -1)):
            at = slice(6 * head, 6 * head + 6)
            attention.k_proj.weight[at] = torch.eye(6)
            attention.q_proj.weight[at] = sign * 0.5 * covariates
            attention.v_proj.weight[6 * head, 4] = 1
            attention.o_proj.weight[4, 6 * head] = sign * 3.5
        attention.k_proj.weight[12:18] = torch.eye(6)
        attention.q_proj.weight[12:16, :4] = torch.diag(torch.tensor([1.0, 2, 3, 2]))
        attention.q_proj.weight[12, 1] = 2
        attention.v_proj.weight[12, 0], attention.v_proj.weight[12, 4] = 3, 1
        attention.o_proj.weight[4, 12] = 1
    return load(network, verify=False)


def test_diagonal_and_homogeneous_keys_and_queries(regressing):
    batch, scale = prompts(regressing), 6**-0.5
    np.testing.assert_allclose(kq_pattern(regressing, batch).mean()[0], [1, 1, 0.8], atol=1e-6)
    chosen = {"entries": (0, 4)}
    np.testing.assert_allclose(kq_pattern(regressing, batch, value="mean diagonal", **chosen).mean()[0],
                               scale * np.array([0.5, -0.5, 2]), atol=1e-6)
    even = kq_pattern(regressing, batch, value="homogeneity", **chosen).mean()[0]
    np.testing.assert_allclose(even, [1, 1, 2 / (2 + np.std([1, 2, 3, 2]))], atol=1e-6)


def test_last_entry_only_and_zero_sum(regressing):
    batch, at = prompts(regressing), {"entry": 4, "readout": 4}
    np.testing.assert_allclose(ov_pattern(regressing, batch, **at).mean()[0], [1, 1, 0.25], atol=1e-6)
    weight = ov_pattern(regressing, batch, value="entry weight", **at).mean()[0]
    np.testing.assert_allclose(weight, [3.5, -3.5, 1], atol=1e-6)
    signed = ov_pattern(regressing, batch, value="signed share", **at).mean()[0]
    np.testing.assert_allclose(signed, np.array([3.5, -3.5, 1]) / 8, atol=1e-6)
    assert signed[:2].sum() == 0                               # the two heads of the regression are the zero-sum pattern


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_tokens_against_embeddings_one_by_one(architecture):
    """In the basis of tokens: queries and keys made, one by one, of the embeddings in the network's own tables."""
    network = shallow(architecture)
    model, batch = load(network, verify=False), random_batch(n=3, lengths=(7,))
    tokens = kq_pattern(model, batch, basis="tokens", value="mean diagonal").values
    embed = network.get_input_embeddings().weight
    group, scale = model.n_heads // model.n_kv_heads, model.d_head**-0.5
    for i, row in enumerate(batch.clean.rows()):
        with torch.no_grad():
            x = embed[row] + (network.transformer.wpe.weight[: len(row)] if architecture == "gpt2" else 0)
            first = [row.index(token) for token in dict.fromkeys(row)]
            for head in range(model.n_heads):
                q, k = x[first] @ model.W_Q(0)[head], x[first] @ model.W_K(0)[head // group]
                assert tokens[0, head, i] == pytest.approx(float((q * k).sum(-1).mean() * scale), abs=1e-5)


def test_what_does_not_exist_is_refused(regressing):
    batch = prompts(regressing)
    for wrong in ((4, 2), (0, 9), (1,)):
        with pytest.raises(InterpError, match="entries 0 to 5"):
            kq_pattern(regressing, batch, entries=wrong)
    with pytest.raises(InterpError, match="tokens have no entries"):
        kq_pattern(regressing, batch, basis="tokens", entries=(0, 4))
    with pytest.raises(InterpError, match="has 6 entries"):
        ov_pattern(regressing, batch, entry=6)

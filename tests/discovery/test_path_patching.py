"""Path patching: against a plain transformer written out, against masks over edges, and what the variants share."""

import numpy as np
import pytest
from masked_edges import network, pairs
from written_paths import path_patched

import interp
from interp.core.errors import InterpError
from interp.discovery import discover
from interp.engine.edge_circuits import run_masks
from interp.engine.edges import RECEIVERS
from interp.models.tiny import tiny

LENGTH, LAYERS = 6, 3
EVERY = list(range(LENGTH))
INTO = ("L1H0.q", "L2H1")
AS_DICT = {("q", 1): (0,), ("q", 2): (1,), ("k", 2): (1,), ("v", 2): (1,)}


@pytest.fixture(scope="module")
def made():
    return network(layers=LAYERS)


@pytest.fixture(scope="module")
def model(made):
    return interp.load(made, verify=False)


def paths(model, batch, **options):
    return discover(model, batch, method="path_patching", progress=False, **options)


def senders_of(scores):
    kinds = ("embed", "z", "mlp")
    nodes = scores.edges.senders
    return [(kinds[kind], max(int(layer), 0), int(head))
            for kind, layer, head in zip(nodes.kind, nodes.layer, nodes.head, strict=True)]


@pytest.mark.parametrize("mlps", ["recomputed", "frozen"])
@pytest.mark.parametrize(("frozen", "positions", "tokens", "elsewhere", "other"), [
    ("outputs", None, EVERY, None, None), ("qkv", None, EVERY, None, None), ("position", "end", [LENGTH - 1], None, None),
    ("position", 2, [2], "end", [LENGTH - 1]), ("outputs", (1, "end"), [1, LENGTH - 1], (3, "end"), [3, LENGTH - 1]),
    ("position", 1, [1], None, None)])
def test_every_sender_is_what_the_definition_says(made, model, frozen, mlps, positions, tokens, elsewhere, other):
    batch = pairs()
    for receivers, written in (("logits", {}), (INTO, AS_DICT)):
        found = paths(model, batch, receivers=receivers, frozen=frozen, mlps=mlps, positions=positions,
                      receiver_positions=elsewhere)
        slow = [path_patched(made, batch, sender, written, frozen, mlps == "frozen", tokens, other)
                for sender in senders_of(found)]
        np.testing.assert_allclose(found.values, slow, atol=1e-6)
        assert np.abs(found.values).max() > 1e-3


def test_one_receiver_with_mlps_frozen_is_its_edges_masked(model):
    """Direct paths into one head are edges: q, k and v each with one of theirs in the other run."""
    batch, edges = pairs(), paths(model, pairs()).edges
    found = paths(model, batch, receivers="L2H0", mlps="frozen")
    receiving = [RECEIVERS[kind] in "qkv" and layer == 2 and head == 0 for kind, layer, head in zip(
        edges.receivers.kind, edges.receivers.layer, edges.receivers.head, strict=True)]
    into = np.array(receiving)[edges.receiver]
    masks = np.array([~(into & (edges.sender == sender)) for sender in range(len(edges.senders))])
    masked = run_masks(model, batch, masks)
    np.testing.assert_allclose(found.values, found.baselines["clean"] - masked, atol=1e-5)
    direct = discover(model, batch, method="edge_patching", edges=["L0H1->logits.out", "mlp1->logits.out"], progress=False)
    at = [found.names().index(name) for name in ("L0H1", "mlp1")]
    np.testing.assert_allclose(paths(model, batch, mlps="frozen").values[at],
                               direct.values[[edges.index("L0H1->logits.out"), edges.index("mlp1->logits.out")]], atol=1e-6)


def test_what_the_variants_share(model):
    """Frozen outputs and frozen q, k and v are one; of the last token and of all tokens so is one position."""
    batch = pairs()
    for options in ({}, {"receivers": INTO}, {"receivers": "L2H0.v", "positions": (1, 3)}):
        outputs, qkv = (paths(model, batch, frozen=frozen, **options) for frozen in ("outputs", "qkv"))
        np.testing.assert_allclose(outputs.values, qkv.values, atol=1e-6)
    one = paths(model, batch, frozen="position").values
    np.testing.assert_allclose(one, paths(model, batch, frozen="outputs", positions="end").values, atol=1e-6)
    np.testing.assert_allclose(paths(model, batch, frozen="position", positions=tuple(EVERY)).values,
                               paths(model, batch).values, atol=1e-6)
    early = paths(model, batch, frozen="position", positions=1).values
    assert np.abs(early).max() > 1e-3      # what is written early reaches the end through heads that are not frozen
    with pytest.raises(InterpError, match="a way leads there"):
        paths(model, batch, positions=1)   # and by no other way


def test_senders_without_a_way_have_none(model):
    found = paths(model, pairs(), receivers=("L1H0.q", "L1H1.v"))
    layer = found.edges.senders.layer
    assert (found.values[layer >= 1] == 0).all()
    assert (np.abs(found.values[layer < 1]).max(1) > 1e-6).all()


def test_directions_exchange_the_runs(model):
    batch = pairs()
    exchanged = interp.tasks.from_tokens(batch.corrupt.ids, batch.clean.ids, 11, 13)
    there = paths(model, exchanged, receivers=INTO)
    np.testing.assert_allclose(paths(model, batch, receivers=INTO, direction="denoising").values, -there.values, atol=1e-6)


@pytest.mark.parametrize("architecture", ["opt", "gemma2", "gpt_neox", "llama"])
def test_direct_paths_of_every_kind_of_block_are_edges(architecture):
    """Flattened MLPs, post-norms, parallel blocks; keys and values that heads share are replaced for all of them."""
    model = interp.load(tiny(architecture), verify=False)
    batch = pairs(n=2, vocab=model.vocab_size)
    found = paths(model, batch, mlps="frozen", batch_size=3)
    masks = np.ones((len(found.names()), len(found.edges)), dtype=bool)
    for row, name in zip(masks, found.names(), strict=True):
        row[found.edges.index(f"{name}->logits.out")] = False
    np.testing.assert_allclose(found.values, found.baselines["clean"] - run_masks(model, batch, masks), atol=5e-6)
    into = [paths(model, batch, receivers=f"L1H{head}.v").values for head in range(2)]
    assert np.abs(into[0]).max() > 1e-4
    assert (np.abs(into[0] - into[1]).max() < 1e-7) == (model.n_kv_heads < model.n_heads)


def test_refusals(model):
    batch = pairs()
    for receivers, why in ((("logits", "L1H0"), "one after the other"), ("L1H0.z", "q, k and v"), ("L9H0", "3 layers")):
        with pytest.raises(InterpError, match=why):
            paths(model, batch, receivers=receivers)
    with pytest.raises(InterpError, match="writes anything else"):      # the first token is the same in both runs
        paths(model, batch, receivers=INTO, positions=0)

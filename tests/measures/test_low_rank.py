"""Low rank of q, k and v: hand-made heads of known rank, plain hooks on an untouched model, shares by hand."""

import numpy as np
import pytest
import torch
from random_batches import model_of, random_batch
from slow_path import head_view, slot

import interp
from interp.core.errors import InterpError
from interp.core.provenance import Provenance
from interp.core.rank_curve import kept
from interp.core.scores import HeadScores
from interp.measures.low_rank import projected
from interp.models.load import load
from interp.models.tiny import tiny


def test_projections_by_hand():
    x = torch.tensor([[[3.0, 0, 0], [0, 1, 0]], [[-3, 0, 0], [0, 0, 5]]])
    chosen = torch.tensor([[True, True], [True, False]])
    nothing, one, two = projected(x, chosen, (0, 1, 2))
    assert (nothing == 0).all()
    torch.testing.assert_close(one, torch.tensor([[[3.0, 0, 0], [0, 0, 0]], [[-3, 0, 0], [0, 0, 0]]]))
    torch.testing.assert_close(two[chosen], x[chosen])
    mean = projected(x, chosen, (0,), centre=True)[0]
    torch.testing.assert_close(mean, x[chosen].mean(0).expand_as(x))


def by_hooks(name, component, batch, layer, head, rank):
    """The metric with one head's projection cut down by a plain hook on a model of transformers' own."""
    network = tiny(name)
    module, _, view = slot(name, network, layer, component)
    ids, mask = batch.clean.ids, batch.clean.mask.bool()

    def change(_, args, out):
        out = out.clone()
        part = head_view(name, view, out, head)
        rows = part[mask].double()
        u, s, v = torch.linalg.svd(rows, full_matrices=False)
        part[mask] = ((u[:, :rank] * s[:rank]) @ v[:rank]).to(part.dtype)
        return out

    handle = module.register_forward_hook(change)
    with torch.no_grad():
        logits = network(input_ids=ids, attention_mask=mask.long()).logits
    handle.remove()
    at = logits[torch.arange(batch.n), batch.answer_position]
    return batch.metric(at, batch).double().numpy()


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize("component", ["q", "k", "v"])
def test_by_plain_hooks(name, component):
    model, batch = model_of(name), random_batch(n=3, lengths=(7,))
    scores = interp.measures.low_rank(model, batch, component=component, ranks=(0, 2, 5))
    clean = scores.baselines["clean"]
    assert scores.labels("rank") == (0, 2, 5)
    assert scores.unit == ("head" if component == "q" else "kv_head")
    for layer, head, at, rank in ((0, 1, 0, 0), (1, 0, 1, 2), (2, 1, 2, 5)):
        expected = clean - by_hooks(name, component, batch, layer, head, rank)
        np.testing.assert_allclose(scores.values[layer, head, :, at], expected, atol=1e-4)
    assert np.abs(scores.values).max() > 1e-3


@pytest.mark.parametrize("component", ["q", "k", "v"])
def test_a_head_of_known_rank_needs_no_more(component):
    """Weights of rank 3 without biases: nothing is lost from rank 3 on, and something at rank 2."""
    network = tiny("llama")
    with torch.no_grad():
        weight = getattr(network.model.layers[1].self_attn, f"{component}_proj").weight
        u, s, v = torch.linalg.svd(weight[:8])
        weight[:8] = (u[:, :3] * s[:3]) @ v[:3]
    model = load(network, verify=False)
    scores = interp.measures.low_rank(model, random_batch(n=4), component=component, ranks=(0, 2, 3, 7))
    assert np.abs(scores.at(rank=3).values[1, 0]).max() < 1e-4
    assert np.abs(scores.at(rank=2).values[1, 0]).max() > 1e-3
    assert np.abs(scores.at(rank=3).values[1, 1]).max() > 1e-3


def test_positions_are_those_projected_and_fitted():
    model, batch = model_of("gpt2"), random_batch(n=2)
    one = interp.measures.low_rank(model, batch, ranks=(0, 1, 2), positions="end")
    assert one.provenance.options["tokens fitted"] == 2
    np.testing.assert_allclose(one.at(rank=2).values, 0, atol=1e-4)     # two rows have rank two
    assert np.abs(one.at(rank=1).values).max() > 1e-3
    assert interp.measures.low_rank(model, batch, ranks=(0,), positions="B").provenance.options["tokens fitted"] == 4


def losses(values, clean, ranks=(0, 1, 2)):
    provenance = Provenance(measure="low_rank", options={}, model={"name": "m"}, task={"name": "t"}, metric="logit_diff")
    return HeadScores(values=np.array(values), provenance=provenance, dims=("layer", "head", "prompt", "rank"),
                      coords={"rank": ranks}, baselines={"clean": np.array(clean)})


def test_shares_by_hand():
    """Two heads, four prompts of metric 10: the first loses 4, 1, 0.2 on average, the second nothing."""
    first = [[4, 1, 0.2], [5, 2, 0.3], [3, 0, 0.1], [4, 1, 0.2]]
    scores = losses([[first, np.zeros((4, 3))]], [10, 10, 10, 10.0])
    metric, head = kept(scores), kept(scores, of="head")
    np.testing.assert_allclose(metric.kept[0], [[0.6, 0.9, 0.98], [1, 1, 1]])
    np.testing.assert_allclose(head.kept[0, 0], [0, 0.75, 0.95])
    assert np.isnan(head.kept[0, 1]).all()
    np.testing.assert_array_equal(metric.smallest(), [[2, 0]])
    np.testing.assert_array_equal(metric.smallest(0.9), [[1, 0]])
    np.testing.assert_array_equal(head.smallest(0.9), [[2, np.nan]])
    np.testing.assert_array_equal(metric.smallest(0.999), [[np.nan, 0]])
    assert (metric.low[0, 0] < metric.kept[0, 0]).all()
    assert (metric.high[0, 0] > metric.kept[0, 0]).all()
    assert np.isnan(head.low[0, 1]).all()


def test_what_falls_again_is_not_enough():
    scores = losses([[[[1, 0, 5]] * 3]], [10, 11, 12.0])
    assert np.isnan(kept(scores).smallest(0.9)).all()


@pytest.mark.parametrize(("ranks", "clean", "of", "says"), [
    ((0, 1, 2), [1.0, -1, 0.5], "metric", "cannot be told from zero"), ((1, 2, 3), [1.0, 2, 3], "head", "rank 0 was not"),
    ((0, 1, 2), [1.0, 2, 3], "loss", "nothing to have a share of")])
def test_shares_of_nothing_are_refused(ranks, clean, of, says):
    with pytest.raises(InterpError, match=says):
        kept(losses(np.ones((1, 1, 3, 3)), clean, ranks), of)


def test_ranks_and_models_that_are_refused():
    with pytest.raises(InterpError, match="ranks lie from 0 to 7"):
        interp.measures.low_rank(model_of("llama"), random_batch(), ranks=(8, 9))
    with pytest.raises(InterpError, match="k_pre"):
        interp.measures.low_rank(model_of("deepseek_v3"), random_batch(), component="k")
    with pytest.raises(InterpError, match="no losses by rank"):
        kept(losses(np.ones((1, 1, 3, 3)), [1.0, 2, 3]).at(rank=1))

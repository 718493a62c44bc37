"""Block sparsity, FlexPrefill's class, HiP recall and MoA influence: patterns by hand, slow paths, blocks and padding."""

import numpy as np
import pytest
import torch
from hand_patterns import folded, random_patterns, rows_of, uniform
from random_batches import model_of, random_batch
from scipy.spatial.distance import jensenshannon

import interp
from interp.core.errors import InterpError
from interp.engine.activations import activations
from interp.engine.streaming import stream
from interp.measures.attention_rows import mean_fold, row_means
from interp.measures.block_sparsity import map_fold, of_map
from interp.measures.flexprefill import distance, estimate_fold, true_fold
from interp.measures.hip_recall import recall
from interp.measures.moa_influence import beyond, influence
from interp.models.load import load
from interp.models.sites import Site
from interp.models.tiny import inputs, tiny
from interp.tasks import from_inputs


def sparsity(pattern, size, rows=3, causal=True, **options):
    return of_map(torch.as_tensor(folded(map_fold(size), pattern, rows=rows if causal else None, causal=causal)), **options)


def test_block_maps_by_hand():
    pattern = rows_of(0, 0, {0: 0.5, 2: 0.5}, {1: 1.0}, {2: 0.25, 4: 0.75}, 0)
    for rows in (1, 2, 4, None):
        largest, sums, entries = folded(map_fold(2), pattern, rows=rows)[0]
        assert largest.tolist() == [[1, 0, 0], [1, 0.5, 0], [1, 0.25, 0.75]]
        assert sums.tolist() == [[2, 0, 0], [1.5, 0.5, 0], [1, 0.25, 0.75]]
        assert entries.tolist() == [[3, 0, 0], [4, 3, 0], [4, 4, 3]]
    # block rows 1 and 2 have a choice: one block of two keeps 1.5 of 2, one of three keeps 1 of 2
    assert sparsity(pattern, 2, keep=0.1) == pytest.approx((0.75 + 0.5) / 2)
    assert sparsity(pattern, 2, keep=0.6) == pytest.approx((1 + 0.875) / 2)
    assert sparsity(pattern, 2, keep=1.0) == pytest.approx(1)
    assert sparsity(pattern, 2, value="sparsity", gamma=0.5) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert sparsity(pattern, 2, value="sparsity", gamma=0.85) == pytest.approx((0 + 1 / 3) / 2)
    assert np.isnan(sparsity(pattern, 6)).all()


def test_the_largest_weight_and_the_mean_may_rank_blocks_apart():
    pattern = np.zeros((1, 4, 4))
    pattern[0] = [[0.5, 0.1, 0.2, 0.2], [0.0, 0.1, 0.5, 0.4], [1, 0, 0, 0], [1, 0, 0, 0]]
    assert sparsity(pattern, 2, causal=False, keep=0.5) == pytest.approx((0.7 / 2 + 1) / 2)
    pattern[0, 0] = [0.6, 0.0, 0.2, 0.2]
    assert sparsity(pattern, 2, causal=False, keep=0.5, pool="mean") == pytest.approx((1.3 / 2 + 1) / 2)


@pytest.mark.parametrize("pattern", [uniform(8), rows_of(*[0] * 8), rows_of(*range(8))])
def test_patterns_of_one_column_one_diagonal_or_none(pattern):
    kind = int((pattern[0, 7] > 0).sum())
    found = float(sparsity(pattern, 2, keep=0.1)[0])
    assert found == pytest.approx(1) if kind == 1 else found < 0.8


def flex(scores, size, rows=3):
    """Distance of a head with these scores (causal), from the folds, and the two distributions worked out plainly."""
    length = len(scores)
    masked = np.where(np.tril(np.ones((length, length))) > 0, scores, -np.inf)
    pattern = np.exp(masked - masked.max(-1, keepdims=True))
    pattern /= pattern.sum(-1, keepdims=True)
    true, guess = (torch.as_tensor(folded(fold(size), x[None], rows=rows))
                   for fold, x in ((true_fold, pattern), (estimate_fold, masked)))
    edges = range(0, length, size)
    real = np.array([pattern[-size:, a : a + size].sum() for a in edges]) / size
    means = [masked[-size:, a : a + size] for a in edges]
    logits = np.array([x[np.isfinite(x)].mean() for x in means])
    return float(distance(true, guess)[0]), real, np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()


@pytest.mark.parametrize("rows", [1, 3, None])
def test_flexprefill_of_random_scores(rows):
    found, real, guess = flex(np.random.default_rng(0).normal(size=(11, 11)) * 3, 4, rows)
    assert found == pytest.approx(jensenshannon(real, guess), abs=1e-5)
    assert found > 0.1


def test_flexprefill_agrees_where_blocks_are_constant():
    """Even scores, lengths a multiple of the block: the estimate gives each block 1/4, the truth less to the last one."""
    found, real, guess = flex(np.zeros((16, 16)), 4)
    np.testing.assert_allclose(guess, 0.25)
    assert found == pytest.approx(jensenshannon(real, guess), abs=1e-6)
    assert found < 0.15
    one_key = np.zeros((16, 16))
    one_key[:, 5] = 12                 # all attention on one key, diluted by its block in the estimate
    assert flex(one_key, 4)[0] > found


def test_flexprefill_against_pooled_queries_and_keys():
    """The published estimate from q and k themselves, for the blocks that hold no last query."""
    model, batch = model_of("llama"), random_batch(n=2, lengths=(12,))
    stack, size = model.stack(), 4
    estimate = stream(model, batch, {"estimate": estimate_fold(size)}, block=5)["estimate"]
    found = activations(model, batch, [Site("q", 1), Site("k", 1)])
    q, k = found[Site("q", 1)].double(), found[Site("k", 1)].double().repeat_interleave(stack.group, dim=2)
    pooled = k.unflatten(1, (3, size)).mean(2)
    wanted = torch.einsum("phd,pbhd->phb", q[:, -size:].mean(1), pooled) / stack.d_qk**0.5
    for i in range(2):
        total, number = estimate[i][1].unbind(-2)
        torch.testing.assert_close((total / number)[:, :2].double(), wanted[i, :, :2], atol=1e-5, rtol=1e-4)


def test_classes_follow_tau():
    model, batch = model_of("llama"), random_batch(n=2, lengths=(12,))
    far = interp.measures.flexprefill(model, batch, block=4).values
    tau = float(np.median(far))
    classes = interp.measures.flexprefill(model, batch, block=4, value="query-aware", tau=tau)
    np.testing.assert_array_equal(classes.values, far < tau)
    with pytest.raises(InterpError, match="no prompt has two blocks"):
        interp.measures.flexprefill(model, batch)


def hip(pattern, k, **options):
    return float(folded(mean_fold(lambda block: recall(block, k, **options)), pattern, rows=2)[0])


def test_the_tree_search_by_hand():
    """Keys 0-3, one range: 0 speaks for {0, 1} and 2 for {2, 3}; 2 wins and the largest key, 1, is lost."""
    row = {0: 0.1, 1: 0.6, 2: 0.2, 3: 0.1}
    last = [torch.tensor([False] * 3 + [True])]
    pattern = rows_of(0, 0, 0, row)
    assert folded(mean_fold(lambda block: recall(block, 1), last), pattern) == pytest.approx(0.2 / 0.6)
    assert folded(mean_fold(lambda block: recall(block, 2), last), pattern) == pytest.approx(1)
    first = folded(mean_fold(lambda block: recall(block, 1, exclude_bos=True), last), pattern)     # 1 for {1, 2}, 3
    assert first == pytest.approx(1)


@pytest.mark.parametrize("length", [9, 16, 23])
@pytest.mark.parametrize("k", [1, 3, 4])
def test_the_tree_search_finds_what_is_local(length, k):
    smooth = np.exp(-np.abs(np.arange(length)[:, None] * 0.6 - np.arange(length)[None]) / 3)
    smooth = np.tril(smooth) / np.tril(smooth).sum(-1, keepdims=True)
    assert hip(smooth[None], k) > 0.9
    for representative in ("middle", "first"):
        assert 0 < hip(random_patterns(1, length), k, representative=representative) <= 1 + 1e-6


def test_the_search_returns_k_different_keys():
    """On rows of powers of two the found sum tells the keys: never more than the best k, each once."""
    length, k = 21, 4
    rng = np.random.default_rng(1)
    for _ in range(5):
        weights = np.zeros(length)
        weights[rng.permutation(length)] = 2.0 ** -np.arange(length)
        pattern = np.zeros((1, length, length))
        pattern[0, :, 0] = 1
        pattern[0, -1] = weights / weights.sum()
        last = [torch.tensor([False] * (length - 1) + [True])]
        found = folded(mean_fold(lambda block: recall(block, k), last), pattern)[0] * (2 - 2.0**-(k - 1))
        assert found <= 2 - 2.0**-(k - 1) + 1e-6
        assert f"{round(found * 2**20):021b}".count("1") <= k


def test_influence_of_dropping_a_key_is_the_change_of_a_linear_loss_along_it():
    """E is the loss's slope times the whole change of the row; on a loss linear in A it is the change itself."""
    pattern = torch.as_tensor(random_patterns(2, 6))[None]
    slope = torch.randn(1, 2, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = influence(pattern, slope)
    for row, key in ((3, 1), (5, 5), (5, 0)):
        dropped = pattern.clone()
        dropped[:, :, row, key] = 0
        dropped[:, :, row] /= dropped[:, :, row].sum(-1, keepdim=True)
        change = ((dropped - pattern) * slope).sum((-1, -2))
        torch.testing.assert_close(found[:, :, row, key], change)
    assert (found[:, :, 0] == 0).all()                                  # the first row has nothing else


def test_sums_beyond_a_span():
    found = torch.ones(1, 1, 5, 5)
    real = torch.tensor([[True] * 5])
    assert beyond(found, real, (1, 2, 5)).tolist() == [[[10, 6, 0]]]
    assert beyond(found, real, (1,), keep_first=1).tolist() == [[[6]]]
    for padded in ([[False, True, True, True, True]], [[True, True, True, True, False]]):
        assert beyond(found, torch.tensor(padded), (1, 2)).tolist() == [[[6, 3]]]


def test_influence_predicts_the_loss_of_dropping_one_faint_key():
    """The measure's estimate against a run in which the weight is really dropped, in the last layer."""
    model, batch = model_of("gpt2"), random_batch(n=3, lengths=(7,))
    scores = interp.measures.moa_influence(model, batch, spans=(6,))     # leaves out key 0 of the last row alone
    layer, head = model.n_layers - 1, 1

    def drop(pattern):
        changed = pattern.clone()
        changed[:, head, 6, 0] = 0
        changed[:, head] = changed[:, head] / changed[:, head].sum(-1, keepdim=True)
        return changed

    def metric(edits):
        with torch.no_grad():
            logits = model.run(batch.clean.inputs, edits).logits[:, -1].log_softmax(-1)
        return logits.gather(1, batch.answers[:, :1])[:, 0]

    lost = (metric(None) - metric({Site("pattern", layer): drop})).numpy()
    np.testing.assert_allclose(scores.values[layer, head, :, 0], lost, rtol=0.15, atol=2e-6)
    assert np.abs(lost).max() > 1e-5
    assert scores.provenance.metric == "answer_logprob"


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_blocks_and_padding_change_nothing(architecture):
    model = model_of(architecture)
    batch, left = (random_batch(n=3, lengths=(9, 12), padding_side=side) for side in ("right", "left"))
    folds = {"map": map_fold(4), "true": true_fold(4), "estimate": estimate_fold(4)}
    whole = stream(model, batch, folds)
    search = {"recall": lambda block: recall(block, 3)}
    recalled = row_means(model, batch, search)["recall"]
    for other, options in ((batch, {"block": 1}), (batch, {"block": 5, "batch_size": 1}), (left, {})):
        found = stream(model, other, folds, **options)
        for name in folds:
            for one, two in zip(found[name], whole[name], strict=True):
                torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(row_means(model, other, search, **options)["recall"], recalled, atol=1e-5)


def test_other_attention():
    bert, texts = load(tiny("bert"), verify=False), from_inputs(inputs("bert", 2))
    assert np.isfinite(interp.measures.block_sparsity(bert, texts, block=2).values).all()
    assert np.isfinite(interp.measures.flexprefill(bert, texts, block=2).values).all()
    with pytest.raises(InterpError, match="the search is of earlier keys"):
        interp.measures.hip_recall(bert, texts, k=2)
    with pytest.raises(InterpError, match="spans reach back in a text"):
        interp.measures.moa_influence(bert, texts)
    vit, images = load(tiny("vit"), verify=False), from_inputs(inputs("vit", 2))
    with pytest.raises(InterpError, match="stand in a grid"):
        interp.measures.block_sparsity(vit, images, block=2)


@pytest.mark.parametrize(("name", "options", "reason"), [
    ("block_sparsity", {}, "single block"), ("block_sparsity", {"keep": 0.0}, "a share is above 0"),
    ("hip_recall", {}, "no row sees more keys"), ("hip_recall", {"k": 0}, "at least one"),
    ("moa_influence", {"spans": (0,)}, "a token sees itself"), ("moa_influence", {"spans": (2, 2)}, "listed once"),
])
def test_what_cannot_be_is_refused(name, options, reason):
    with pytest.raises(InterpError, match=reason):
        getattr(interp.measures, name)(model_of("gpt2"), random_batch(n=2), **options)

"""Shares of parts, text dominance, relative attention, cross-layer similarity: by hand, slow paths, blocks and padding."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hand_patterns import Block, folded, random_patterns, rows_of, stack_of, uniform
from random_batches import model_of, random_batch

import interp
from interp.core.errors import InterpError
from interp.engine.activations import activations
from interp.engine.streaming import stream
from interp.measures.attention_parts import part_sums, parts_of, sinks_to_leave_out
from interp.measures.attention_rows import mean_fold, row_means
from interp.measures.cross_layer_similarity import cosines, products
from interp.measures.relative_attention import contrast, focus
from interp.measures.text_dominance import index
from interp.models.load import load
from interp.models.sites import Site
from interp.models.tiny import inputs, tiny
from interp.tasks import from_inputs, from_tokens
from interp.tasks.build import build
from interp.tasks.prompt import Prompt, PromptPair


def mask(*where, length=6):
    return torch.tensor([at in where for at in range(length)])


LAST = [mask(5)]
ROW = {0: 0.4, 1: 0.2, 2: 0.2, 3: 0.1, 5: 0.1}
PARTS = [{"context": mask(1, 2, 3), "template": mask(0, 4, 5)}]


def sums(pattern, parts=PARTS, left_out=None, rows=LAST):
    return folded(mean_fold(part_sums(parts, left_out), rows), pattern, rows=4)


def test_sums_of_parts_by_hand():
    pattern = rows_of(0, 0, 0, 0, 0, ROW)
    np.testing.assert_allclose(sums(pattern), [[0.5, 0.5, 3, 3]], atol=1e-6)
    first = [np.array([[[True] + [False] * 5]])]
    np.testing.assert_allclose(sums(pattern, left_out=first), [[0.5, 0.1, 3, 2]], atol=1e-6)
    own = [np.array([[[True] + [False] * 5], [[False] * 5 + [True]]])]                  # another layer's sink is another
    np.testing.assert_allclose(sums(pattern, left_out=own), [[0.5, 0.1, 3, 2]], atol=1e-6)
    np.testing.assert_allclose(sums(pattern, rows=None), [[0.1, 0.9, 3, 3]], atol=1e-6)


@pytest.mark.parametrize("text", [1, 2, 4])
def test_attention_in_proportion_to_the_tokens_is_no_dominance(text):
    """MDI = AEI = 1 for every split of evenly spread attention."""
    parts = [{"image": mask(*range(text, 6)), "text": mask(*range(text))}]
    on_other, on_text, others, texts = np.moveaxis(sums(uniform(6), parts), -1, 0)
    for value in ("MDI", "AEI"):
        assert index(on_text, on_other, texts, others, value) == pytest.approx(1)


def test_dominance_by_hand_and_the_identity_of_its_indices():
    pattern = rows_of(0, 0, 0, 0, 0, ROW)
    on_other, on_text, others, texts = np.moveaxis(sums(pattern, [{"image": mask(1, 2), "text": mask(0, 3, 4, 5)}]), -1, 0)
    assert index(on_text, on_other, texts, others) == pytest.approx((0.6 / 4) / (0.4 / 2))
    assert index(on_text, on_other, texts, others, "AEI") == pytest.approx(0.6 / (4 / 6))
    rng = np.random.default_rng(0)
    t, o, count_t, count_o = rng.random(50), rng.random(50), rng.integers(1, 600, 50), rng.integers(1, 600, 50)
    mdi, aei = (index(t, o, count_t, count_o, value) for value in ("MDI", "AEI"))
    np.testing.assert_allclose(aei, mdi * (count_t + count_o) / (mdi * count_t + count_o))
    assert np.isnan(index(np.array(0.5), np.array(0.0), np.array(3), np.array(3)))
    assert np.isnan(index(np.array(0.5), np.array(0.5), np.array(0), np.array(3), "AEI"))


@pytest.fixture(scope="module")
def llama():
    return model_of("llama")


def last_rows(model, tokens):
    """The last row of each head's pattern [layer, head, prompt, key], of prompts without padding."""
    sites = [Site("pattern", layer) for layer in range(model.n_layers)]
    return np.stack([activations(model, tokens, sites)[site][:, :, -1].numpy() for site in sites]).transpose(0, 2, 1, 3)


def test_shares_of_a_model(llama):
    batch = random_batch(n=3)
    rows = last_rows(llama, batch.clean)
    found = interp.measures.attention_share(llama, batch, parts=("A", "B"))
    assert found.coords["part"] == ("A", "B", "template")
    expected = np.stack([rows[..., 1], rows[..., 3:5].sum(-1), rows[..., [0, 2, 5, 6]].sum(-1)], axis=-1)
    np.testing.assert_allclose(found.values, expected, atol=1e-6)
    assert found.provenance.options["tokens_per_part"] == {"A": 1, "B": 2, "template": 4}
    rest = interp.measures.attention_share(llama, batch, parts=("A",), exclude_sinks="first token").values
    np.testing.assert_allclose(rest[..., 0], rows[..., 1] / rows[..., 1:].sum(-1), atol=1e-6)
    dominance = interp.measures.text_dominance(llama, batch, other="B").values
    np.testing.assert_allclose(dominance, (1 - expected[..., 1]) / 5 / (expected[..., 1] / 2), rtol=1e-4)
    layers = interp.measures.text_dominance(llama, batch, other="B", over="layer").values
    mean = expected.mean(1, keepdims=True)[..., 1]
    np.testing.assert_allclose(layers, np.broadcast_to((1 - mean) / 5 / (mean / 2), layers.shape), rtol=1e-4)


def test_sinks_of_each_head_are_left_out_where_it_has_them(llama):
    batch = random_batch(n=3)
    sinks = sinks_to_leave_out(llama, batch, "sinks", 0.18, None, None)
    assert 0 < sum(int(one.sum()) for one in sinks) < sum(one.size for one in sinks)
    rows = last_rows(llama, batch.clean)
    found = interp.measures.attention_share(llama, batch, parts=("B",), exclude_sinks="sinks", epsilon=0.18).values
    kept = rows * ~np.stack(sinks, axis=2)
    np.testing.assert_allclose(found[..., 0], kept[..., 3:5].sum(-1) / kept.sum(-1), atol=1e-5)


def test_blocks_and_padding_change_nothing(llama):
    batch, left = (random_batch(n=4, lengths=(7, 9), padding_side=side) for side in ("right", "left"))
    stack = llama.stack()
    whole = None
    for other, options in ((batch, {}), (batch, {"block": 2, "batch_size": 1}), (left, {})):
        parts = parts_of(llama, other, ("A", "B"), stack, "rest")
        found = row_means(llama, other, {"parts": part_sums(parts)}, queries="end", **options)["parts"]
        whole = found if whole is None else whole
        np.testing.assert_allclose(found, whole, atol=1e-6)
    fold = {"products": products(stack.n_layers, "best head")}
    patterns = stream(llama, batch, fold)["products"]
    for other, options in ((batch, {"block": 2, "batch_size": 1}), (left, {"block": 5})):
        found = stream(llama, other, fold, **options)["products"]
        for one, two in zip(found, patterns, strict=True):
            torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)
    one = interp.measures.relative_attention(llama, batch, span="B").values
    np.testing.assert_allclose(interp.measures.relative_attention(llama, left, span="B").values, one, rtol=1e-4)


def test_a_question_and_itself_have_no_contrast(llama):
    batch = random_batch(n=3)
    batch = replace(batch, corrupt=batch.clean)
    found = interp.measures.relative_attention(llama, batch, span="B")
    np.testing.assert_allclose(found.values, 1, atol=1e-4)
    flat = interp.measures.relative_attention(llama, batch, span="B", value="focus")
    np.testing.assert_allclose(flat.values, 0, atol=1e-4)


def test_contrast_by_hand():
    specific, general = np.array([0.2, 0.1, 0.4]), np.array([0.1, 0.1, 0.0])
    np.testing.assert_allclose(contrast(specific, general), [2, 1, np.nan])
    np.testing.assert_allclose(contrast(specific, general, 0.1), [1, 0.5, 4])
    assert focus(np.array([0.0, 0, 3, 0])) == pytest.approx(1)
    assert focus(np.array([2.0, 2, 2])) == pytest.approx(0)
    assert focus(np.array([1.0, 1, 0, 0])) == pytest.approx(0.5)
    assert np.isnan(focus(np.array([1.0])))


def test_contrast_of_questions_of_different_lengths(llama):
    """The image stands at other places of the general prompt; each side is read where it stands."""
    specific, general = Prompt("", {"image": (1, 4)}, (5, 9, 9, 7, 8, 6)), Prompt("", {"image": (3, 6)}, (5, 6, 4, 9, 9, 7))
    batch = build([PromptPair(specific, general, 11, (12,))], None, name="questions", vocab_size=97, moving=("image",))
    one, two = last_rows(llama, batch.clean)[..., 1:4], last_rows(llama, batch.corrupt)[..., 3:6]
    np.testing.assert_allclose(interp.measures.relative_attention(llama, batch).values, one / two, rtol=1e-4)
    damped = interp.measures.relative_attention(llama, batch, damping=0.5).values
    np.testing.assert_allclose(damped, one / (two + 0.5), rtol=1e-4)


def test_growing_weights_of_the_answers_tokens(llama):
    batch = random_batch(n=2)
    sites = [Site("pattern", layer) for layer in range(llama.n_layers)]

    def looks(tokens):
        found = activations(llama, tokens, sites)
        rows = np.stack([found[site][:, :, 3:5].numpy() for site in sites]).transpose(0, 2, 1, 3, 4)
        return rows[:, :, :, 0, 1:2] + 2 * rows[:, :, :, 1, 1:2]

    found = interp.measures.relative_attention(llama, batch, span="A", queries="B", weights="growing", damping=0.1).values
    np.testing.assert_allclose(found, looks(batch.clean) / (looks(batch.corrupt) + 0.1), rtol=1e-4)


def layers_of(*patterns, match="same head", rows=3):
    """Cosines between layers with these patterns [head, row, key]."""
    fold, kept = products(len(patterns), match), [None] * len(patterns)
    length = patterns[0].shape[1]
    for first in range(0, length, rows):
        for layer, pattern in enumerate(patterns):
            part = torch.as_tensor(pattern[None, :, first : first + rows, : first + rows], dtype=torch.float32)
            block = Block(part, first, length, length, Site("pattern", layer), stack_of(len(pattern)), torch.tensor([0]))
            kept[layer] = fold.fold(kept[layer], block)
    return cosines(torch.stack([one[0] for one in kept]), match)


@pytest.mark.parametrize("rows", [1, 4, 8])
def test_similarity_of_layers(rows):
    one, two, three = (random_patterns(2, 8, seed) for seed in range(3))
    swapped = one[::-1].copy()
    found = layers_of(one, one, swapped, two, rows=rows)
    np.testing.assert_allclose(found[0, :, 1], 1, atol=1e-6)
    a, b = one.reshape(2, -1), two.reshape(2, -1)
    np.testing.assert_allclose(found[0, :, 3], (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1),
                               atol=1e-5)
    np.testing.assert_allclose(found[:, 0], found[:, 0].T, atol=1e-6)
    assert (found[0, :, 2] < 0.999).all()
    best = layers_of(one, three, swapped, match="best head", rows=rows)
    np.testing.assert_allclose(best[0, :, 2], 1, atol=1e-6)
    np.testing.assert_allclose(best[2, :, 0], 1, atol=1e-6)
    np.testing.assert_allclose(best[[0, 1, 2], :, [0, 1, 2]], 1, atol=1e-6)
    c = three.reshape(2, -1)
    cosine = (a @ c.T) / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(c, axis=1)
    np.testing.assert_allclose(best[0, :, 1], cosine.max(1), atol=1e-5)
    np.testing.assert_allclose(best[1, :, 0], cosine.max(0), atol=1e-5)


def test_previous_and_own_token_heads_share_only_the_first_row():
    previous, own = rows_of(0, 0, 1, 2), rows_of(0, 1, 2, 3)
    assert layers_of(previous, own)[0, 0, 1] == pytest.approx(1 / 4)


def test_cross_layer_similarity_of_models(llama):
    batch = random_batch(n=2)
    found = interp.measures.cross_layer_similarity(llama, batch).values
    patterns = [activations(llama, batch.clean, [Site("pattern", layer)])[Site("pattern", layer)] for layer in range(3)]
    wanted = torch.nn.functional.cosine_similarity(patterns[0].flatten(2), patterns[2].flatten(2), dim=-1)
    np.testing.assert_allclose(found[0, :, :, 2], wanted.T, atol=1e-5)
    vit, images = load(tiny("vit"), verify=False), from_inputs(inputs("vit", 2))
    assert np.isfinite(interp.measures.cross_layer_similarity(vit, images, match="best head").values).all()
    t5, both = load(tiny("t5"), verify=False), from_inputs(inputs("t5", 2))
    assert np.isfinite(interp.measures.cross_layer_similarity(t5, both, attention="cross").values).all()


@pytest.mark.parametrize(("name", "options", "reason"), [
    ("attention_share", {}, "position"), ("attention_share", {"parts": ("A", "A")}, "named twice"),
    ("attention_share", {"parts": ("A",), "rest": "A"}, "named twice"),
    ("attention_share", {"parts": ("B", "end"), "queries": "B"}, None),
    ("text_dominance", {}, "position"), ("relative_attention", {}, "position"),
    ("relative_attention", {"span": "A", "damping": -1.0}, "below 0"),
])
def test_what_cannot_be_is_refused(llama, name, options, reason):
    if reason is None:
        assert np.isfinite(getattr(interp.measures, name)(llama, random_batch(n=2), **options).values).all()
        return
    with pytest.raises(InterpError, match=reason):
        getattr(interp.measures, name)(llama, random_batch(n=2), **options)


def test_spans_that_overlap_and_sides_that_are_missing(llama):
    batch = from_tokens([[3, 4, 5, 6]], [[3, 5, 4, 6]], 7, 8, positions={"A": (1, 3), "B": (2, 4)})
    with pytest.raises(InterpError, match="they have tokens in common"):
        interp.measures.attention_share(llama, batch, parts=("A", "B"))
    texts = interp.tasks.from_texts(llama, [[3, 4, 5, 6]], spans={"A": (1, 3)})
    with pytest.raises(InterpError, match="no counterfactual"):
        interp.measures.relative_attention(llama, texts, span="A")
    vit, images = load(tiny("vit"), verify=False), from_inputs(inputs("vit", 2))
    for name in ("attention_share", "text_dominance", "relative_attention"):
        with pytest.raises(InterpError, match="named spans belong to the main sequence"):
            getattr(interp.measures, name)(vit, images)

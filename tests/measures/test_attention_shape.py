"""Entropy, distance, k-hop profile, effective span and top-k mass: patterns by hand, image grids, blocks and padding."""

import math

import numpy as np
import pytest
import torch
from hand_patterns import folded, random_patterns, rows_of, uniform
from random_batches import model_of, random_batch

import interp
from interp.core.errors import InterpError
from interp.measures.attention_distance import in_images, in_text
from interp.measures.attention_entropy import entropy
from interp.measures.attention_rows import mean_fold, patch_grid, row_means
from interp.measures.effective_span import span
from interp.measures.hop_profile import shares, steps_in_images
from interp.measures.top_k_mass import top
from interp.models.load import load
from interp.models.tiny import inputs, tiny
from interp.tasks import from_inputs

SELF, PREVIOUS = rows_of(0, 1, 2, 3, 4, 5), rows_of(0, 0, 1, 2, 3, 4)
FIRST, HALF = rows_of(0, 0, 0, 0, 0, 0), rows_of(0, *({i: 0.5, i - 1: 0.5} for i in range(1, 6)))


def mean(statistic, pattern, rows=2, causal=True, **options):
    return folded(mean_fold(lambda block: statistic(block, **options)), pattern, rows=rows if causal else None,
                  causal=causal, attention="self" if causal else "vision")


@pytest.mark.parametrize(("pattern", "nats"), [(SELF, 0), (FIRST, 0), (HALF, math.log(2)),
                                               (uniform(6), np.mean(np.log(range(2, 7))))])
def test_entropy(pattern, nats):
    assert mean(entropy, pattern) == pytest.approx(nats, abs=1e-6)
    assert mean(entropy, pattern, value="bits") == pytest.approx(nats / math.log(2), abs=1e-6)


def test_entropy_relative_to_what_can_be_seen():
    assert mean(entropy, uniform(6), value="relative") == pytest.approx(1)
    assert mean(entropy, uniform(6), value="relative", exclude_bos=True) == pytest.approx(1)
    assert mean(entropy, HALF, value="keys") == pytest.approx(2)
    assert mean(entropy, 0.5 * HALF) == pytest.approx(math.log(2))            # a learned sink takes the other half
    sink = rows_of(0, *({0: 0.8, i: 0.2} for i in range(1, 6)))
    assert mean(entropy, sink, exclude_bos=True) == pytest.approx(0, abs=1e-6)
    assert np.isnan(mean(entropy, FIRST, exclude_bos=True)).all()


@pytest.mark.parametrize(("pattern", "far", "spread"), [(SELF, 0, 0), (PREVIOUS, 1, 0), (FIRST, 3, 0), (HALF, 0.5, 0.5)])
def test_distance(pattern, far, spread):
    assert mean(in_text, pattern) == pytest.approx(far)
    assert mean(in_text, pattern, value="spread") == pytest.approx(spread, abs=1e-6)


def test_the_first_token_may_be_left_out_of_the_distance():
    both = rows_of(0, *({0: 0.5, i: 0.5} for i in range(1, 6)))
    assert mean(in_text, both) == pytest.approx(1.5)
    assert mean(in_text, both, exclude_bos=True) == pytest.approx(0)


def test_hops_on_text():
    def profile(pattern, **options):
        return mean(shares(**{"hops": 2, "apart": False, **options}), pattern)[0].round(6).tolist()

    assert profile(SELF) == [1, 0, 0, 0]
    assert profile(PREVIOUS) == [0, 1, 0, 0]
    assert profile(HALF) == [0.5, 0.5, 0, 0]
    assert profile(FIRST) == [0, 0.2, 0.2, 0.6]
    assert profile(FIRST, apart=True) == [0, 0, 0, 0, 1]
    assert profile(uniform(6), value="per token")[:1] == [pytest.approx(np.mean([1 / n for n in range(2, 7)]), abs=1e-6)]
    assert profile(uniform(6), value="per token", apart=True)[4] == profile(uniform(6), value="per token")[0]
    assert sum(profile(random_patterns(1, 6), apart=True)) == pytest.approx(1, abs=1e-5)


def grid_pattern(look, side=3, apart=1):
    """Patches of a square look where ``look(row, column)`` says (a patch or "class"); the class token looks at itself."""
    count = side * side + apart
    pattern = np.zeros((1, count, count))
    pattern[0, 0, 0] = 1
    for row in range(side):
        for column in range(side):
            to = look(row, column)
            pattern[0, apart + row * side + column, 0 if to == "class" else apart + to[0] * side + to[1]] = 1
    return pattern


@pytest.mark.parametrize(("look", "hops", "far"), [
    (lambda r, c: (r, c), [1, 0, 0, 0, 0], 0),
    (lambda r, c: ((r + 1) % 3, c), [0, 2 / 3, 1 / 3, 0, 0], 4 / 3),      # a patch below; from the last row two above
    (lambda r, c: (r, 2) if c == 0 else (r, 0), [0, 1 / 3, 2 / 3, 0, 0], 5 / 3),
    (lambda r, c: (1, 1), [1 / 9, 8 / 9, 0, 0, 0], (4 + 4 * math.sqrt(2)) / 9),
    (lambda r, c: (2 - r, 2 - c), [1 / 9, 0, 8 / 9, 0, 0], (8 + 8 * math.sqrt(2)) / 9),
    (lambda r, c: "class", [0, 0, 0, 0, 1], math.nan),
])
def test_grids(look, hops, far):
    pattern = grid_pattern(look)
    found = mean(shares(2, "total", True, steps_in_images()), pattern, causal=False)
    np.testing.assert_allclose(found[0], hops, atol=1e-6)
    np.testing.assert_allclose(mean(in_images("mean"), pattern, causal=False), far, atol=1e-6)


def test_hops_per_patch_of_even_attention_are_even():
    pattern = np.full((1, 17, 17), 1 / 17)
    total = mean(shares(3, "total", True, steps_in_images()), pattern, causal=False)[0]
    each = mean(shares(3, "per token", True, steps_in_images()), pattern, causal=False)[0]
    around = (4 * 3 + 8 * 5 + 4 * 8) / 16                       # neighbours of corners, rims and the inside of 4 × 4
    np.testing.assert_allclose(total[[0, 1, 5]] * 17, [1, around, 1], atol=1e-6)
    np.testing.assert_allclose(each[[0, 1, 2, 3, 5]] * 17, 1, atol=1e-6)


def test_grids_are_told_from_the_number_of_tokens():
    assert patch_grid(197) == (14, 14, 1)
    assert patch_grid(198) == (14, 14, 2)
    assert patch_grid(201) == (14, 14, 5)
    assert patch_grid(16) == (4, 4, 0)
    assert patch_grid(25, (3, 8)) == (3, 8, 1)
    for count, grid in ((15, None), (25, (2, 8)), (25, (5, 6))):
        if grid is None:
            assert patch_grid(count) == (3, 3, 6)
        else:
            with pytest.raises(InterpError, match="see a grid of"):
                patch_grid(count, grid)


@pytest.mark.parametrize(("pattern", "tokens"), [(SELF, 1), (PREVIOUS, 2), (HALF, 2), (FIRST, np.mean([2, 3, 4, 5, 6])),
                                                 (uniform(6), np.mean([2, 3, 4, 5, 6]))])
def test_effective_span(pattern, tokens):
    assert mean(span, pattern) == pytest.approx(tokens)


def test_effective_span_of_less_and_of_sinks():
    assert mean(span, uniform(6), gamma=0.5) == pytest.approx(np.mean([1, 2, 2, 3, 3]))
    assert mean(span, FIRST, value="share") == pytest.approx(1)
    sink = rows_of(0, *({0: 0.8, i: 0.2} for i in range(1, 6)))
    assert mean(span, sink) == pytest.approx(4)
    assert mean(span, sink, exclude_bos=True) == pytest.approx(1)
    both = np.zeros((1, 5, 5))
    both[0] = np.eye(5)[[1, 0, 2, 4, 0]]
    assert mean(span, both, causal=False) == pytest.approx(np.mean([2, 2, 1, 2, 5]))


def test_top_k_mass():
    spread = rows_of(0, {0: 0.6, 1: 0.4}, {0: 0.5, 1: 0.3, 2: 0.2}, {0: 0.1, 1: 0.2, 2: 0.3, 3: 0.4})
    assert mean(top, spread, k=1) == pytest.approx((0.6 + 0.5 + 0.4) / 3)
    assert mean(top, spread, k=2) == pytest.approx((1 + 0.8 + 0.7) / 3)
    assert mean(top, spread, k=9) == pytest.approx(1)
    assert mean(top, spread, value="keys") == pytest.approx((2 + 3 + 3) / 3)
    assert mean(top, spread, value="share") == pytest.approx((1 + 1 + 0.75) / 3)
    assert mean(top, spread, k=1, exclude_bos=True) == pytest.approx((1 + 0.6 + 0.4 / 0.9) / 3)


STATISTICS = {"entropy": entropy, "distance": in_text, "hops": shares(2), "span": span, "top": lambda block: top(block, k=2)}


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_blocks_order_and_padding_change_nothing(architecture):
    model = model_of(architecture)
    batch, left = (random_batch(n=4, lengths=(9, 12), padding_side=side) for side in ("right", "left"))
    whole = row_means(model, batch, STATISTICS)
    for other, options in ((batch, {"block": 1}), (batch, {"block": 5, "batch_size": 1}), (left, {})):
        found = row_means(model, other, STATISTICS, **options)
        for name, values in whole.items():
            assert np.isfinite(values).all()
            np.testing.assert_allclose(found[name], values, atol=2e-6 if name != "span" else 0.2, err_msg=name)
    turned = row_means(model, batch.subset([3, 1, 2, 0]), STATISTICS)
    np.testing.assert_allclose(turned["entropy"], whole["entropy"][:, :, [3, 1, 2, 0]], atol=2e-6)


def test_rows_of_a_span_alone():
    model, batch = model_of("llama"), random_batch(n=2)
    patterns = model.run(batch.clean.inputs, None, [site_of(1)]).captured[site_of(1)].detach().double()
    nats = torch.special.entr(patterns).sum(-1)
    for queries, rows in (("A", [1]), ("B", [3, 4]), ("end", [6]), (None, list(range(1, 7)))):
        found = interp.measures.attention_entropy(model, batch, queries=queries).values[1]
        np.testing.assert_allclose(found, nats[:, :, rows].mean(-1).T, atol=1e-5)


def site_of(layer):
    from interp.models.sites import Site

    return Site("pattern", layer)


def test_images_encoders_and_what_has_no_distance():
    vit, images = load(tiny("vit"), verify=False), from_inputs(inputs("vit", 2))
    for name in ("attention_entropy", "attention_distance", "hop_profile", "top_k_mass"):
        found = getattr(interp.measures, name)(vit, images)
        assert found.attention == "vision"
        assert np.isfinite(found.values[..., :2] if name == "hop_profile" else found.values).all()
    with pytest.raises(InterpError, match="patches stand in a grid"):
        interp.measures.effective_span(vit, images)
    with pytest.raises(InterpError, match="patches have no names"):
        interp.measures.attention_entropy(vit, images, queries="end")
    t5, both = load(tiny("t5"), verify=False), from_inputs(inputs("t5", 2))
    for name in ("attention_distance", "hop_profile", "effective_span"):
        with pytest.raises(InterpError, match="different sequences"):
            getattr(interp.measures, name)(t5, both, attention="cross")
        assert np.isfinite(getattr(interp.measures, name)(t5, both, attention="encoder").values).all()


@pytest.mark.parametrize(("name", "options"), [("effective_span", {"gamma": 0.0}), ("effective_span", {"gamma": 1.5}),
                                               ("top_k_mass", {"k": 0}), ("top_k_mass", {"gamma": 2.0}),
                                               ("hop_profile", {"hops": -1}), ("attention_entropy", {"queries": "C"})])
def test_options_out_of_range_are_refused(name, options):
    with pytest.raises(InterpError):
        getattr(interp.measures, name)(model_of("gpt2"), random_batch(n=2), **options)

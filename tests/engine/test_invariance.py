"""The numbers depend neither on batch size, nor on side and amount of padding, nor on the company of other prompts."""

import numpy as np
import pytest
import torch
from cases import CLEAN, CORRUPT, SPANS, batch_of, model_of
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.engine.activations import activations, mean_activations
from interp.engine.forward import metric_values
from interp.engine.gradients import gradients
from interp.engine.intervention import (
    AttendToFirst,
    Intervention,
    Mean,
    Resample,
    Scale,
    Uniform,
    Zero,
)
from interp.models.sites import SQUARE, Site
from interp.tasks.own import from_tokens

ARCHITECTURES = ("gpt2", "llama", "gpt_neox", "gemma2", "bloom", "gpt_oss")
MODELS = {name: model_of(name) for name in ARCHITECTURES}
WHATS = ("z", "q", "k", "v", "pattern", "resid_mid", "mlp_out", "result")

interventions = st.builds(
    lambda what, layer, positions, value: Intervention(what, layer, None if what == "mlp_out" else 1, positions, value),
    st.sampled_from(["z", "q", "k", "v", "pattern", "mlp_out", "result"]), st.integers(0, 2),
    st.sampled_from([None, "S", "phrase", "end", ("S", "end"), (1, -2)]),
    st.sampled_from([Zero(), Scale(2.0), Resample("corrupt"), Mean("corrupt")]),
) | st.builds(lambda layer, positions, value: Intervention("pattern", layer, 2, positions, value), st.integers(0, 2),
              st.sampled_from([None, "phrase", "end"]), st.sampled_from([Uniform(), AttendToFirst()]))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(ARCHITECTURES), st.lists(interventions, min_size=1, max_size=3), st.integers(1, 4),
       st.sampled_from(["clean", "corrupt"]))
def test_any_batch_size_and_padding(architecture, items, batch_size, on):
    model = MODELS[architecture]
    whole, chunked, left = (
        metric_values(model, batch, items, on, batch_size=size, may_be_identity=True)
        for batch, size in ((batch_of("right"), None), (batch_of("right"), batch_size), (batch_of("left"), batch_size)))
    np.testing.assert_allclose(chunked, whole, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(left, whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_prompt_alone(architecture):
    """Each prompt on its own, without padding, as in company (for values that look at no other prompt)."""
    items = [Intervention("z", 0, 1, "phrase", Resample("corrupt")), Intervention("pattern", 1, 2, None, Uniform())]
    together = metric_values(MODELS[architecture], batch_of("left"), items)
    alone = [metric_values(MODELS[architecture], batch_of(rows=[i]), items, may_be_identity=True)[0] for i in range(4)]
    np.testing.assert_allclose(together, alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_nothing_is_read_from_padding(architecture):
    """A much longer prompt in the batch adds padding to the others, and changes nothing for them."""
    model = MODELS[architecture]
    long = [5, *range(10, 50)]
    spans = {name: [*places, (2, 3)] for name, places in SPANS.items()}
    padded = from_tokens([*CLEAN, long], [*CORRUPT, [5, 3, *long[2:]]], [21, 22, 23, 24, 25], [31, 32, 33, 34, 35],
                         positions=spans)
    sites = [Site(what, 1) for what in WHATS]
    short, company = gradients(model, batch_of(), sites), gradients(model, padded, sites)
    np.testing.assert_allclose(company.metric[:4], short.metric, atol=1e-5, rtol=1e-5)
    real = batch_of().clean.mask.bool()
    for site in sites:
        for a, b in ((short.activations[site], company.activations[site]), (short.gradients[site], company.gradients[site])):
            if site.what in SQUARE:
                for i, length in enumerate(batch_of().clean.lengths.tolist()):
                    torch.testing.assert_close(b[i, :, :length, :length], a[i, :, :length, :length], atol=1e-5, rtol=1e-4)
            else:
                torch.testing.assert_close(b[:4, :real.shape[1]][real], a[real], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("batch_size", [None, 1, 3])
def test_means_against_a_loop(side, batch_size):
    model, batch = MODELS["llama"], batch_of(side)
    sites = [Site("z", 1), Site("k", 0), Site("resid_mid", 2)]
    acts = activations(model, batch, sites, "corrupt", batch_size=batch_size)
    start = batch.corrupt.start.tolist()
    by_token = mean_activations(model, batch, sites, "corrupt", mode="token", batch_size=batch_size)
    by_position = mean_activations(model, batch, sites, "corrupt", positions="phrase", batch_size=batch_size)
    for site in sites:
        rows = [acts[site][i, p].double() for i in range(4) for p in range(start[i], start[i] + len(CORRUPT[i]))]
        torch.testing.assert_close(by_token[site], sum(rows) / len(rows), atol=1e-6, rtol=1e-6)
        for k in range(3):
            rows = [acts[site][i, start[i] + first + k].double() for i, (first, stop) in enumerate(SPANS["phrase"])
                    if first + k < stop]
            torch.testing.assert_close(by_position[site][k], sum(rows) / len(rows), atol=1e-6, rtol=1e-6)


def test_mean_over_another_batch():
    """The reference is another batch: its prompts alone count, and the side ``on`` of it; or those tokens as they are."""
    model, batch, other = MODELS["gpt2"], batch_of(rows=[0, 3]), batch_of("left", rows=[1, 2])
    mean = mean_activations(model, other, [Site("z", 1)], "corrupt", mode="token")[Site("z", 1)]
    for value in (Mean(other, "token", "corrupt"), Mean(other.corrupt, "token")):
        item = Intervention("z", 1, 2, "S", value)
        found = activations(model, batch, [item.site], interventions=item)[item.site]
        for i in range(2):
            torch.testing.assert_close(found[i, int(batch.spans["S"][i, 0]), 2], mean[2].float(), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("index", [6, -7])
def test_a_token_that_only_some_chunks_have(side, index):
    """Chunks in which every prompt is too short for an index are left unchanged, as these prompts are in the whole batch."""
    clean = [[1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11, 12, 13, 14]]
    corrupt = [[2, *row[1:-1], row[-1] + 20] for row in clean]
    batch = from_tokens(clean, corrupt, 30, 31, padding_side=side)
    items = Intervention("z", 0, 1, index, Resample("corrupt"))
    whole, chunked = (metric_values(MODELS["llama"], batch, items, batch_size=size) for size in (None, 3))
    np.testing.assert_allclose(chunked, whole, atol=1e-5)
    for size in (1, 2):
        chunked = metric_values(MODELS["llama"], batch, items, batch_size=size)
        np.testing.assert_allclose(chunked, whole, atol=1e-5)
    untouched = metric_values(MODELS["llama"], batch)
    np.testing.assert_allclose(whole[:2], untouched[:2], atol=1e-6)
    assert abs(whole[2] - untouched[2]) > 1e-5

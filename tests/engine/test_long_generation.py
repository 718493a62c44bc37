"""Generation after a prefill in chunks: as transformers generates, as one pass over the whole prompt, one row at a time."""

import pytest
import torch
from cases import CLEAN, batch_of, model_of

from interp.core.errors import InterpError
from interp.engine.activations import activations
from interp.engine.answers import first_right, recall, stop_tokens
from interp.engine.generate import generate, left_padded
from interp.engine.intervention import AttendToFirst, Intervention, Mean, Scale, Uniform, Zero
from interp.engine.long_generation import generate_long, prefill
from interp.engine.prompts import side, sides
from interp.models.sites import Site
from interp.models.tiny import tiny

ARCHITECTURES = ("gpt2", "llama", "mistral", "gpt_neox", "gemma2", "bloom", "gptj", "gpt_oss", "deepseek_v3")
STEPS = 6


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_tokens_of_transformers(architecture):
    network = tiny(architecture)
    found = generate_long(model_of(architecture), batch_of(), STEPS, chunk=3)
    for ids, new in zip(CLEAN, found.rows(), strict=True):
        prompt = torch.tensor([ids])
        want = network.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=STEPS,
                                eos_token_id=None, pad_token_id=0)
        assert new == want[0, len(ids):].tolist()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_a_prefill_in_chunks_equals_one_pass(architecture, chunk):
    model = model_of(architecture)
    prompts = left_padded(side(sides(model, batch_of()), "clean"))
    ids, mask = prompts.inputs["input_ids"], prompts.inputs["attention_mask"]
    sites = [Site("pattern", layer) for layer in range(model.n_layers)]
    with torch.no_grad():
        whole = model.run({"input_ids": ids, "attention_mask": mask}, capture=sites)
        cache = prefill(model, prompts, chunk=chunk)
        last = model.run({"input_ids": ids[:, -1:], "attention_mask": mask}, capture=sites, cache=cache, use_cache=True)
    torch.testing.assert_close(last.logits[:, -1], whole.logits[:, -1], atol=1e-5, rtol=1e-5)
    for site in sites:
        assert last.captured[site].shape[2] == 1
        torch.testing.assert_close(last.captured[site][:, :, 0], whole.captured[site][:, :, -1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture", ["gpt2", "gemma2", "gpt_oss"])
@pytest.mark.parametrize("padding_side", ["left", "right"])
def test_where_heads_look_is_the_largest_weight_of_the_whole_pattern(architecture, padding_side):
    model = model_of(architecture)
    found = generate_long(model, batch_of(padding_side), STEPS, attended=True, chunk=4)
    assert found.attended.shape == (model.n_layers, model.n_heads, 4, STEPS)
    sites = [Site("pattern", layer) for layer in range(model.n_layers)]
    for i, ids in enumerate(CLEAN):
        sequence = torch.tensor([ids + found.rows()[i]])
        patterns = activations(model, {"input_ids": sequence}, sites)
        for site in sites:
            rows = patterns[site][0, :, len(ids) - 1 : len(ids) - 1 + STEPS]
            weight, at = rows.max(dim=-1)
            torch.testing.assert_close(found.weight[site.layer][:, i], weight, atol=1e-5, rtol=1e-5)
            second = rows.topk(2).values
            clear = second[..., 0] - second[..., 1] > 1e-4
            assert bool((found.attended[site.layer][:, i] == at)[clear].all())


def test_groups_and_chunks_change_nothing():
    model = model_of("llama")
    whole = generate_long(model, batch_of(), STEPS, attended=True)
    for options in ({"batch_size": 1}, {"chunk": 2}, {"batch_size": 3, "chunk": 1}):
        other = generate_long(model, batch_of("left"), STEPS, attended=True, **options)
        assert torch.equal(other.ids, whole.ids)
        assert torch.equal(other.attended, whole.attended)
        torch.testing.assert_close(other.weight, whole.weight, atol=1e-5, rtol=1e-5)


def test_no_pass_has_more_queries_than_a_chunk(monkeypatch):
    model, sizes = model_of("gpt2"), []
    run = type(model.backend).run

    def seen(self, inputs, *args, **more):
        sizes.append(inputs["input_ids"].shape[1])
        return run(self, inputs, *args, **more)

    monkeypatch.setattr(type(model.backend), "run", seen)
    generate_long(model, batch_of(), 3, attended=True, chunk=3, batch_size=4)
    assert max(sizes) <= 3
    assert sum(sizes) == 6 + 8 + 3 + 3    # two groups of 7 and 9 tokens: all but the last in chunks, then 3 steps each


@pytest.mark.parametrize("at", [None, "end"])
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2"])
@pytest.mark.parametrize("value", [Zero(), Uniform(), AttendToFirst(), Scale(-2.0)], ids=str)
def test_interventions_as_in_one_pass(architecture, at, value):
    """Against ``generate``, which runs the whole prompt at once (and is tested against computing everything anew)."""
    model, batch = model_of(architecture), batch_of()
    what = "pattern" if isinstance(value, Uniform | AttendToFirst) else "z"
    items = [Intervention(what, layer, heads, at, value) for layer, heads in ((0, (1, 2)), (2, None))]
    found = generate_long(model, batch, STEPS, items, chunk=3)
    assert found.rows() == generate(model, batch, STEPS, items).rows()
    assert found.rows() != generate_long(model, batch, STEPS).rows()
    assert bool(found.acted.all())


def test_forced_tokens_are_gone_on_with():
    model, batch = model_of("gpt2"), batch_of()
    forced = [[7, 9], [30], [4, 4, 4], [11, 60, 2]]
    found = generate_long(model, batch, 1, forced=forced, attended=True)
    assert found.mask.sum(1).tolist() == [2, 1, 3, 3]
    assert bool((found.attended[:, :, 1, 1:] == -1).all())
    for i, row in enumerate(forced):
        for step in range(len(row)):
            sequence = {"input_ids": torch.tensor([CLEAN[i] + row[:step]])}
            assert found.ids[i, step] == generate(model, sequence, 1).ids[0, 0]


def test_stops_each_prompt_by_itself():
    model = model_of("gpt2")
    free = generate_long(model, batch_of(), STEPS).rows()
    stop = free[0][2]
    found = generate_long(model, batch_of(), STEPS, stop=[stop], attended=True)
    for i, (row, whole) in enumerate(zip(found.rows(), free, strict=True)):
        assert row == (whole[: whole.index(stop) + 1] if stop in whole else whole)
        assert bool((found.attended[:, :, i, len(row):] == -1).all())


def test_refuses():
    model = model_of("gpt2")
    for item in (Intervention("z", 0, 0, "S", Zero()), Intervention("z", 0, 0, None, Mean(mode="token"))):
        with pytest.raises(InterpError, match="prefill in chunks"):
            generate_long(model, batch_of(), 2, item)
    with pytest.raises(InterpError, match="they need 65 positions and the context has 64"):
        generate_long(model, batch_of(), 57)
    with pytest.raises(InterpError, match="generate 0 tokens"):
        generate_long(model, batch_of(), 0)
    with pytest.raises(InterpError, match="3 rows of them for 4 prompts"):
        generate_long(model, batch_of(), 1, forced=[[1]] * 3)


def test_answers():
    assert recall(["a", "b", "b"], ["b", "c", "b", "b"]) == pytest.approx(2 / 3)
    assert recall(["a"], []) == 0
    assert stop_tokens(None) == frozenset()
    model, batch = model_of("gpt2"), batch_of()
    found = generate_long(model, batch, 1)
    assert first_right(batch, found).tolist() == [float(row[0] == 21 + i) for i, row in enumerate(found.rows())]

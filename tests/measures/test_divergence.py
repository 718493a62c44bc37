"""Head divergence against hand-made cases, and against hooks on the untouched transformers model."""

import numpy as np
import pytest
import torch
from random_batches import FEW, random_batch, shallow
from scipy.spatial.distance import jensenshannon

import interp
from interp.core.errors import InterpError
from interp.engine.parts import part_of
from interp.engine.prompts import side, sides
from interp.measures.context_memory import context_memory
from interp.measures.direct_logit_attribution import direct_logit_attribution
from interp.measures.divergence import amplified_heads, jensen_shannon, of_outputs, token_divergence, without_outliers
from interp.measures.head_divergence import head_divergence
from interp.measures.model_divergence import model_divergence
from interp.models.load import load


def z_at_end(network, ids):
    """z of each layer at the last token, by hooks on the output projections of an untouched GPT-2: [layer, d_model]."""
    seen = []
    handles = [block.attn.c_proj.register_forward_pre_hook(lambda _, args: seen.append(args[0][0, -1]))
               for block in network.transformer.h]
    with torch.no_grad():
        network(torch.tensor([ids]))
    for handle in handles:
        handle.remove()
    return torch.stack(seen)


def test_a_removed_part_is_as_if_it_had_never_been_written():
    network, batch = shallow("gpt2"), random_batch(n=3, lengths=(7, 9))
    heads = network.config.n_head
    found = head_divergence(load(network, verify=False), batch, part="B").values
    relative = head_divergence(load(network, verify=False), batch, part="B", variant="relative").values
    for i, ids in enumerate(batch.clean.rows()):
        one, two = z_at_end(network, ids), z_at_end(network, ids[:3] + ids[5:])
        apart = (one - two).unflatten(-1, (heads, -1)).norm(dim=-1)
        np.testing.assert_allclose(found[:, :, i], apart, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(relative[:, :, i], apart / one.unflatten(-1, (heads, -1)).norm(dim=-1), rtol=1e-4)


def test_replacing_is_by_the_corrupted_prompt_or_by_a_token():
    network, batch = shallow("gpt2"), random_batch(n=2)
    heads, model = network.config.n_head, load(network, verify=False)
    by_corrupt = head_divergence(model, batch, part="B", how="replaced").values
    by_token = head_divergence(model, batch, part="B", how="replaced", filler=5).values
    for i, (ids, others) in enumerate(zip(batch.clean.rows(), batch.corrupt.rows(), strict=True)):
        for values, new in ((by_corrupt, [*ids[:3], *others[3:5], *ids[5:]]), (by_token, [*ids[:3], 5, 5, *ids[5:]])):
            apart = (z_at_end(network, ids) - z_at_end(network, new)).unflatten(-1, (heads, -1)).norm(dim=-1)
            np.testing.assert_allclose(values[:, :, i], apart, rtol=1e-4, atol=1e-6)


def test_masking_is_a_hole_in_the_attention_mask():
    network, batch = shallow("gpt2"), random_batch(n=2)
    found = head_divergence(load(network, verify=False), batch, part="B", how="masked").values
    for i, ids in enumerate(batch.clean.rows()):
        seen = {}
        for name, mask in (("whole", [1] * 7), ("hole", [1, 1, 1, 0, 0, 1, 1])):
            store = []
            handles = [block.attn.c_proj.register_forward_pre_hook(lambda _, args, store=store: store.append(args[0][0, -1]))
                       for block in network.transformer.h]
            with torch.no_grad():
                network(torch.tensor([ids]), attention_mask=torch.tensor([mask]), position_ids=torch.arange(7)[None])
            for handle in handles:
                handle.remove()
            seen[name] = torch.stack(store).unflatten(-1, (network.config.n_head, -1))
        np.testing.assert_allclose(found[:, :, i], (seen["whole"] - seen["hole"]).norm(dim=-1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("variant", ["l2", "relative", "cosine", "pattern", "answer"])
@pytest.mark.parametrize("architecture", FEW)
def test_nothing_changed_gives_zero_and_something_changed_does_not(variant, architecture):
    model, batch = load(shallow(architecture), verify=False), random_batch(n=2)
    same = type(batch)(**{**vars(batch), "corrupt": batch.clean})
    tight = 1e-5 if variant == "cosine" else 1e-6
    assert np.abs(head_divergence(model, same, part="B", how="replaced", variant=variant).values).max() < tight
    assert np.abs(head_divergence(model, batch, part="B", how="replaced", variant=variant).values).max() > 1e-4


def test_scaling_a_head_scales_its_divergence_but_not_its_relative_one():
    batch, plain, scaled = random_batch(n=2), shallow("gpt2"), shallow("gpt2")
    width = plain.config.n_embd
    with torch.no_grad():                  # the values of head 1 in the last layer, three times as large
        attention, size = scaled.transformer.h[-1].attn.c_attn, width // plain.config.n_head
        attention.weight[:, 2 * width + size:2 * width + 2 * size] *= 3
        attention.bias[2 * width + size:2 * width + 2 * size] *= 3
    for variant, factor in (("l2", 3), ("relative", 1), ("cosine", 1), ("pattern", 1)):
        one, two = (head_divergence(load(n, verify=False), batch, part="B", variant=variant).values for n in (plain, scaled))
        np.testing.assert_allclose(two[-1, 1], factor * one[-1, 1], rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(two[-1, 0], one[-1, 0], rtol=1e-4, atol=1e-7)


def test_jensen_shannon_in_bits():
    rows = torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
    others = torch.tensor([[0.2, 0.3, 0.5], [0.0, 0.5, 0.5], [0.1, 0.2, 0.7]])
    expected = [0, 1, jensenshannon(rows[2], others[2], base=2) ** 2]
    np.testing.assert_allclose(jensen_shannon(rows, others), expected, atol=1e-7)


def test_outputs_apart_by_hand():
    one, two = torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    assert of_outputs("l2", one, two).tolist() == [5, 0]
    assert of_outputs("relative", one, two).tolist() == [1, 0]
    assert of_outputs("cosine", torch.tensor([[1.0, 0.0]]), torch.tensor([[-2.0, 0.0]])).tolist() == [2]


def test_outliers_need_a_high_divergence_and_a_high_norm():
    divergence = torch.tensor([1.0, 1, 1, 1, 9])
    assert without_outliers(divergence, torch.tensor([2.0, 2, 2, 2, 30])).tolist() == [1, 1, 1, 1, 0]
    assert without_outliers(divergence, torch.tensor([30.0, 2, 2, 2, 2])).tolist() == [1, 1, 1, 1, 9]
    same = torch.ones(5)
    assert without_outliers(same, same).tolist() == [1] * 5


def test_token_level_sum_and_amplified_heads():
    scores = head_divergence(load(shallow("llama"), verify=False), random_batch(n=2), part="B")
    by_hand = [sorted(scores.values[layer, :, 0])[-2:] for layer in range(2)]
    np.testing.assert_allclose(token_divergence(scores, top=2)[0], np.sum(by_hand))
    chosen = amplified_heads(scores)
    assert chosen.sum() == chosen.size / 2
    assert not amplified_heads(type(scores)(**{**vars(scores), "values": np.ones_like(scores.values)})).any()
    with pytest.raises(InterpError, match="a layer has"):
        token_divergence(scores, top=99)


def test_answer_variant_is_the_change_of_direct_logit_attribution():
    model, batch = load(shallow("llama"), verify=False), random_batch(n=3, differ=(3, 4))
    swapped = type(batch)(**{**vars(batch), "clean": batch.corrupt, "corrupt": batch.clean})
    both = context_memory(model, batch, part="B", how="replaced").values
    np.testing.assert_allclose(both[..., 0], direct_logit_attribution(model, batch).values, atol=1e-6)
    np.testing.assert_allclose(both[..., 1], direct_logit_attribution(model, swapped).values, atol=1e-6)
    np.testing.assert_allclose(both[..., 2], both[..., 0] - both[..., 1])


def test_a_model_against_itself_and_against_another():
    batch, other = random_batch(n=2), shallow("gpt2")
    with torch.no_grad():
        other.transformer.h[1].attn.c_attn.weight += 0.05
    one, two = load(shallow("gpt2"), verify=False), load(other, verify=False)
    assert np.abs(model_divergence(one, batch, other=one).values).max() == 0
    moved = model_divergence(one, batch, other=two).mean()
    assert moved[0].max() == 0
    assert moved[1].min() > 1e-3
    with pytest.raises(InterpError, match="their n_layers is"):
        model_divergence(one, batch, other=interp.load("organism"))


def test_parts_are_named_spans_ranges_or_what_differs():
    batch = random_batch(n=2, padding_side="left", lengths=(7, 9))
    runs = sides(load(shallow("llama"), verify=False), batch)
    clean = side(runs, "clean")
    parts = ("A", "A..B", "start..A", ("A", "B"), None)
    said = {name: part_of(clean, name, runs["corrupt"]).sum(1).tolist() for name in parts}
    assert said == {"A": [1, 1], "A..B": [4, 4], "start..A": [2, 2], ("A", "B"): [3, 3], None: [3, 3]}
    with pytest.raises(InterpError, match="C"):
        part_of(clean, "C")
    with pytest.raises(InterpError, match="consists of nothing else"):
        part_of(clean, "start..end")
    with pytest.raises(InterpError, match="no corrupted prompt"):
        part_of(clean, None)


def test_a_document_that_matters_moves_the_divergence_and_an_irrelevant_one_does_not():
    """On the organism: the queried pair of a list against another pair, for the heads that carry the answer."""
    model = interp.load("organism")
    batch = interp.tasks.key_value.batch(model, n=24, seed=3, size=(8, 16))
    clean = batch.clean
    starts = clean.start + 2                                        # <bos>, "List:" is two pieces at most: a pair after it
    key = batch.spans["key"]
    starts = torch.where((starts - key[:, 0]).abs() < 6, key[:, 0] + 6, starts)
    other = torch.stack([starts, starts + 2], dim=1)
    batch = type(batch)(**{**vars(batch), "spans": {**batch.spans, "other": other},
                           "corrupt_spans": {**batch.corrupt_spans, "other": other}, "aligned": True})
    relevant = head_divergence(model, batch, part="key..value", how="masked", variant="answer")
    irrelevant = head_divergence(model, batch, part="other", how="masked", variant="answer")
    low, _ = relevant.interval()
    top = np.unravel_index(np.nanargmax(relevant.mean()), relevant.mean().shape)
    assert low[top] > 0
    assert np.abs(irrelevant.mean()[top]) < 0.1 * relevant.mean()[top]
    l2 = [head_divergence(model, batch, part=part, how="masked", variant="relative").mean()[top] for part in
          ("key..value", "other")]
    assert l2[0] > 4 * l2[1]


def test_contradictions_are_refused():
    model, batch = load(shallow("llama"), verify=False), random_batch(n=2)
    with pytest.raises(InterpError, match="the published rule is for l2"):
        head_divergence(model, batch, variant="cosine", outliers="zero")
    with pytest.raises(InterpError, match="answer position"):
        head_divergence(model, batch, variant="answer", positions="A")


def vision_language():
    """A tiny LLaVA: an image is four tokens 59."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    size = {"hidden_size": 32, "intermediate_size": 48}
    vision = CLIPVisionConfig(**size, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14,
                              projection_dim=16)
    text = LlamaConfig(**size, vocab_size=60, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
                       initializer_range=0.3)
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=59, image_seq_length=4,
                         vision_feature_layer=-1)
    torch.manual_seed(0)
    return LlavaForConditionalGeneration(config).eval()


def test_an_image_removed_from_the_context_as_published():
    network = vision_language()
    ids = torch.tensor([[1, 59, 59, 59, 59, 5, 6, 7], [1, 59, 59, 59, 59, 9, 3, 2]])
    pixels = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    model = interp.load(network, verify=False)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}
    texts = interp.tasks.from_inputs(inputs, spans={"image": (1, 5), "question": (5, 8)})
    found = head_divergence(model, texts, part="image").values

    def outputs(**given):
        seen = []
        handles = [layer.self_attn.o_proj.register_forward_pre_hook(lambda _, args: seen.append(args[0][:, -1]))
                   for layer in network.model.language_model.layers]
        with torch.no_grad():
            network(**given)
        for handle in handles:
            handle.remove()
        return torch.stack(seen).unflatten(-1, (4, 8))

    without_image = outputs(input_ids=ids[:, [0, 5, 6, 7]])
    expected = (outputs(input_ids=ids, pixel_values=pixels) - without_image).norm(dim=-1).transpose(1, 2)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(InterpError, match="pixel_values"):
        head_divergence(model, texts, part="question")

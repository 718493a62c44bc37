"""Statistics read in blocks of rows equal those of whole patterns, on every architecture, block size and padding."""

import functools
import inspect

import pytest
import torch

from interp.core.errors import InterpError
from interp.engine.activations import activations
from interp.engine.streaming import Block, Fold, blockwise, column_sums, per_row, stream
from interp.models.load import load
from interp.models.sites import Site
from interp.models.tiny import ARCHITECTURES, DECODERS, inputs, tiny
from interp.tasks import from_inputs, from_texts, random_texts

TOLERANCE = {"atol": 1e-6, "rtol": 1e-5}
TEXTS = [[5, 9, 13, 7, 40, 9, 22, 31, 8], [50, 9, 13, 77, 9], [5, 6, 7, 8, 9]]


@functools.cache
def model_of(architecture, **options):
    return load(tiny(architecture), verify=False, **options)


def entropy(block):
    return torch.special.entr(block.tensor.float()).sum(dim=-1)


FOLDS = {
    "received": Fold("pattern", column_sums),
    "entropy": per_row("pattern", entropy),
    "rows": per_row("pattern", lambda block: block.rows.expand(*block.tensor.shape[:2], -1)),
    "norm": per_row("resid_pre", lambda block: block.tensor.norm(dim=-1), axis=1),
}


def whole(model, texts, attention, i):
    """Pattern [layer, head, query, key] of one prompt by itself, and the norms of what enters each layer."""
    stack = model.stack(attention)
    layers = range(stack.n_layers)
    sites = {what: [Site(what, layer, stack.attention) for layer in layers] for what in ("pattern", "resid_pre")}
    found = activations(model, texts.subset([i]), [site for group in sites.values() for site in group])
    return torch.cat([found[s] for s in sites["pattern"]]), torch.cat([found[s].norm(dim=-1) for s in sites["resid_pre"]])


@pytest.mark.parametrize(("block", "padding_side"), [(None, "left"), (1, "right"), (3, "left"), (4, "right")])
@pytest.mark.parametrize("architecture", DECODERS)
def test_blocks_equal_whole_patterns(architecture, block, padding_side):
    model = model_of(architecture)
    texts = from_texts(model, TEXTS, padding_side=padding_side)
    assert blockwise(model, model.stack(), ("input_ids",))
    found = stream(model, texts, FOLDS, block=block, batch_size=2)
    for i, row in enumerate(TEXTS):
        pattern, norms = whole(model, texts, None, i)
        assert pattern.shape[-2:] == (len(row), len(row))
        torch.testing.assert_close(found["received"][i], pattern.sum(dim=2), **TOLERANCE)
        torch.testing.assert_close(found["entropy"][i], torch.special.entr(pattern).sum(dim=-1), atol=4e-6, rtol=1e-5)
        torch.testing.assert_close(found["norm"][i], norms, atol=1e-5, rtol=1e-5)
        assert (found["rows"][i] == torch.arange(len(row))).all()


@pytest.mark.parametrize(("architecture", "attention"), [
    ("bert", None), ("vit", None), ("t5", "encoder"), ("t5", "self"), ("t5", "cross"), ("bart", "cross"),
])
def test_other_stacks_are_read_a_layer_at_a_time(architecture, attention):
    model = model_of(architecture)
    texts = from_inputs(inputs(architecture, 3))
    stack = model.stack(attention)
    folds = {"received": FOLDS["received"], "entropy": FOLDS["entropy"]}
    found = stream(model, texts, folds, attention=attention, block=3)
    patterns = activations(model, texts, [Site("pattern", layer, stack.attention) for layer in range(stack.n_layers)])
    for i in range(3):
        pattern = torch.stack([patterns[Site("pattern", layer, stack.attention)][i] for layer in range(stack.n_layers)])
        torch.testing.assert_close(found["received"][i], pattern.sum(dim=2), **TOLERANCE)
        torch.testing.assert_close(found["entropy"][i], torch.special.entr(pattern).sum(dim=-1), atol=4e-6, rtol=1e-5)


def test_padded_encoders_are_read_without_padding():
    model = model_of("t5")
    given = inputs("t5", 2, 9)
    given["attention_mask"][1, 6:] = 0
    found = stream(model, from_inputs(given), {"received": FOLDS["received"]}, attention="cross")["received"]
    assert [x.shape[-1] for x in found] == [9, 6]
    alone = {"input_ids": given["input_ids"][1:, :6], "decoder_input_ids": given["decoder_input_ids"][1:]}
    pattern = model.run(alone, None, [Site("pattern", 1, "cross")]).captured[Site("pattern", 1, "cross")]
    torch.testing.assert_close(found[1][1], pattern[0].sum(dim=1), **TOLERANCE)


@pytest.mark.parametrize("backend", ["transformer_lens", "transformers"])
def test_both_backends(backend):
    model = model_of("llama", backend=backend)
    texts = from_texts(model, TEXTS)
    found = stream(model, texts, FOLDS, block=4)
    pattern, _ = whole(model, texts, None, 0)
    torch.testing.assert_close(found["received"][0], pattern.sum(dim=2), **TOLERANCE)


def ids(axis):
    return Fold("pattern", lambda kept, read: read.row_ids if axis == "row" else read.key_ids)


@pytest.mark.parametrize("padding_side", ["left", "right"])
def test_a_block_says_which_prompts_and_tokens_it_is_of(padding_side):
    model = model_of("llama")
    texts = from_texts(model, TEXTS, padding_side=padding_side)
    which = Fold("pattern", lambda kept, read: read.prompts.clone())
    found = stream(model, texts, {"which": which, "row": ids("row"), "key": ids("key")}, block=4, batch_size=1)
    for i, row in enumerate(TEXTS):
        assert (found["which"][i] == i).all()
        assert found["row"][i].tolist() == found["key"][i].tolist() == [row] * model.n_layers


def test_tokens_of_encoders_and_images():
    given = inputs("t5", 2, 9)
    for attention, rows, keys in (("encoder", "input_ids", "input_ids"), ("cross", "decoder_input_ids", "input_ids"),
                                  ("self", "decoder_input_ids", "decoder_input_ids")):
        found = stream(model_of("t5"), from_inputs(given), {"row": ids("row"), "key": ids("key")}, attention=attention)
        assert found["row"][1][0].tolist() == given[rows][1].tolist()
        assert found["key"][1][0].tolist() == given[keys][1].tolist()
    seen = []

    def look(kept, read):
        seen.append((read.row_ids, read.key_ids))
        return column_sums(kept, read)

    stream(model_of("vit"), from_inputs(inputs("vit", 2)), {"received": Fold("pattern", look)})
    assert set(seen) == {(None, None)}


def test_the_residual_stream_after_the_last_layer():
    model = model_of("gemma2")
    texts = from_texts(model, TEXTS[:1])
    fold = Fold("resid_pre", lambda kept, block: [*(kept or []), block.tensor], lambda kept: torch.cat(kept, 1), last=True)
    found = stream(model, texts, {"resid": fold}, block=4)["resid"][0]
    last = activations(model, texts, [Site("resid_post", 2)])[Site("resid_post", 2)]
    assert found.shape == (4, 9, 32)
    torch.testing.assert_close(found[3], last[0], atol=1e-5, rtol=1e-5)


def test_until_reads_the_beginning_only():
    model = model_of("llama")
    texts = from_texts(model, TEXTS)
    cut = stream(model, texts, FOLDS, until=6)
    same = stream(model, from_texts(model, [row[:6] for row in TEXTS]), FOLDS)
    for name in FOLDS:
        for one, other in zip(cut[name], same[name], strict=True):
            torch.testing.assert_close(one, other)


def test_no_block_is_larger_than_asked():
    model = model_of("gemma3")
    seen = []

    def largest(kept, block: Block):
        seen.append(block.tensor.shape)
        return column_sums(kept, block)

    stream(model, random_texts(model, 2, 60), {"received": Fold("pattern", largest)}, block=8)
    assert {shape[2] for shape in seen} == {8, 4}
    assert max(shape[3] for shape in seen) == 60
    assert min(shape[3] for shape in seen) == 8


def test_every_architecture_is_covered():
    assert set(ARCHITECTURES) - set(DECODERS) == {"bert", "vit", "t5", "bart"}
    assert not inspect.signature(stream).parameters["block"].default


@pytest.mark.parametrize("option", ["block", "batch_size", "until"])
def test_nothing_to_read_is_refused(option):
    model = model_of("gpt2")
    with pytest.raises(InterpError, match="there is nothing to read"):
        stream(model, from_texts(model, TEXTS), FOLDS, **{option: 0})

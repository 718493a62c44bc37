"""Encoders, images, encoder-decoders: capture and interventions on every kind of attention, against projections by hand."""

import pytest
import torch
from cases import model_of

from interp.engine.activations import activations
from interp.engine.forward import run
from interp.engine.intervention import Add, AttendToFirst, Intervention, Scale, Uniform, Zero
from interp.models.sites import Site
from interp.models.tiny import inputs

KINDS = [("bert", "encoder"), ("vit", "vision"), ("t5", "self"), ("t5", "encoder"), ("t5", "cross"), ("bart", "self"),
         ("bart", "encoder"), ("bart", "cross")]


@pytest.mark.parametrize(("architecture", "attention"), KINDS)
@pytest.mark.parametrize(("what", "value"), [
    ("z", Zero()), ("q", Scale(0.0)), ("k", Add(torch.linspace(-1, 1, 8))), ("v", Scale(-1.0)), ("pattern", Uniform()),
    ("pattern", AttendToFirst()), ("scores", Scale(0.5)),
], ids=str)
def test_changes_what_it_says_and_the_output(architecture, attention, what, value):
    model, given = model_of(architecture), inputs(architecture, n=3)
    positions = 1 if what == "k" else None
    item = Intervention(what, 1, 2, positions, value, attention)
    untouched, result = run(model, given, capture=[item.site]), run(model, given, item, [item.site])
    assert (result.logits - untouched.logits).abs().max() > 1e-5
    before, after = untouched.captured[item.site], result.captured[item.site]
    others = [h for h in range(before.shape[item.site.head_axis]) if h != 2]
    assert after.index_select(item.site.head_axis, torch.tensor(others)).equal(
        before.index_select(item.site.head_axis, torch.tensor(others)))
    if isinstance(value, Uniform) and attention != "self":
        assert after[:, 2].unique().numel() == 1
    if isinstance(value, AttendToFirst):
        assert (after[:, 2, :, 0] == 1).all()
    if isinstance(value, Scale):
        seen, now = (x[:, 2] if what == "scores" else x[:, :, 2] for x in (before, after))
        masked = seen < -1e8 if what == "scores" else torch.zeros_like(seen, dtype=torch.bool)
        torch.testing.assert_close(now[~masked], value.factor * seen[~masked])


@pytest.mark.parametrize("architecture", ["bert", "t5", "bart"])
def test_padding(architecture):
    """A padded encoder input gives what the unpadded one does, interventions included."""
    model, given = model_of(architecture), inputs(architecture, n=2, length=8)
    items = [Intervention("z", 0, 1, None, Scale(2.0), "encoder"), Intervention("pattern", 1, 0, None, Uniform(), "encoder")]
    want = run(model, given, items).logits
    padded = dict(given)
    for name, fill in (("input_ids", 0), ("attention_mask", 0)):
        padded[name] = torch.nn.functional.pad(given[name], (0, 3), value=fill)
    torch.testing.assert_close(run(model, padded, items).logits, want, atol=1e-5, rtol=1e-5)


def test_spans_do_not_apply_to_images():
    model, given = model_of("vit"), inputs("vit", n=2)
    acts = activations(model, given, [Site("z", 0, "vision")])[Site("z", 0, "vision")]
    after = activations(model, given, [Site("z", 0, "vision")],
                        interventions=Intervention("z", 0, 1, (0, -1), Zero(), "vision"))[Site("z", 0, "vision")]
    assert (acts != after).any(dim=3).nonzero().tolist() == [[0, 0, 1], [0, 4, 1], [1, 0, 1], [1, 4, 1]]

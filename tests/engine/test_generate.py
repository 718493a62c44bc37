"""Greedy generation: as transformers does it; with interventions, as running the whole sequence anew for each token."""

import pytest
import torch
from cases import CLEAN, batch_of, model_of

from interp.core.errors import InterpError
from interp.engine.forward import run
from interp.engine.generate import generate
from interp.engine.intervention import (
    Add,
    AttendToFirst,
    Intervention,
    Mean,
    Replace,
    Resample,
    RowEdit,
    Scale,
    Uniform,
    Zero,
)
from interp.models.tiny import tiny

ARCHITECTURES = ("gpt2", "llama", "mistral", "gpt_neox", "gemma2", "gemma3", "bloom", "opt", "gptj", "gpt_oss",
                 "deepseek_v3")
STEPS = 7


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_without_interventions_as_transformers(architecture):
    network = tiny(architecture)
    for ids in CLEAN[:2]:
        prompt = torch.tensor([ids])
        want = network.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=STEPS,
                                eos_token_id=None, pad_token_id=0)
        found = generate(model_of(architecture), {"input_ids": torch.tensor([ids])}, STEPS)
        assert found.rows() == want[:, len(ids):].tolist()


def anew(model, ids: list[int], items_at, new: list[int]) -> torch.Tensor:
    """Logits [step, vocab] of the whole sequence run again for each token, without padding or cache."""
    steps = []
    for step in range(len(new)):
        sequence = {"input_ids": torch.tensor([ids + new[:step]])}
        items = items_at(tuple(range(len(ids) - 1, len(ids) + step)), len(ids))
        steps.append(run(model, sequence, items, may_be_identity=True).logits[0])
    return torch.stack(steps)


VECTOR = torch.linspace(-3, 3, 12)
CASES = {
    "zero": lambda d, end, n: [Intervention("z", 1, 1, None, Zero())],
    "scale v": lambda d, end, n: [Intervention("v", 0, 0, None, Scale(2.5))],
    "add to k": lambda d, end, n: [Intervention("k", 0, 1, (1, end) if end == "end" else (1, *end), Add(VECTOR[:d]))],
    "scale k at the end": lambda d, end, n: [Intervention("k", 1, None, end, Scale(-2.0))],
    "add at the end": lambda d, end, n: [Intervention("z", 0, 2, end, Add(VECTOR[:d]))],
    "replace v at a token": lambda d, end, n: [Intervention("v", 1, 0, 2, Replace(VECTOR[:d]))],
    "uniform at the end": lambda d, end, n: [Intervention("pattern", 1, None, end, Uniform())],
    "first key": lambda d, end, n: [Intervention("pattern", 2, 1, None, AttendToFirst())],
    "row at the end": lambda d, end, n: [Intervention("pattern", 1, 2, end, RowEdit({n - 2: 1.0}, rest="rescale"))],
    "not those keys": lambda d, end, n: [Intervention("pattern", 1, None, None, Zero(), keys=(1, 2))],
    "scores to the end": lambda d, end, n: [Intervention("scores", 1, 1, end, Add(3.0), keys=end)],
    "two": lambda d, end, n: [Intervention("mlp_out", 0, None, end, Scale(2.0)), Intervention("q", 1, 0, None, Scale(3.0))],
}
"""Interventions by head size, what the end is (``"end"``, or spelled out as token indices), and length of the prompt."""


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2", "bloom"])
def test_with_interventions_as_computed_anew(architecture, case):
    """Windows of four tokens (Gemma 2) are outgrown; prompts of two lengths are generated from together."""
    model, make = model_of(architecture), CASES[case]
    d, negative = model.d_head, case == "row at the end"
    items = make(d, "end", 0 if negative else None)
    found = generate(model, batch_of("right"), STEPS, items, logits=True)
    without = generate(model, batch_of("right"), STEPS, logits=True)
    assert (found.logits - without.logits).abs().amax(dim=(1, 2)).min() > 1e-3
    for i, (ids, new) in enumerate(zip(CLEAN, found.rows(), strict=True)):
        want = anew(model, ids, lambda end, n: make(d, end, n), new)
        torch.testing.assert_close(found.logits[i], want, atol=1e-4, rtol=1e-4)
        assert new == want.argmax(dim=1).tolist()
    other = generate(model, batch_of("left"), STEPS, items, batch_size=1, cache=False, logits=True)
    torch.testing.assert_close(found.logits, other.logits, atol=1e-4, rtol=1e-4)


def test_sources_of_the_prompt():
    """A span taken from the corrupted prompt and a mean by token, held through all steps."""
    model, batch = model_of("llama"), batch_of("left")
    items = [Intervention("z", 0, 1, "S", Resample("corrupt")), Intervention("z", 1, None, "end", Mean("corrupt", "token")),
             Intervention("resid_pre", 1, None, "end", Mean("clean"))]
    found = generate(model, batch, STEPS, items)
    again = generate(model, batch_of("right"), STEPS, items, cache=False, batch_size=4)
    assert found.rows() == again.rows()
    assert found.rows() != generate(model, batch, STEPS).rows()


def test_stops():
    model = model_of("gpt2")
    free = generate(model, batch_of(), STEPS).rows()
    stop = free[0][2]
    assert all(free)
    found = generate(model, batch_of(), STEPS, stop=[stop])
    for row, whole in zip(found.rows(), free, strict=True):
        assert row == (whole[:whole.index(stop) + 1] if stop in whole else whole)


@pytest.mark.parametrize(("item", "says"), [
    (Intervention("z", 0, 0, None, Resample()), "tokens yet to come"),
    (Intervention("z", 0, 0, None, Mean()), "tokens yet to come"),
    (Intervention("pattern", 0, 0, "end", Resample()), "tokens yet to come"),
    (Intervention("z", 0, 0, None, Replace(torch.zeros(4, 9, 1, 8))), "a tensor over the whole batch"),
    (Intervention("z", 0, 0, "S", Scale(1.0)), "changes nothing"),
], ids=str)
def test_refuses(item, says):
    with pytest.raises(InterpError, match=says):
        generate(model_of("gpt2"), batch_of(), 2, item)


def test_refuses_what_does_not_fit():
    with pytest.raises(InterpError, match="they need 65 positions and the context has 64"):
        generate(model_of("gpt2"), batch_of(), 57)
    with pytest.raises(InterpError, match="generate 0 tokens"):
        generate(model_of("gpt2"), batch_of(), 0)
    inputs = {"input_ids": torch.tensor([[5, 6, 7]]), "decoder_input_ids": torch.tensor([[0, 9]])}
    with pytest.raises(InterpError, match="not plain token sequences"):
        generate(model_of("bart"), inputs, 2)

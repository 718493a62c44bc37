"""Products of which only the difference from the untouched run is made, in bfloat16."""

import numpy as np
import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

import interp
from interp.engine import Intervention, Resample, sweep
from interp.models.load import load
from interp.models.resume.differences import near, noting, take_differences
from interp.models.tiny import DECODERS, tiny
from interp.tasks.own import from_tokens

WIDE, LONG = 24, 6
EXPERTS = ("mixtral", "deepseek_v3")
"""Another expert, chosen by a hair, is no small error: such sweeps are certified too, but nothing bounds them beforehand."""


def linear(kind):
    torch.manual_seed(0)
    made = nn.Linear(WIDE, 40) if kind == "linear" else Conv1D(40, WIDE)
    nn.init.normal_(made.bias)
    assert take_differences([nn.Sequential(made)]) == 1
    return made


@pytest.mark.parametrize("kind", ["linear", "conv1d"])
@pytest.mark.parametrize("rows", [[0, 1, 2, 0, 1, 2], [2, 0, 1, 2, 0, 1, 2, 0], [1, 1, 0, 2], [2]], ids=str)
@pytest.mark.parametrize("start", [0, 2])
def test_only_the_difference_is_rounded(kind, rows, start):
    """Rows in turn, in turn from the middle with some left over, and out of order; from any position on."""
    module, there = linear(kind), torch.randn(3, LONG, WIDE) * 1000
    with torch.no_grad(), noting() as noted:
        module(there)
    rows = torch.tensor(rows)
    change = torch.randn(len(rows), LONG - start, WIDE)
    change[0, 0] = 0
    x = there[rows, start:] + change
    exact, before = (type(module).forward(module, given).detach() for given in (x, there))
    with torch.no_grad(), near(noted, rows, start):
        found = module(x)
    moved = exact - before[rows, start:]
    assert torch.equal(found[0, 0], before[rows[0], start])      # nothing changed: exactly that
    assert 1e-5 < float((found - exact).abs().max() / moved.abs().max()) < 0.02
    wrong = nn.functional.linear(x.bfloat16(), (module.weight if kind == "linear" else module.weight.T).bfloat16()).detach()
    assert float((wrong.float() + module.bias.detach() - exact).abs().max()) > 20 * float((found - exact).abs().max())
    with torch.no_grad():
        assert torch.equal(module(x), exact)      # outside, and in passes that know no untouched run


def test_one_position_of_each_row():
    module, there = linear("linear"), torch.randn(3, LONG, WIDE)
    with torch.no_grad(), noting() as noted:
        module(there)
    rows, read = torch.tensor([2, 0, 1, 1]), torch.tensor([1, 0, 3, 2])
    x = there[rows, 2 + read][:, None]
    with torch.no_grad(), near(noted, rows, 2, read):
        assert torch.equal(module(x), noted[module][1][rows, 2 + read][:, None])
        assert torch.equal(module(x + 1), module(x + 1))
        assert float((module(x + 1) - type(module).forward(module, x + 1)).abs().max()) < 0.05


def test_what_does_not_stand_in_the_untouched_run_is_computed_as_it_is():
    module, there = linear("linear"), torch.randn(3, LONG, WIDE)
    with torch.no_grad(), noting() as noted:
        module(there)
    x = torch.randn(5, LONG, WIDE)
    with torch.no_grad(), near(noted, torch.tensor([0, 1]), 0):
        assert torch.equal(module(x), type(module).forward(module, x))
    with torch.no_grad(), noting() as twice:
        module(there)
        module(there)
    assert twice[module] is None


@pytest.fixture(scope="module")
def batch():
    generator = torch.Generator().manual_seed(0)
    clean = torch.randint(3, 97, (5, 9), generator=generator)
    corrupt = clean.clone()
    corrupt[:, 2:] = (clean[:, 2:] - 3 + 17) % 94 + 3
    return from_tokens(clean, corrupt, 21, 31)


@pytest.mark.parametrize("architecture", [name for name in DECODERS if name not in EXPERTS])
def test_a_sweep_is_nearer_than_in_bfloat16(architecture, batch):
    model = load(tiny(architecture), verify=False)
    near_model = model.with_differences
    assert near_model.weights is model.weights
    assert near_model.dtype == torch.float32
    places = [(layer, head) for layer in range(model.n_layers) for head in range(model.n_heads)]
    lists = [[Intervention("z", layer, head, positions, Resample("corrupt"))] for layer, head in places
             for positions in (None, 4)]
    exact, close, coarse = (sweep(one, batch, lists) for one in (model, near_model, model.lowered))
    clean = sweep(model, batch, [lists[0], []])[1]
    size = np.abs(exact - clean).max()
    error, rough = (np.abs(found - exact).max() for found in (close, coarse))
    assert size > 1e-3
    assert error < 0.02 * size
    assert error < rough


def test_whole_passes_are_those_of_the_model(batch):
    model = load(tiny("gpt2"), verify=False)
    with torch.no_grad():
        one, two = (each.run(batch.clean.inputs).logits for each in (model, model.with_differences))
    assert torch.equal(one, two)


def test_all_weights_are_rounded_when_the_model_is_made():
    """Not in the first pass, whose memory is measured."""
    network = load(tiny("gpt2"), verify=False).with_differences.backend.network
    made = [module for module in network.modules() if type(module) in (nn.Linear, Conv1D) and "forward" in vars(module)]
    blocks = [module for module in made if hasattr(module.forward, "weight")]
    assert len(blocks) == 12
    assert {module.forward.weight.dtype for module in blocks} == {torch.bfloat16}


def test_there_is_none_where_passes_cannot_be_resumed():
    model = load(tiny("t5"), verify=False)
    assert isinstance(model.resuming, str)
    assert model.with_differences is None
    assert interp.models.model.hash_weights(model.weights) == model.weights_sha256

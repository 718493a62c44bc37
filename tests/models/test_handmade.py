"""Hand-made models as ``interp.load`` gives them: by name, from memory and from a folder, and writing step by step."""

import pytest
import torch

import interp
from interp.core.errors import InterpError
from interp.engine.forward import run
from interp.engine.generate import generate
from interp.engine.intervention import Intervention, Resample, Zero
from interp.models.handmade import HANDMADE
from interp.models.plain import PlainForCausalLM
from interp.tasks import from_tokens


@pytest.mark.parametrize("name", list(HANDMADE))
def test_loads_by_name_with_every_check_passed(name):
    made, model = HANDMADE[name](), interp.load(name)
    assert model.name == name
    assert (model.n_layers, model.n_heads) == (len(made.model.model.layers), made.model.config.num_attention_heads)
    assert model.vocab_size == len(made.vocabulary)
    assert not model.verification.refused
    assert not model.verification.inexact_padding
    assert max(model.verification.errors.values()) < 1e-5
    assert model.weights_sha256 == interp.load(made.model).weights_sha256
    ids = torch.tensor([made.pairs(1)[0].clean])
    torch.testing.assert_close(model.run({"input_ids": ids}).logits, made.model(ids).logits, atol=1e-5, rtol=0)


def test_loads_from_a_folder(tmp_path):
    made = HANDMADE["handmade-xor"]()
    made.model.save_pretrained(tmp_path)
    made.tokenizer.save_pretrained(tmp_path)
    model = interp.load(tmp_path)
    assert isinstance(model.weights, PlainForCausalLM)
    assert model.weights_sha256 == interp.load("handmade-xor").weights_sha256
    assert model.tokenizer("1 0 x ?")["input_ids"] == [0, 2, 1, 9, 3]


def test_a_misspelt_name_is_answered_with_the_nearest():
    with pytest.raises(InterpError, match="did you mean 'handmade-induction'"):
        HANDMADE["handmade-inducton"]


@pytest.mark.parametrize("cache", [True, False])
def test_generation_follows_the_circuit(cache):
    """Untouched it writes the asked value string; without the copy head, or asked for the other key, it does not."""
    made = HANDMADE["handmade-retrieval"]()
    model, pairs = interp.load(made.model), made.pairs(8, corruption="keys")
    batch = from_tokens([p.clean for p in pairs], [p.corrupt for p in pairs], [p.answer for p in pairs],
                        [p.wrong for p in pairs], model=model)
    strings = [list(p.clean[p.positions["needle"] : p.positions["needle"] + 2]) for p in pairs]
    assert generate(model, batch, 2, cache=cache).rows() == strings
    silenced = generate(model, batch, 2, Intervention.at(made.heads["copy"], "z", Zero()), cache=cache).rows()
    assert all(row != string for row, string in zip(silenced, strings, strict=True))
    other = generate(model, batch, 2, on="corrupt", cache=cache).rows()
    assert all(row != string for row, string in zip(other, strings, strict=True))


def test_patching_the_pointer_moves_the_copied_string():
    made = HANDMADE["handmade-retrieval"]()
    model, pairs = interp.load(made.model), made.pairs(8, corruption="keys")
    batch = from_tokens([p.clean for p in pairs], [p.corrupt for p in pairs], [p.answer for p in pairs],
                        [p.wrong for p in pairs], model=model)
    pointer = Intervention.at(made.heads["match"], "z", Resample("corrupt"), "end")
    logits = run(model, batch, pointer).logits
    assert logits.argmax(-1).tolist() == [pair.wrong for pair in pairs]


def test_making_a_model_leaves_the_random_state_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    for name in HANDMADE:
        HANDMADE[name]()
    torch.testing.assert_close(torch.rand(2), expected, atol=0, rtol=0)

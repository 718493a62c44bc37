"""A model taken apart and put together again, by way of bytes as on its way to another process: the same bit for bit."""

import pickle

import pytest
import torch

import interp
from interp.core.errors import InterpError
from interp.models.tiny import inputs, tiny
from interp.models.travel import pack, unpack


def elsewhere(model):
    """The model after the way through bytes; the arrays travel beside them, as Ray sends them."""
    beside = []
    content = pickle.dumps(pack(model), protocol=5, buffer_callback=beside.append)
    apart = [bytes(buffer.raw()) for buffer in beside]
    assert len(content) < 400_000
    return unpack(pickle.loads(content, buffers=apart), "cpu")


def same(one, other, given):
    with torch.no_grad():
        assert torch.equal(one.run(given).logits, other.run(given).logits)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2", "falcon_alibi", "gpt_oss"])
def test_a_model_in_memory_travels_by_its_weights(architecture):
    model = interp.load(tiny(architecture))
    made = elsewhere(model)
    assert (made.name, made.dtype, made.verification) == (model.name, model.dtype, model.verification)
    assert made.sites() == model.sites()
    assert made.weights_sha256 == model.weights_sha256
    same(model, made, inputs(architecture))


def test_tied_weights_stay_tied_and_other_dtypes_stay():
    made = elsewhere(interp.load(tiny("gpt2").to(torch.bfloat16)))
    assert made.dtype == torch.bfloat16
    network = made.weights
    assert network.get_input_embeddings().weight is network.get_output_embeddings().weight


def test_a_model_with_a_name_is_loaded_again():
    model = interp.load("handmade-induction")
    parcel = pack(model)
    assert parcel.skeleton is None
    assert not parcel.weights
    made = elsewhere(model)
    assert made.provenance_dict() == model.provenance_dict()
    given = {"input_ids": torch.arange(3, 9)[None], "attention_mask": torch.ones(1, 6, dtype=torch.int64)}
    same(model, made, given)


def test_weights_edited_since_they_were_loaded_are_noticed():
    model = interp.load("handmade-induction")
    with torch.no_grad():
        next(model.weights.parameters()).view(-1)[0] += 1
    with pytest.raises(InterpError, match="its weights differ"):
        elsewhere(model)

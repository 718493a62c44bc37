"""Checkpoints: weights come back within half a step, a revision is what it says, and heads are seen to emerge."""

import pytest
import torch
from safetensors.torch import save_file

import interp
from interp.core.errors import InterpError
from interp.models.builtin import shipped
from interp.models.checkpoints import checkpoints, pack, unpack
from interp.models.tiny import tiny


def test_weights_come_back_within_half_a_step(tmp_path):
    weights = tiny("llama").state_dict()
    save_file(pack(weights), tmp_path / "step_7.safetensors")
    back = unpack(tmp_path / "step_7.safetensors")
    assert back.keys() == weights.keys()
    for name, weight in weights.items():
        step = weight.abs().amax(-1, keepdim=True) / 127 if weight.dim() > 1 else torch.zeros(1)
        assert ((back[name] - weight).abs() <= step / 2 + 1e-6).all(), name


def test_a_row_of_zeros_stays_zero(tmp_path):
    save_file(pack({"w": torch.zeros(2, 3)}), tmp_path / "step_0.safetensors")
    assert torch.equal(unpack(tmp_path / "step_0.safetensors")["w"], torch.zeros(2, 3))


def test_a_revision_is_the_checkpoint_of_that_name(tmp_path):
    early, late = tiny("llama", seed=1), tiny("llama", seed=2)
    late.save_pretrained(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    for step in (1000, 20, 300):
        save_file(pack(early.state_dict()), tmp_path / "checkpoints" / f"step_{step:06d}.safetensors")
    assert list(checkpoints(tmp_path)) == ["step-20", "step-300", "step-1000"]
    ids = {"input_ids": torch.arange(3, 9)[None], "attention_mask": torch.ones(1, 6, dtype=torch.long)}
    model = interp.load(tmp_path, revision="step-300")
    assert model.revision == "step-300"
    at, then, now = model.run(ids).logits, interp.load(early).run(ids).logits, interp.load(late).run(ids).logits
    assert (at - then).abs().max() < 0.1 * (now - then).abs().max()


def test_a_revision_that_is_not_there_is_refused(tmp_path):
    tiny("llama").save_pretrained(tmp_path)
    with pytest.raises(InterpError, match="holds no checkpoints"):
        interp.load(tmp_path, revision="step-3")
    with pytest.raises(InterpError, match="no such checkpoint; did you mean 'step-0'"):
        interp.load("organism", revision="step0")


def test_the_organism_grows_induction_between_its_checkpoints():
    """Accuracy on repeated random tokens is that of guessing at first, and near perfect a hundred steps after."""
    names = list(checkpoints(shipped()["organism"]))
    assert len(names) >= 11
    right = {}
    for name in (names[0], "step-150", "step-250"):
        model = interp.load("organism", revision=name, verify=False)
        batch = interp.tasks.induction.batch(model, n=32, seed=0)
        right[name] = float(interp.engine.baselines(model, batch).correct.mean())
    assert right["step-0"] < 0.05
    assert right["step-150"] < 0.5 < 0.85 < right["step-250"]

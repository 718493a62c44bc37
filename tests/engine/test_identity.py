"""What did not act is an error: the no-ops that would otherwise pass as results."""

from types import SimpleNamespace

import pytest
import torch
from cases import batch_of, equal_length_batch, model_of

from interp.core.errors import InterpError
from interp.engine.forward import metric_values, run
from interp.engine.intervention import (
    Add,
    AttendToFirst,
    Intervention,
    Replace,
    Resample,
    RowEdit,
    Scale,
    Zero,
)
from interp.engine.sweep import sweep, sweep_record


@pytest.fixture(scope="module")
def model():
    return model_of("gpt2")


@pytest.mark.parametrize("what", ["z", "q", "k", "v", "scores", "pattern", "resid_pre", "attn_out"])
@pytest.mark.parametrize("batch_size", [None, 3])
def test_patching_a_run_with_itself(model, what, batch_size):
    batch = batch_of("left")
    heads = None if what in ("resid_pre", "attn_out") else 1
    item = Intervention(what, 1, heads, None, Resample("clean"))
    with pytest.raises(InterpError, match="changes nothing in any of the 4 prompts"):
        run(model, batch, item, batch_size=batch_size)
    result = run(model, batch, item, may_be_identity=True, batch_size=batch_size)
    assert not result.acted.any()
    torch.testing.assert_close(result.logits, run(model, batch).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("item", [
    Intervention("z", 1, 1, None, Scale(1.0)),
    Intervention("z", 1, 1, None, Add(0.0)),
    Intervention("pattern", 1, 1, 0, AttendToFirst()),
    Intervention("pattern", 1, 1, 0, RowEdit({0: 1.0})),
    Intervention("k", 1, 1, 0, Resample("corrupt")),
], ids=str)
def test_identities_by_construction(model, item):
    """Factor one, adding nothing, a first token that can only see itself, tokens before clean and corrupted differ."""
    with pytest.raises(InterpError, match="changes nothing"):
        run(model, batch_of(), item)


def test_second_of_two_equal_interventions(model):
    zero = Intervention("z", 1, 1, None, Zero())
    with pytest.raises(InterpError, match=r"zero z of L1H1 .* changes nothing"):
        run(model, batch_of(), [zero, zero])


def test_tiny_but_real_changes_count(model):
    assert run(model, batch_of(), Intervention("z", 1, 1, None, Scale(1.0001))).acted.all()


def test_acted_is_per_prompt(model):
    batch = batch_of()
    same = batch.clean.ids.clone()
    z = run(model, batch, capture=[(site := Intervention("z", 1, 1, None, Zero()).site)]).captured[site]
    z[2] += 1
    assert same.equal(batch.clean.ids)
    result = run(model, batch, Intervention("z", 1, 1, None, Replace(z)))
    assert result.acted.tolist() == [[False, False, True, False]]


def test_sweep_counts_what_did_not_act(model):
    batch = equal_length_batch()
    items = [Intervention("z", 0, 0, (p,), Resample("corrupt")) for p in range(batch.clean.ids.shape[1])]
    record = sweep_record(model, batch, items)
    assert record.acted.all(axis=1).tolist() == [False, False, True, True, True, True, True, True]
    untouched = metric_values(model, batch)
    assert abs(record.values[:2] - untouched).max() < 1e-5


def test_sweep_in_which_nothing_acts(model):
    with pytest.raises(InterpError, match="none of them changes anything"):
        sweep(model, equal_length_batch(), [Intervention("z", layer, 0, 0, Resample("corrupt")) for layer in range(3)])


def test_a_site_that_the_pass_does_not_reach():
    model = model_of("t5")
    inputs = {"input_ids": torch.tensor([[5, 6, 7]]), "decoder_input_ids": torch.tensor([[0, 9]])}
    backend_run = model.backend.run

    class Deaf:
        """A backend that drops edits."""

        def __getattr__(self, name):
            return getattr(model.backend, name)

    facts = {"stacks": model.stacks, "device": model.device, "vocab_size": model.vocab_size, "backend": Deaf()}
    deaf = SimpleNamespace(**facts, run=lambda inputs, edits=None, capture=(), **options: backend_run(inputs))
    with pytest.raises(InterpError, match="the pass never reached cross z of layer 0"):
        run(deaf, inputs, Intervention("z", 0, 1, None, Zero(), "cross"))

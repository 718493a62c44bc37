"""A circuit as a mask: what is outside is replaced, what is inside is computed anew in the changed run."""

import numpy as np
import pytest
import torch
from cases import batch_of, equal_length_batch, model_of

from interp.core.circuit import Circuit, Node
from interp.core.errors import InterpError
from interp.engine.circuit_mask import circuit_mask
from interp.engine.forward import metric_values
from interp.engine.intervention import Intervention, Resample, Zero
from interp.engine.sweep import sweep


@pytest.fixture(scope="module")
def model():
    return model_of("llama")


def circuit_of(*nodes, **facts):
    return Circuit(tuple(Node.parse(node) for node in nodes), **facts)


def test_every_head_outside_and_no_other(model):
    mask = circuit_mask(circuit_of("L0H1", "L2H0", "L2H3"), model, Zero())
    assert [(item.what, item.layer, item.heads, item.positions) for item in mask] == [
        ("z", 0, (0, 2, 3), None), ("z", 1, (0, 1, 2, 3), None), ("z", 2, (1, 2), None)]


def test_with_nothing_inside_and_mlps_outside_only_the_embedding_is_left(model):
    """All heads and MLPs at zero: the logits are those of the embedding alone."""
    batch = batch_of()
    mask = circuit_mask(circuit_of(), model, Zero(), mlps=True)
    network = model.weights
    with torch.no_grad():
        embedded = network.get_input_embeddings()(batch.clean.ids)
        logits = network.lm_head(network.model.norm(embedded))[range(4), batch.answer_position]
    np.testing.assert_allclose(sweep(model, batch, [mask])[0], batch.metric(logits, batch).numpy(), atol=1e-5)


def test_what_is_inside_is_computed_anew(model):
    """Everything but the last layer resampled: the last layer works on the corrupted stream, so that the run is the
    corrupted one but for the embedding and the MLPs. Against the interventions written out."""
    batch = batch_of()
    inside = [f"L2H{head}" for head in range(4)]
    mask = circuit_mask(circuit_of(*inside, "mlp2"), model, Resample("corrupt"), mlps=True)
    by_hand = [Intervention(what, layer, None, None, Resample("corrupt")) for layer in (0, 1) for what in ("z", "mlp_out")]
    np.testing.assert_allclose(sweep(model, batch, [mask])[0], metric_values(model, batch, by_hand), atol=1e-5)


def test_positions_that_are_the_same_in_all_prompts(model):
    batch = equal_length_batch()
    mask = circuit_mask(circuit_of("L1H2@S", "L1H2@end", "L1H3"), model, Zero(), batch)
    assert [(item.heads, item.positions) for item in mask if item.layer == 1] == [((0, 1), None), ((2,), (0, 1, 3, 4, 5, 6))]


def test_positions_that_are_named(model):
    from dataclasses import replace

    batch = batch_of()
    start = batch.spans["phrase"].clone()
    rest = {"before": torch.stack([torch.zeros(4, dtype=torch.int64), start[:, 0]], 1),
            "after": torch.stack([start[:, 1], batch.clean.lengths], 1)}
    named = replace(batch, spans={**batch.spans, **rest}, corrupt_spans={**batch.corrupt_spans, **rest})
    mask = circuit_mask(circuit_of("L0H0@phrase"), model, Zero(), named)
    assert [(item.heads, set(item.positions or ())) for item in mask if item.layer == 0] == [
        ((0,), {"S", "before", "after", "end"} & set(mask[0].positions or ())), ((1, 2, 3), set())]
    with pytest.raises(InterpError, match="neither named nor the same in all prompts"):
        circuit_mask(circuit_of("L0H0@phrase"), model, Zero(), batch)


def test_refusals(model):
    with pytest.raises(InterpError, match=r"L3H0 of the circuit late.*3 layers of 4 heads"):
        circuit_mask(circuit_of("L3H0", name="late"), model, Zero())
    with pytest.raises(InterpError, match="it holds every head"):
        circuit_mask(circuit_of(*(f"L{layer}H{head}" for layer in range(3) for head in range(4))), model, Zero())
    with pytest.raises(InterpError, match="it names the positions end; give the batch"):
        circuit_mask(circuit_of("L0H0@end"), model, Zero())

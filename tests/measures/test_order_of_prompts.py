"""The order of the prompts in a batch changes the order of the scores and nothing else."""

import numpy as np
import pytest
from random_batches import model_of, random_batch

import interp


@pytest.mark.parametrize(("name", "options"), [
    ("attention_saliency", {}), ("attention_saliency", {"saliency_by": "occlusion"}), ("attention_rollout", {"keys": "A"}),
    ("attention_flow", {"keys": "A"}), ("value_weighted_attention", {}), ("copying_score", {}),
    ("low_rank", {"ranks": (0, 2)})])
def test_order(name, options):
    model, batch, order = model_of("llama", num_hidden_layers=2), random_batch(n=3, lengths=(6, 8)), [2, 0, 1]
    one, two = (getattr(interp.measures, name)(model, b, **options).values for b in (batch, batch.subset(order)))
    np.testing.assert_allclose(two, one[:, :, order], atol=1e-5)
    assert np.abs(one[:, :, order] - one).max() > 1e-4

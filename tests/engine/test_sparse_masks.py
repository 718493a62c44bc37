"""Masks run receiver by receiver give what they give all at once, whatever their density, values and ablation."""

import numpy as np
import pytest
import torch
from cases import equal_length_batch, model_of

from interp.engine.edge_circuits import masked_metric, run_masks
from interp.engine.edge_runs import graph_of
from interp.engine.stand_ins import ground_of


def masks_of(n: int) -> np.ndarray:
    """Sparse, dense, halves, values between; a mask with all but one edge, and one with one edge alone."""
    random = np.random.default_rng(0)
    masks = [random.random(n) < share for share in (0.03, 0.5, 0.97)] + [random.random(n), np.ones(n), np.zeros(n)]
    masks = np.array(masks, dtype=np.float32)
    masks[4, n // 2], masks[5, n // 3] = 0, 1
    return masks


@pytest.mark.parametrize(("architecture", "ablation"), [
    ("llama", "resample"), ("llama", "zero"), ("gpt2", "mean"), ("gpt_neox", "resample"), ("opt", "mean_position")])
def test_receiver_by_receiver_is_all_at_once(architecture, ablation):
    model, batch = model_of(architecture), equal_length_batch(n=3)
    graph = graph_of(model)
    masks = masks_of(len(graph.edges))
    found = run_masks(model, batch, masks, ablation=ablation)
    learnt = torch.from_numpy(masks).requires_grad_()      # with gradients all receivers are computed at once
    with torch.enable_grad():
        whole = masked_metric(graph, ground_of(graph, batch, ablation), batch, batch.metric, learnt)
    np.testing.assert_allclose(found, whole.detach().numpy(), atol=1e-4)
    assert np.ptp(found, axis=0).min() > 1e-2

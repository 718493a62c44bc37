"""Half precision: every value works, keeps the network's type, and is close to float32."""

import numpy as np
import pytest
import torch
from cases import batch_of, model_of

import interp
from interp.engine.activations import activations
from interp.engine.forward import metric_values
from interp.engine.gradients import gradients
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
from interp.engine.sweep import sweep
from interp.models.sites import Site
from interp.models.tiny import tiny

ITEMS = [Intervention("z", 1, 1, None, value) for value in (
    Zero(), Mean("corrupt"), Mean("clean", "token"), Resample("corrupt"), Scale(2.0), Add(torch.linspace(-1, 1, 8)),
    Replace(0.5))]
ITEMS += [Intervention("pattern", 1, 1, "end", value) for value in (
    Uniform(), AttendToFirst(), RowEdit({"S": 1.0}), Mean("corrupt"), Resample("corrupt"))]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_half_precision(architecture, dtype):
    exact, model, batch = model_of(architecture), interp.load(tiny(architecture), dtype=dtype), batch_of("left")
    want, found = sweep(exact, batch, ITEMS), sweep(model, batch, ITEMS)
    assert np.isfinite(found).all()
    assert np.abs(found - want).max() < {"bfloat16": 0.15, "float16": 0.02}[dtype]
    assert np.corrcoef(found.ravel(), want.ravel())[0, 1] > 0.995
    sites = [Site("z", 1), Site("pattern", 1)]
    tensors = activations(model, batch, sites, interventions=ITEMS[7])
    assert tensors[sites[0]].dtype == model.dtype
    rows = tensors[sites[1]][:, 1, -1]
    torch.testing.assert_close(rows.sum(dim=1).float(), torch.ones(4), atol=0.01, rtol=0)
    slopes = gradients(model, batch, sites)
    assert torch.isfinite(slopes.gradients[sites[0]]).all()
    np.testing.assert_allclose(slopes.metric, metric_values(model, batch), atol=1e-6)

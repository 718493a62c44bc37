"""Untouched runs compute no more of the vocabulary than is read, and give the same metrics."""

import threading

import numpy as np
import pytest
import torch
from cases import batch_of, model_of

from interp.engine.forward import metric_values
from interp.engine.intervention import Intervention, Resample
from interp.engine.passes import open_passes
from interp.engine.untouched import untouched_values
from interp.tasks.answers import Answers


@pytest.mark.parametrize("name", ["gpt2", "gemma2"])
def test_few_columns_give_the_same(name):
    model, batch = model_of(name), batch_of()
    for on in ("clean", "corrupt"):
        np.testing.assert_allclose(untouched_values(model, batch, on, batch.metric, 3),
                                   metric_values(model, batch, (), on=on), atol=1e-5)
    columns = Answers.of(batch).columns
    with model.resuming.reading(columns):
        few = model.run(batch.clean.inputs).logits
    every = model.run(batch.clean.inputs).logits
    assert few.shape[-1] == len(columns) < every.shape[-1]
    torch.testing.assert_close(few, every[..., columns], atol=1e-5, rtol=1e-5)


def test_another_thread_has_all_columns_meanwhile():
    model, batch = model_of("gpt2"), batch_of()
    whole, found = model.run(batch.clean.inputs).logits, {}

    def look():
        found["logits"] = model.run(batch.clean.inputs).logits

    with model.resuming.reading(torch.tensor([3, 5])):
        beside = threading.Thread(target=look)
        beside.start()
        beside.join()
        assert model.run(batch.clean.inputs).logits.shape[-1] == 2
    assert torch.equal(found["logits"], whole)
    assert torch.equal(model.run(batch.clean.inputs).logits, whole)


def test_a_sweep_lays_its_ground_on_them():
    model, batch = model_of("gpt2"), batch_of()
    passes = open_passes(model, batch, [Intervention("z", 1, 0, None, Resample("corrupt"))])
    part = passes.resumed.parts[-1]
    columns = Answers.of(batch.subset(part.rows)).columns
    assert passes.resumed.ground[len(passes.resumed.parts) - 1].logits.shape == (len(part.rows), len(columns))

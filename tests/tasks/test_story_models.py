"""The story models solve the two tasks made for them (plain transformers, no code of ours but the prompts)."""

import pytest
import torch
from transformers import AutoModelForCausalLM
from vocabularies import real

import interp.tasks
from interp.tasks.metrics import METRICS

# lowest accuracy over the whole vocabulary on clean prompts, and lowest mean logit difference
LEAST = {("stories260K", "name_copying"): (0.97, 4.0), ("stories260K", "pronoun"): (0.97, 2.0),
         ("babyllama361", "name_copying"): (0.95, 3.0), ("babyllama361", "pronoun"): (0.9, 1.0)}


@pytest.mark.weights
@pytest.mark.parametrize(("name", "task"), LEAST)
def test_they_solve_it(name, task, weights):
    model = AutoModelForCausalLM.from_pretrained(weights / name)
    batch = interp.tasks.get(task).batch(real(name, weights), 100)
    with torch.no_grad():
        clean, corrupt = (model(**tokens.inputs).logits[torch.arange(batch.n), tokens.last]
                          for tokens in (batch.clean, batch.corrupt))
    accuracy, difference = LEAST[name, task]
    assert METRICS["accuracy"](clean, batch).mean() >= accuracy
    assert batch.metric(clean, batch).mean() >= difference
    assert batch.metric(corrupt, batch).mean() <= -difference

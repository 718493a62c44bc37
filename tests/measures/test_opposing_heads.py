"""Opposing heads on the organism's own knowledge conflicts: three types of prompts about the same facts."""

import numpy as np
import pytest

import interp
from interp.measures.opposing_heads import sign_flips
from interp.tasks.knowledge_conflict import KINDS


@pytest.fixture(scope="module")
def model():
    return interp.load("organism", verify=False)


@pytest.fixture(scope="module")
def conflicts(model):
    task = interp.tasks.knowledge_conflict
    return {kind: task.batch(model, 12, seed=1, kind=kind, frames=("is", "now")) for kind in KINDS}


def test_the_three_types_ask_the_same_facts(conflicts):
    first, *others = conflicts.values()
    for other in others:
        assert [pair.answer for pair in other.prompts] == [pair.answer for pair in first.prompts]
        assert [pair.wrong for pair in other.prompts] == [pair.wrong for pair in first.prompts]
    stated = {kind: [pair.wrong[0] in pair.clean.text for pair in batch.prompts] for kind, batch in conflicts.items()}
    assert all(stated["substitution"])
    assert all(stated["coherent"])
    assert not any(stated["clean"])


def test_some_heads_are_for_memory_and_some_for_the_context(model, conflicts):
    """Pruned one at a time. Which heads, and how many change sides, is left to the model at hand."""
    found = {kind: interp.measures.opposing_heads(model, conflicts[kind], alphas=(-1.0,), value="log-probability",
                                                  progress=False) for kind in ("clean", "substitution")}
    low, high = found["substitution"].at(answer="memory - context").interval()
    assert (low > 0).any()
    assert (high < 0).any()
    frame = sign_flips(found)
    assert len(frame) == model.n_layers * model.n_heads
    assert set(frame.verdict) <= {"memory", "context", "flips", "unknown"}
    assert (np.diff(frame.total) <= 0).all()

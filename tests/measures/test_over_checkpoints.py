"""A measure over the organism's training."""

import numpy as np
import pytest

import interp
from interp.core.errors import InterpError
from interp.measures.over_checkpoints import over_checkpoints
from interp.models.builtin import shipped
from interp.models.checkpoints import checkpoints


def test_heads_grow_into_their_roles():
    steps = [int(name.removeprefix("step-")) for name in checkpoints(shipped()["organism"])]
    chosen = [steps[0], steps[len(steps) // 2], steps[-1]]
    batch = interp.tasks.induction.batch(interp.load("organism"), n=8, seed=0)
    found = over_checkpoints("organism", "direct_logit_attribution", batch, steps=chosen)
    assert found.steps == tuple(chosen)
    assert [scores.provenance.model["revision"] for scores in found.scores] == [f"step-{step}" for step in chosen]
    strength = np.abs(found.mean()).sum((1, 2))
    assert strength[-1] > 5 * strength[0]
    assert found.onset().onset.max() > chosen[0]


def test_what_is_not_there_is_refused():
    batch = interp.tasks.induction.batch(interp.load("organism"), n=4, seed=0)
    with pytest.raises(InterpError, match="no such checkpoint"):
        over_checkpoints("organism", "direct_logit_attribution", batch, steps=[7])
    with pytest.raises(InterpError, match="no checkpoints of it are known"):
        over_checkpoints("gpt2", "direct_logit_attribution", batch)
    with pytest.raises(InterpError, match="has no number"):
        over_checkpoints("gpt2", "direct_logit_attribution", batch, revisions=["main"])

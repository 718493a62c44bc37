"""A measure over a training run: hand-made growth, whose onsets are known, and the organism's thirteen checkpoints."""

import numpy as np
import pytest
import torch
from random_batches import random_batch, shallow

import interp
from interp.core.errors import InterpError
from interp.engine.forward import metric_values
from interp.measures.over_checkpoints import over_checkpoints, over_models
from interp.models.builtin import shipped
from interp.models.checkpoints import checkpoints
from interp.models.load import load

GROWTH = {0: (0.0, 0.0), 100: (0.0, 1.0), 300: (1.0, 1.0), 900: (1.0, 1.0)}
"""Step -> how much of what they write in the end head 0 and head 1 of layer 0 write."""


def grown(shares):
    network = shallow("gpt2")
    with torch.no_grad():
        out = network.transformer.h[0].attn.c_proj.weight
        for head, share in enumerate(shares):
            out[8 * head : 8 * head + 8] *= share
    return load(network, verify=False)


def test_each_head_has_its_role_from_the_step_at_which_it_was_given():
    """Loaded models, functions that load them, in any order; every other head writes the same at all steps."""
    models = {step: grown(shares) if step else lambda: grown(GROWTH[0]) for step, shares in reversed(GROWTH.items())}
    found = over_models(models, interp.measures.logit_lens, random_batch(n=4), value="log-probability", norm="own")
    assert found.steps == tuple(GROWTH)
    zero, one = found.mean()[:, 0, 0], found.mean()[:, 0, 1]
    assert zero[0] == zero[1]
    assert zero[2] == zero[3] != zero[1]
    assert one[1] == one[2] == one[3] != one[0]


def test_onsets():
    """The mean weight of what a head writes, as a measure of one's own: any function from model and batch to scores."""
    def size(model, batch):
        scores = interp.measures.kq_pattern(model, batch)
        norms = np.stack([model.W_O(layer).norm(dim=(1, 2)).double().numpy() for layer in range(model.n_layers)])
        return type(scores)(norms[:, :, None].repeat(batch.n, 2), scores.provenance)

    onset = over_models({step: grown(shares) for step, shares in GROWTH.items()}, size, random_batch(n=4)).onset()
    steps = onset.set_index("head").onset
    assert (steps["L0H0"], steps["L0H1"]) == (300, 100)
    assert (steps.drop(["L0H0", "L0H1"]) == 0).all()


@pytest.fixture(scope="module")
def every():
    """The organism at each of its checkpoints, by step."""
    names = list(checkpoints(shipped()["organism"]))
    assert len(names) == 13
    return {int(name.removeprefix("step-")): load("organism", revision=name, verify=False) for name in names}


@pytest.fixture(scope="module")
def ends(every):
    """The first and the last of them."""
    return {step: every[step] for step in (min(every), max(every))}


def test_the_organism_grows_into_its_roles(ends):
    first, last = ends
    batch = interp.tasks.induction.batch(ends[last], n=4, seed=0)
    found = over_models(ends, "direct_logit_attribution", batch)
    assert [scores.provenance.model["revision"] for scores in found.scores] == [f"step-{step}" for step in ends]
    strength = np.abs(found.mean()).sum((1, 2))
    assert strength[1] > 5 * strength[0]
    assert set(found.onset().onset.dropna()) <= {first, last}
    named = over_checkpoints("organism", "direct_logit_attribution", batch, steps=[first, last])
    np.testing.assert_array_equal(named.mean(), found.mean())


def test_when_the_organisms_heads_acquire_their_roles(every):
    """First a head that looks at the token before, then, in a later layer, induction heads that need what it writes; from
    their onset on the model continues a repetition, and not before. No step is written here."""
    steps = np.array(sorted(every))
    batch = interp.tasks.induction.batch(every[steps[-1]], n=10, seed=1, corruption="no_repeat", length=12)
    found = {target: over_models(every, "attends_to", batch, target=target) for target in ("previous token", "induction")}
    assert all(one.steps == tuple(steps) for one in found.values())
    onset = {target: one.onset(0.4, n_boot=200).dropna(subset="onset") for target, one in found.items()}
    assert all(len(one) for one in onset.values())
    for target, rows in onset.items():
        for row in rows.itertuples():
            course = found[target].mean()[:, row.layer, row.index]
            assert (course[steps >= row.onset] >= 0.4).all()
            assert (course[steps == row.before] < 0.4).all()
            assert row.low <= row.onset <= row.high
    before, after = onset["previous token"], onset["induction"]
    assert (after.onset > steps[0]).all()
    assert before.onset.min() < after.onset.min()
    assert before.layer.min() < after.layer.min()
    right = np.array([(metric_values(every[step], batch) > 0).mean() for step in steps])
    assert right[steps == before.onset.min()] < 0.75        # chance is a half: the head before is not enough
    assert right[steps >= after.high.max()].min() > 0.95


def test_the_organisms_heads_scan_for_what_tells_the_answer_apart(ends):
    """At the first step attention is nearly even; at the last some head lies more on distinct tokens than even attention
    would, and the head that is surest has a narrow pattern."""
    batch = interp.tasks.capital.batch(ends[max(ends)], n=16, seed=0, frames=("is", "now"))
    lift = over_models(ends, "scan_and_snap", batch, value="lift").mean()
    assert np.abs(lift[0]).max() < lift[1].max()
    entropy = over_models(ends, "scan_and_snap", batch, value="entropy").mean()
    assert entropy[1].min() < entropy[0].min()


def test_what_is_not_there_is_refused():
    batch = random_batch(n=2)
    with pytest.raises(InterpError, match="no such checkpoint"):
        over_checkpoints("organism", "direct_logit_attribution", batch, steps=[7])
    with pytest.raises(InterpError, match="no checkpoints of it are known"):
        over_checkpoints("gpt2", "direct_logit_attribution", batch)
    with pytest.raises(InterpError, match="has no number"):
        over_checkpoints("gpt2", "direct_logit_attribution", batch, revisions=["main"])
    with pytest.raises(InterpError, match="at least two steps"):
        over_models({0: grown((1, 1))}, "kq_pattern", batch)

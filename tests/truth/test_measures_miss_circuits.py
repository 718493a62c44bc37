"""Known blind spots: what each way of scoring a head cannot see, shown on circuits where the truth is certain."""

from dataclasses import replace

import numpy as np
import pytest
from hand_made_batches import batch_of, built, loaded

from interp.core.compare import auroc
from interp.core.errors import InterpError
from interp.engine.forward import metric_values
from interp.engine.intervention import Intervention, Mean, Resample, Zero
from interp.engine.sweep import sweep
from interp.measures import (
    ablation,
    activation_patching,
    attribution_patching,
    direct_logit_attribution,
    head_importance,
)
from interp.models.handmade import induction

GATES = {       # (a, b): noising, denoising, AtP noising (gradient at clean), AtP denoising (gradient at corrupt)
    "or": ((0, 0), (1, 1), (0, 0), (1, 1)),
    "and": ((1, 1), (0, 0), (1, 1), (0, 0)),
    "xor": ((-1, -1), (1, 1), (-1, -1), (1, 1)),
    "saturated": ((0, 0), (1, 1), (0, 0), (0, 0)),
    "cancel": ((1, -1), (1, -1), (1, -1), (1, -1)),
    "erased": ((0, 1), (0, 1), (0, 1), (0, 1)),
    "redundant": ((0, 0), (1, 1), (0, 0), (1, 1)),
}


def of_ab(scores) -> list[np.ndarray]:
    return [scores.values[0, 0], scores.values[0, 2]]


def z_of(head, value, positions=None) -> Intervention:
    return Intervention.at(head, "z", value, positions)


@pytest.mark.parametrize("kind", GATES)
def test_gates_by_patching_and_by_gradient(kind):
    made = built(f"handmade-{kind}")
    model, batch = loaded(made), batch_of(made, 6)
    columns = [measure(model, batch, direction=direction) for measure in (activation_patching, attribution_patching)
               for direction in ("noising", "denoising")]
    for scores, expected in zip(columns, GATES[kind], strict=True):
        for found, value in zip(of_ab(scores), expected, strict=True):
            np.testing.assert_allclose(found, value, atol=1e-4, err_msg=str(scores.provenance.options))


@pytest.mark.parametrize("kind", GATES)
def test_no_gate_is_missed_by_both_directions(kind):
    noising, denoising, *_ = GATES[kind]
    dead = {"erased": [True, False]}.get(kind, [False, False])
    assert [a == b == 0 for a, b in zip(noising, denoising, strict=True)] == dead


@pytest.mark.parametrize("kind", ["xor", "cancel"])
def test_a_vanishing_normalizer_is_refused(kind):
    """Clean (1, 1) and corrupt (0, 0) have the same output: there is no whole of which a head could do a part."""
    made = built(f"handmade-{kind}")
    scores = activation_patching(loaded(made), batch_of(made, 6))
    assert np.abs(scores.mean()[0, [0, 2]]).min() > 0.9
    with pytest.raises(InterpError):
        scores.normalized()


@pytest.mark.parametrize("kind", ["cancel", "redundant", "or"])
def test_pairs_of_heads_are_what_single_heads_do_not_show(kind):
    made = built(f"handmade-{kind}")
    model, batch = loaded(made), batch_of(made, 6)
    a, b = (z_of(made.heads[role], Resample("corrupt")) for role in "ab")
    base, alone, other, both = metric_values(model, batch), *sweep(model, batch, [[a], [b], [a, b]])
    effects = [float((base - row).mean()) for row in (alone, other, both)]
    expected = {"cancel": (1, -1, 0), "redundant": (0, 0, 1), "or": (0, 0, 1)}[kind]
    np.testing.assert_allclose(effects, expected, atol=1e-4)


def test_a_direct_effect_that_is_erased_downstream():
    """Head a writes 1 onto the answer and the MLP takes it away: direct logit attribution sees it, patching does not."""
    made = built("handmade-erased")
    model, batch = loaded(made), batch_of(made, 6)
    for found, value in zip(of_ab(direct_logit_attribution(model, batch)), (1, 1), strict=True):
        np.testing.assert_allclose(found, value, atol=1e-5)
    for kind in ("zero", "resample"):
        for found, value in zip(of_ab(ablation(model, batch, kind=kind)), (0, 1), strict=True):
            np.testing.assert_allclose(found, value, atol=1e-5)


def test_direct_logit_attribution_sees_the_last_step_only():
    for name, last, earlier in (("handmade-induction", "induction", ["previous token"]),
                                ("handmade-retrieval", "copy", ["match"]),
                                ("handmade-ioi", "name mover", ["duplicate token", "S-inhibition", "backup name mover"])):
        made = built(name)
        scores = direct_logit_attribution(loaded(made), batch_of(made))
        assert auroc(scores, {made.heads[last]}) == 1.0
        for role in earlier:
            head = made.heads[role]
            assert np.abs(scores.values[head.layer, head.head]).max() < 1e-4


def test_the_backup_is_seen_only_once_the_name_mover_is_gone():
    made = built("handmade-ioi")
    model, batch = loaded(made), batch_of(made)
    mover, backup = made.heads["name mover"], made.heads["backup name mover"]
    zero, resampled = ablation(model, batch, kind="zero").mean(), ablation(model, batch, kind="resample").mean()
    assert abs(zero[mover.layer, mover.head]) < 1e-4       # the flag falls and the backup takes over
    assert resampled[mover.layer, mover.head] == pytest.approx(10, abs=1e-3)       # the flag stays and nobody does
    for single in (zero, resampled, ablation(model, batch, kind="mean").mean()):
        assert abs(single[backup.layer, backup.head]) < 1e-4
    no_mover = z_of(mover, Zero())
    alone, both = sweep(model, batch, [[no_mover], [no_mover, z_of(backup, Zero())]])
    np.testing.assert_allclose(alone, metric_values(model, batch), atol=1e-4)
    np.testing.assert_allclose(alone - both, 10, atol=1e-3)


def test_mean_ablation_misses_what_is_always_the_same():
    """The duplicate-token head says at S2 that a name is repeated: in every clean prompt, so its mean says it too."""
    made = built("handmade-ioi")
    model, batch = loaded(made), batch_of(made)
    head = made.heads["duplicate token"]
    for kind in ("zero", "resample"):      # then the mover spreads over IO, S1 and S2: from 10 to 10/3 - 20/3
        assert ablation(model, batch, kind=kind).mean()[head.layer, head.head] == pytest.approx(40 / 3, abs=1e-3)
    by_position = ablation(model, batch, kind="mean", mean_over="position").mean()
    assert abs(by_position[head.layer, head.head]) < 1e-4
    of_corrupt = ablation(model, batch, kind="mean", mean_over="position", reference="corrupt").mean()
    assert of_corrupt[head.layer, head.head] == pytest.approx(40 / 3, abs=1e-3)


def test_the_corruption_decides_which_heads_carry_the_difference():
    """Exchanging S for IO keeps a name repeated: the duplicate-token head is as needed as before, and not seen."""
    made = built("handmade-ioi")
    model, head = loaded(made), made.heads["duplicate token"]
    third, exchange = (activation_patching(model, batch_of(made, corruption=corruption)).mean()[head.layer, head.head]
                       for corruption in ("third", "exchange"))
    assert third == pytest.approx(40 / 3, abs=1e-3)
    assert abs(exchange) < 1e-4


def test_uniform_attention_wakes_a_sleeping_sink_head():
    made = built("handmade-sink")
    model, batch = loaded(made), batch_of(made, corruption="dormant")
    head = made.heads["first-token sink"]
    for kind in ("zero", "mean", "resample"):
        assert np.abs(ablation(model, batch, kind=kind).values[head.layer, head.head]).max() < 1e-4
    uniform = ablation(model, batch, kind="uniform")
    np.testing.assert_allclose(uniform.values[head.layer, head.head], -10 / 9, atol=1e-3)   # one of nine tokens


BETAS = [1, 2, 5, 10, 30, 100]


@pytest.mark.parametrize("beta", BETAS)
def test_patching_finds_the_induction_circuit_at_every_gain_and_gradients_lose_it(beta):
    made = induction(beta=beta)
    model, batch = loaded(made), batch_of(made, 24)
    true, previous = made.true_heads, made.heads["previous token"]
    for scores in (activation_patching(model, batch, direction="noising"),
                   activation_patching(model, batch, direction="denoising"), ablation(model, batch, kind="zero")):
        assert auroc(scores, true) == 1.0
    exact = activation_patching(model, batch).mean()[previous.layer, previous.head]
    estimate = attribution_patching(model, batch)
    share = estimate.mean()[previous.layer, previous.head] / exact
    if beta == 1:
        assert auroc(estimate, true) == 1.0
        assert 0.5 < share < 2
    if beta >= 30:
        assert abs(share) < 1e-6
        assert auroc(replace(estimate, values=np.abs(estimate.values)), true) < 1.0
        assert auroc(head_importance(model, batch), true) < 1.0


@pytest.mark.parametrize("beta", BETAS)
def test_the_softmax_correction_is_exact_where_all_behind_the_pattern_is_linear(beta):
    """The induction head's keys: with the correction the estimate equals patching; without it saturation hides them."""
    made = induction(beta=beta)
    model, batch = loaded(made), batch_of(made, 24)
    head = made.heads["induction"]
    for direction in ("noising", "denoising"):
        exact = activation_patching(model, batch, component="k", direction=direction).values[head.layer, head.head]
        fixed = attribution_patching(model, batch, component="k", direction=direction).values[head.layer, head.head]
        np.testing.assert_allclose(fixed, exact, atol=1e-3)
        if beta >= 30:
            raw = attribution_patching(model, batch, component="k", direction=direction, qk_fix=False)
            assert np.abs(raw.values[head.layer, head.head]).max() < 1e-6 < 10 < exact.mean()


def test_an_induction_pattern_that_writes_nothing_scores_nothing():
    made = built("handmade-induction")
    model, batch = loaded(made), batch_of(made)
    decoy = made.heads["silent induction"]
    for scores in (activation_patching(model, batch), activation_patching(model, batch, component="pattern"),
                   attribution_patching(model, batch), direct_logit_attribution(model, batch),
                   head_importance(model, batch)):
        assert np.abs(scores.values[decoy.layer, decoy.head]).max() == 0


def test_a_patch_that_does_nothing_is_caught():
    made = built("handmade-ioi")
    model, batch = loaded(made), batch_of(made, corruption="exchange")
    duplicate, mover = made.heads["duplicate token"], made.heads["name mover"]
    nothing = [
        z_of(mover, Resample("clean")),                         # the run's own activation
        z_of(duplicate, Resample("corrupt"), "end"),            # a position where both runs are alike
        z_of(duplicate, Mean("clean"), "S2"),                   # the same in every prompt
    ]
    for intervention in nothing:
        with pytest.raises(InterpError, match="changes nothing"):
            metric_values(model, batch, intervention)
        untouched = metric_values(model, batch, intervention, may_be_identity=True)
        np.testing.assert_array_equal(untouched, metric_values(model, batch))
    with pytest.raises(InterpError, match="none of them changes anything"):
        sweep(model, batch, nothing)
    assert np.abs(metric_values(model, batch) - metric_values(model, batch, z_of(mover, Resample("corrupt")))).min() > 1

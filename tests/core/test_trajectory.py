"""When a head acquires its role, on trajectories whose answer is known by construction."""

import numpy as np
import pytest
from samples import provenance

from interp.core.errors import InterpError
from interp.core.scores import HeadScores
from interp.core.trajectory import Trajectory, trajectory

STEPS = (0, 100, 200, 400)
MEANS = {(0, 0): (0.0, 0.1, 0.9, 1.0), (0, 1): (0.0, 0.9, 0.1, 1.0), (1, 0): (1.0, 1.0, 1.0, 1.0),
         (1, 1): (0.0, 0.0, 0.0, 0.02)}


def scores(step, spread=0.02, n=30):
    rng = np.random.default_rng(step)
    values = rng.normal(0, spread, (2, 2, n))
    for (layer, head), means in MEANS.items():
        values[layer, head] += means[STEPS.index(step)] - values[layer, head].mean()
    return HeadScores(values, provenance())


def test_onset_is_the_step_from_which_a_role_is_kept():
    frame = trajectory([(step, scores(step)) for step in reversed(STEPS)]).onset(threshold=0.5).set_index("head")
    assert frame.loc["L0H0", ["onset", "before", "low", "high"]].tolist() == [200, 100, 200, 200]
    assert frame.loc["L0H1", ["onset", "before"]].tolist() == [400, 200]        # it had it at 100 and lost it
    assert frame.loc["L1H0", "onset"] == 0
    assert np.isnan(frame.loc["L1H0", "before"])
    assert np.isnan(frame.loc["L1H1", "onset"])
    assert frame.loc["L1H1", "kept"] == 0
    assert frame.index[0] == "L1H0"


def test_a_share_of_the_last_score_is_the_heads_own_threshold():
    frame = trajectory([(step, scores(step)) for step in STEPS]).onset(share=0.05).set_index("head")
    assert frame.loc["L0H0", "onset"] == 100


def test_an_uncertain_onset_has_a_wide_interval():
    def noisy(step):
        values = np.random.default_rng(step + 1).normal({0: 0, 100: 0.5, 200: 1, 400: 1}[step], 0.6, (1, 1, 12))
        values += {0: 0, 100: 0.5, 200: 1, 400: 1}[step] - values.mean()
        return HeadScores(values, provenance())

    row = trajectory([(step, noisy(step)) for step in STEPS]).onset(threshold=0.5).iloc[0]
    assert (row.low, row.high) == (100, 200)


def test_it_is_saved_and_read_again(tmp_path):
    made = trajectory([(step, scores(step)) for step in STEPS])
    again = Trajectory.load(made.save(tmp_path / "run"))
    assert again.steps == STEPS
    np.testing.assert_array_equal(again.mean(), made.mean())
    assert list(again.to_frame().columns)[:2] == ["step", "head"]
    assert made.interval()[0].shape == (4, 2, 2)


def test_unlike_scores_are_refused():
    with pytest.raises(InterpError, match="at least two steps"):
        Trajectory((1,), (scores(0),))
    with pytest.raises(InterpError, match="do not ascend"):
        Trajectory((2, 1), (scores(0), scores(100)))
    with pytest.raises(InterpError, match="a share lies between"):
        trajectory([(0, scores(0)), (1, scores(100))]).onset(share=2)
    other = HeadScores(scores(0).values[:, :1], provenance())
    with pytest.raises(InterpError, match="not the same"):
        Trajectory((1, 2), (scores(0), other))

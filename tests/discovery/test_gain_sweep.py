"""The hand-made induction circuit from a nearly linear softmax to a saturated one: ``verified`` finds it, EAP loses it."""

import numpy as np
import pytest

from interp.core import detection
from interp.discovery import discover
from interp.discovery.truth import GAINS, TABLE, detection_table, gains, subject

METHODS = {title: TABLE[title] for title in ("EAP, noising", "EAP-IG inputs, 5 steps", "verified")}


@pytest.fixture(scope="module")
def swept():
    found = detection_table(gains(), METHODS, n=8, seeds=(1,))
    return found.assign(gain=found["program"].str.removeprefix("gain ").astype(int))


def test_the_three_edges_matter_at_every_gain_and_no_other_does():
    for name in ("gain 1", "gain 10", "gain 100"):
        of = subject(name)
        exact = np.abs(discover(of.model, of.batch(8), method="edge_patching", progress=False).mean())
        assert of.true.sum() == 3
        assert exact[of.true].min() > 0.5
        assert exact[~of.true].max() < 0.1


def test_verified_finds_them_over_the_whole_sweep_with_few_exact_patches(swept):
    mine = swept[swept["method"] == "verified"]
    assert sorted(set(mine["gain"])) == sorted(GAINS)
    assert len(mine) == len(GAINS)
    assert mine["auroc"].min() >= 0.99
    assert mine["exact"].max() <= 0.03


@pytest.mark.parametrize("method", ["EAP, noising", "EAP-IG inputs, 5 steps"])
def test_a_few_gradients_find_them_in_the_linear_range_and_lose_them_in_saturation(swept, method):
    auroc = swept[swept["method"] == method].groupby("gain")["auroc"].min()
    assert auroc[1] >= 0.99
    assert auroc.min() < 0.8


def test_verified_without_exact_patches_ranks_them_first_even_where_gradients_vanish():
    of = subject("gain 100")
    found = np.abs(discover(of.model, of.batch(8, 3), method="verified", share=0.0, progress=False).mean())
    assert detection.auroc(found, of.true) >= 0.99
    assert found[of.true].min() > 1

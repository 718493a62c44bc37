"""Methods on circuits that were planted by training, in weights that are dense."""

import pytest

from interp.discovery.truth import TABLE, detection_table, planted, subject

CHECKED = ("EAP, noising", "verified", "exact, both")


@pytest.fixture(scope="module")
def found():
    return detection_table(planted(), {title: TABLE[title] for title in CHECKED}, n=24, seeds=(1,))


def test_exact_patching_and_verified_find_what_was_planted(found):
    auroc = found.pivot_table(index="program", columns="method", values="auroc")
    assert set(auroc.index) == set(planted())
    assert auroc["exact, both"].min() >= 0.995
    assert auroc["verified"].min() >= 0.98
    assert found.loc[found["method"] == "verified", "exact"].max() <= 0.03


def test_the_truth_under_resampling_is_the_planted_circuit_of_reverse():
    of = subject("planted-reverse")
    assert of.true.sum() == 2

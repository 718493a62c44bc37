"""Certificates: every sentence follows from the numbers that are kept, and what was computed in full has none."""

import numpy as np
import pytest
from samples import provenance, scores

from interp.core.certificate import certificate, unmeasured
from interp.core.provenance import Provenance

SCREENING = {
    "top": 5, "of": "heads", "rank": "mean", "candidates": 144, "spent": 320, "full": 1152, "free": 8, "left": 100,
    "highest_left": 0.25, "threshold": 0.5, "margin": 0.1, "population": 143, "sampled": 24, "most_outside": 15,
    "most_missed": 5, "confidence": 0.95, "tail": 2.0, "factor": 9.5, "refuted": 0,
}
PRECISION = {
    "ranks": 20, "rank": "magnitude", "level": 0.05, "swept_in": "bfloat16", "redone_in": "float32", "redone": 30,
    "full": 144,
    "free": 0, "sampled": 12, "error_median": 0.001, "error_largest": 0.004, "bound": 0.015, "confidence": 0.9, "tail": 4.0,
    "factor": 3.5, "refuted": 0,
}


def said(kind, **changes):
    found = {"screening": SCREENING, "precision": PRECISION}[kind] | changes
    return certificate(provenance(outcome={kind: found}))


def test_full_results_have_none():
    assert certificate(provenance()) == scores(np.zeros((1, 2, 3))).certificate == ""
    assert unmeasured(provenance()) == 0


def test_a_screening_says_what_was_spent_and_what_may_be_missing():
    text = said("screening")
    for part in ("The 5 heads of the largest mean effect on logit_diff", "320 exact evaluations, of 1,152", "27.8 %",
                 "100 candidates were left out", "end below 0.25", "With 95 % confidence none",
                 "at most 15 of those left out",
                 "a sample of 24 cannot say"):
        assert part in text, part
    assert "at most 2 of the true top 5 are missing" in said("screening", most_missed=2)
    assert "first of the full sweep, exactly" in said("screening", left=0)
    assert "3 candidates lay outside" in said("screening", refuted=3)
    assert unmeasured(provenance(outcome={"screening": SCREENING})) == 100


def test_a_certified_precision_says_what_was_redone_and_what_is_certain():
    text = said("precision")
    for part in ("Swept in bfloat16; 30 of 144 candidates (20.8 %) redone in float32", "largest 0.004 logit_diff",
                 "With 90 % confidence the first 20 by absolute mean", "every significance flag", "at most 0.015"):
        assert part in text, part
    assert "Everything was redone" in said("precision", redone=144)
    assert "2 candidates had a larger error" in said("precision", refuted=2)


@pytest.mark.parametrize("outcome", [{"screening": SCREENING}, {"precision": PRECISION}])
def test_an_outcome_survives_the_record_and_is_no_part_of_the_request(outcome):
    made = provenance(outcome=outcome)
    assert certificate(Provenance.from_json(made.to_json())) == certificate(made) != ""
    assert made.key() == provenance().key()


def test_heads_left_out_count_as_tests_that_failed():
    values = np.full((2, 4, 6), np.nan)
    values[0] = 1 + np.random.default_rng(0).standard_normal((4, 6))
    alone = scores(values).test()
    among = scores(values, provenance=provenance(outcome={"screening": SCREENING | {"left": 4}})).test()
    np.testing.assert_array_equal(among.p, alone.p)
    ordered = np.sort(alone.p[0])
    np.testing.assert_allclose(np.nanmax(among.q), min(1, 8 * ordered[-1] / 4))
    assert (among.q[0] >= alone.q[0]).all()
    assert np.isnan(among.q[1]).all()

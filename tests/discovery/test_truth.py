"""The table of methods on circuits that are known: its numbers on one program, and its page."""

from pathlib import Path

import numpy as np
import pytest

from interp.discovery import names
from interp.discovery.truth import GAINS, IN_LOGITS, TABLE, detection_table, gate_table, planted, planted_figures, programs
from interp.discovery.truth_page import (
    CLAIMS,
    DENSE,
    GAIN,
    GATES,
    HEADLINE,
    PLANTED,
    PROGRAMS,
    claims,
    page,
    read_tables,
    short,
)
from interp.models.handmade.gates import GATE_MODELS
from interp.models.planted import PLANTED as MODELS

PAGE = Path(__file__).parents[2] / "docs" / "ground-truth.md"
CHECKED = ("EAP, noising", "node patching (nodes)", "verified", "exact, both")
pytestmark = pytest.mark.filterwarnings("ignore:the scores of integrated gradients:UserWarning")


@pytest.fixture(scope="module")
def found():
    return detection_table(["compiled-rarer"], {title: TABLE[title] for title in CHECKED}, n=24, seeds=(1,))


def test_exact_methods_are_right_and_eap_is_not(found):
    auroc = found.set_index("method")["auroc"]
    assert auroc["exact, both"] == 1
    assert auroc["verified"] >= 0.98
    assert auroc["EAP, noising"] < 0.8
    exact = found.set_index("method")["exact"]
    assert exact["verified"] <= 0.03
    assert exact["exact, both"] == 1 > exact["EAP, noising"] == 0


@pytest.fixture(scope="module")
def gates():
    return gate_table({title: IN_LOGITS[title] for title in ("EAP, noising", "verified", "exact, noising")}, n=2)


def test_gates_tell_what_each_method_misses(gates):
    missed = gates.pivot_table(index="method", columns="gate", values="missed")
    assert list(missed.columns) == sorted(GATE_MODELS)
    assert missed.loc["verified"].sum() == 0
    assert missed.loc["EAP, noising", "handmade-or"] > 0 == missed.loc["EAP, noising", "handmade-and"]
    assert missed.loc["exact, noising", "handmade-or"] > 0 == missed.loc["exact, noising", "handmade-xor"]


def test_a_claim_that_is_not_met_is_said_to_be(found, gates):
    dense, swept = found.assign(program="planted-x"), found.assign(program="gain 1")
    met = claims(found, dense, gates, swept).set_index("claim")["met"]
    spoilt = found.assign(auroc=found["auroc"].where(found["method"] != "verified", 0.97))
    worse = claims(spoilt, dense, gates.assign(missed=1), swept).set_index("claim")["met"]
    changed = {claim for claim in met.index if met[claim] == "yes" and worse[claim] == "no"}
    assert {claim.split(":")[1].split()[0] for claim in changed} == {"mean", "at", "no"}
    assert len(changed) == 3


def test_the_page_can_be_read_again(found, gates):
    dense, swept = found.assign(program="planted-reverse"), found.assign(program="gain 1")
    text = page(found, dense, {"planted-reverse": planted_figures("planted-reverse")}, gates, swept, n=24, seeds=(1,),
                seconds=60)
    tables = read_tables(text)
    assert set(tables) == {CLAIMS, HEADLINE, PROGRAMS, PLANTED, DENSE, GAIN, GATES}
    assert tables[GATES].set_index("method").loc["verified", "all"] == "0"
    assert "{" not in text
    assert list(tables[HEADLINE]["method"]) == list(CHECKED) == list(tables[PROGRAMS]["method"])
    read = tables[PROGRAMS].set_index("method")["rarer"].astype(float)
    np.testing.assert_allclose(read, found.set_index("method")["auroc"].loc[read.index], atol=5e-4)
    assert "python -m interp.discovery.truth" in text


def test_every_row_of_the_table_is_a_method():
    assert {method for method, _ in TABLE.values()} <= set(names())
    assert len(programs()) >= 12


@pytest.mark.skipif(not PAGE.exists(), reason="docs/ground-truth.md is written by python -m interp.discovery.truth")
def test_the_page_has_every_method_and_its_headline_numbers():
    tables = read_tables(PAGE.read_text(encoding="utf-8"))
    summary, each, dense, gain = (tables[name].set_index("method") for name in (HEADLINE, PROGRAMS, DENSE, GAIN))
    assert list(dense.index) == list(gain.index) == list(TABLE)
    assert set(map(short, planted())) <= set(dense.columns)
    assert list(gain.columns) == [f"gain {gain}" for gain in GAINS]
    assert list(tables[GATES]["method"]) == list(IN_LOGITS)
    assert len(tables[CLAIMS]) >= 10
    for name, of in tables[PLANTED].set_index("model").iterrows():
        assert float(of["interchange"]) == pytest.approx(MODELS[name]().figures["iia"], abs=1e-3)
    assert list(summary.index) == list(each.index) == list(TABLE)
    assert list(each.columns) == [name.removeprefix("compiled-") for name in programs()]
    assert (each.loc["exact, both"] == "1.000").all()
    assert float(summary.loc["verified", "mean AUROC"]) >= 0.995
    assert float(summary.loc["verified", "worst"]) >= 0.98
    assert float(summary.loc["verified", "exact"].removesuffix(" %")) <= 3
    assert float(summary.loc["EAP, noising", "worst"]) < 0.8

"""The table of methods on circuits that are known: its numbers on one program, and its page."""

from pathlib import Path

import numpy as np
import pytest

from interp.discovery import names
from interp.discovery.truth import TABLE, detection_table, programs
from interp.discovery.truth_page import HEADLINE, PROGRAMS, page, read_tables

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


def test_the_page_can_be_read_again(found):
    text = page(found, n=24, seeds=(1,), seconds=60)
    tables = read_tables(text)
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
    summary, each = tables[HEADLINE].set_index("method"), tables[PROGRAMS].set_index("method")
    assert list(summary.index) == list(each.index) == list(TABLE)
    assert list(each.columns) == [name.removeprefix("compiled-") for name in programs()]
    assert (each.loc["exact, both"] == "1.000").all()
    assert float(summary.loc["verified", "mean AUROC"]) >= 0.995
    assert float(summary.loc["verified", "worst"]) >= 0.98
    assert float(summary.loc["verified", "exact"].removesuffix(" %")) <= 3
    assert float(summary.loc["EAP, noising", "worst"]) < 0.8

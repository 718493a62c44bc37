"""Types of heads on the page: in the ranking, in a grid, in a table with their evidence; refused types are said to be."""

import re

import pytest
import synthetic

from interp.report.page import page
from interp.report.results import Findings, Typed
from interp.report.typed import types_section


@pytest.fixture(scope="module")
def text():
    return page(Findings((synthetic.result("ioi", measures=2, n=6),), synthetic.types()))


def test_types_stand_in_ranking_table_and_overview(text):
    ranked = text[text.index('class="ranked"'):]
    row = ranked[ranked.index('<tr data-h="L1H2">'):]
    assert '<td class="ty">induction</td>' in row[:300]
    assert re.search(r"<b>L1H2</b> \(2 of 2; induction\)", text)
    table = text[text.index('aria-label="Types of heads with evidence"'):]
    first = table[table.index('<tr data-h="'):]
    assert first[12:16] == "L0H1"    # typed heads first, by layer
    assert re.search(r"first-token sink \(\d+% of rows\)", first[:300])
    assert re.search(r"repeated tokens 0\.8\d \[0\.8\d, 0\.8\d\]; plain texts 0\.8\d", first[:900])


def test_a_head_that_shows_on_one_text_alone_is_unknown_with_its_nearest(text):
    table = text[text.index('aria-label="Types of heads with evidence"'):]
    row = table[table.index('<tr data-h="L2H2">'):][:400]
    assert "unknown" in row
    assert "nearest: induction" in row


def test_the_grid_says_every_head(text):
    grid = text[text.index('aria-label="Type of each head'):]
    grid = grid[: grid.index("</svg>")]
    assert grid.count("role=\"gridcell\"") == 48
    assert 'aria-label="L3H5: previous token"' in grid
    assert 'aria-label="L2H2: unknown, nearest induction 0.' in grid


def test_cost_and_texts_are_stated(text):
    assert "3 of 48 heads have a type" in text
    assert "each was measured on 12 texts of every kind (repeated tokens, plain texts), once, in 1.5 s" in text


def test_types_that_were_refused_or_not_asked_for():
    result = synthetic.result("ioi", measures=1, n=6)
    refused = page(Findings((result,), Typed(None, "Cannot type the heads of cross attention: ...")))
    assert "The heads were not typed. Cannot type the heads of cross attention" in refused
    without = page(Findings((result,)))
    assert "Types of heads" not in without
    assert ">Type</th>" not in without


def test_many_heads_are_cut_and_narrow_cells_have_letters():
    typed = synthetic.types(layers=6, heads=32)
    section = types_section(typed, (6, 32), 40)
    assert len(section["rows"]) == 40
    assert section["left_out"] == 6 * 32 - 40
    assert ">I</text>" in section["svg"]
    assert ">ind</text>" not in section["svg"]
    assert ">ind</text>" in types_section(synthetic.types(), (6, 8), 40)["svg"]

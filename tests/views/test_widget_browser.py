"""The widgets in a real browser, as saved pages with the network refused: drawing, keys, linking, hostile tokens."""

from pathlib import Path

import numpy as np
import pytest
from attention_examples import HOSTILE, patterns
from saved_page import DRAWN, STATE, get

from interp.views.widgets.head_metric import head_metrics
from interp.views.widgets.page import save
from interp.views.widgets.pattern_set import pattern_set
from interp.views.widgets.state import HeadState

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pages: plain, hostile tokens, rows that are not numbers, one token and one head, scores alone."""
    place = tmp_path_factory.mktemp("widgets")
    effects = {"effect": np.array([[0.1, -2.0, np.nan], [0.0, 0.5, 1.0]])}
    broken = patterns()
    broken[0, 1, 3] = np.nan
    states = {
        "plain": HeadState(pattern_set(patterns(), [f" w{i}" for i in range(12)]), head_metrics(effects)),
        "hostile": HeadState(pattern_set(patterns(size=len(HOSTILE)), HOSTILE)),
        "broken": HeadState(pattern_set(broken)),
        "one": HeadState(pattern_set(np.ones((1, 1, 1, 1)))),
        "scores": HeadState(None, head_metrics(effects)),
        "ragged": HeadState(pattern_set([patterns()[0], None, patterns()[1, :1]])),
    }
    for name, state in states.items():
        save(state, "workbench", place / f"{name}.html")
    return place


@pytest.mark.parametrize("name", ["plain", "hostile", "broken", "one", "scores", "ragged"])
def test_every_page_draws_and_asks_for_nothing(tab, name):
    page = tab(name)
    assert page.evaluate("globalThis.hacked") is None
    assert page.locator("img, iframe").count() == 0
    assert page.locator(".iw-heads canvas").first.evaluate(DRAWN)


def test_a_click_selects_and_the_map_and_strip_follow(tab):
    page = tab("plain")
    assert get(page, "sel") == [[0, 1]]
    stage = page.locator(".iw-heads .iw-stage")
    stage.click(position={"x": 34 + 2.5 * 64, "y": 20 + 1.5 * 64})
    assert get(page, "sel") == [[1, 2]]
    assert page.locator(".iw-attention strong").inner_text() == "L1H2"
    assert page.locator(".iw-tokens strong").inner_text() == "L1H2"
    assert "L1H2; effect 1.00, 2 of 5" in page.locator(".iw-voice").inner_text()
    page.locator(".iw-chip").nth(5).click()
    assert (get(page, "query"), get(page, "key")) == (5, -1)
    page.locator(".iw-chip").nth(4).click(modifiers=["Shift"])
    assert (get(page, "query"), get(page, "key")) == (-1, 4)
    assert "which queries attend to ·w4 (4)" in page.locator(".iw-tokens .iw-title").inner_text()


def test_the_keyboard_reaches_heads_and_cells_and_each_is_spoken(tab):
    page = tab("plain")
    page.evaluate("document.addEventListener('keydown', () => { globalThis.leaked = true; })")
    page.locator(".iw-heads .iw-stage").focus()
    page.keyboard.press("ArrowDown")
    assert page.locator(".iw-voice").inner_text().startswith("L1H1; effect 0.500")
    page.keyboard.press("Enter")
    assert get(page, "sel") == [[1, 1]]
    page.keyboard.press("[")
    assert get(page, "query") == 10
    page.locator(".iw-attention .iw-stage").focus()
    for key in ("Home", *["ArrowRight"] * 9):
        page.keyboard.press(key)
    assert page.locator(".iw-voice").inner_text() == "·w10 (10) → ·w9 (9): 0.900 ±0.004"
    for key in ("ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    assert page.locator(".iw-voice").inner_text() == "·w10 (10) → ·w11 (11): masked"
    assert page.evaluate("globalThis.leaked") is None


def test_a_head_is_found_by_its_name(tab):
    page = tab("plain")
    box = page.locator("input")
    box.fill("1.0")
    box.press("Enter")
    assert get(page, "sel") == [[1, 0]]
    box.fill("L9H9")
    box.press("Enter")
    assert box.get_attribute("aria-invalid") == "true"


def test_sinks_are_told_and_kept_out(tab):
    page = tab("plain")
    page.evaluate(f"{STATE}.update({{sel: [[0, 0]]}})")
    assert "first key 1.0 of the attention" in page.locator(".iw-attention .iw-title").inner_text()
    page.evaluate(f"{STATE}.update({{sink: 'renormalise'}})")
    assert "first key left out" in page.locator(".iw-attention .iw-legend").inner_text()


def test_rows_that_are_no_numbers_are_said(tab):
    page = tab("broken")
    page.evaluate(f"{STATE}.update({{sel: [[0, 1]], query: 3}})")
    assert "1 rows not a number" in page.locator(".iw-attention .iw-title").inner_text()


def test_hostile_tokens_are_text(tab):
    page = tab("hostile")
    assert page.locator(".iw-chip").first.inner_text() == HOSTILE[0]
    assert page.locator(".iw-chip").nth(2).inner_text() == "<U+202E>gnp.exe"
    assert page.locator(".iw-chip").nth(3).inner_text() == "<U+D83D>"
    assert page.evaluate("globalThis.hacked") is None

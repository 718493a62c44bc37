"""The page in a real browser, offline: no request, no error; sorting, keyboard, hover; hostile tokens do nothing."""

import re
from contextlib import ExitStack
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser


@pytest.fixture
def opened(offline_tab, pages: Path):
    """Open a page by name with the network refused; what it asked for and what went wrong are noted."""
    with ExitStack() as tabs:
        def open_(name: str, **options):
            tab = tabs.enter_context(offline_tab(**options))
            tab.goto((pages / name).as_uri())
            return tab

        yield open_


@pytest.mark.parametrize("name", ["three.html", "hostile.html", "scores.html"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_request_leaves_and_nothing_goes_wrong(opened, pages, name, scheme):
    tab = opened(name, color_scheme=scheme)
    assert [url for url in tab.asked if not url.startswith("data:")] == [(pages / name).as_uri()]
    assert tab.wrong == []
    assert tab.evaluate("window.hacked") is None


@pytest.mark.parametrize("width", [360, 800, 1280])
def test_the_page_never_scrolls_sideways(opened, width):
    tab = opened("three.html", viewport={"width": width, "height": 800})
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


def column(tab, index: int) -> list[float]:
    return tab.eval_on_selector_all(
        "#task-0 table.ranked tbody tr", f"rows => rows.map(r => parseFloat(r.cells[{index}].dataset.v))"
    )


def test_columns_sort_both_ways(opened):
    tab = opened("three.html")
    button = tab.locator("#task-0 table.ranked thead th").nth(3).get_by_role("button")
    before = column(tab, 3)
    button.click()
    assert column(tab, 3) == sorted(before, reverse=True)
    assert tab.locator("#task-0 table.ranked thead th").nth(3).get_attribute("aria-sort") == "descending"
    button.focus()
    tab.keyboard.press("Enter")
    assert column(tab, 3) == sorted(before)
    assert len(column(tab, 3)) == 48


def test_the_tail_is_folded_and_shown(opened):
    tab = opened("three.html")
    rows = tab.locator("#task-0 table.ranked tbody tr")
    assert rows.nth(11).is_visible()
    assert not rows.nth(12).is_visible()
    tab.locator("#task-0 .tools button").first.click()
    assert rows.nth(47).is_visible()


def test_cells_are_walked_by_arrows_and_say_their_numbers(opened):
    tab = opened("three.html")
    first = tab.locator("#task-0 svg.heat g[tabindex='0']").first
    first.focus()
    for key in ("ArrowDown", "ArrowRight", "ArrowRight"):
        tab.keyboard.press(key)
    said = tab.evaluate("document.activeElement.getAttribute('aria-label')")
    assert said.startswith("L1H2: ")
    assert tab.locator("#tip").inner_text() == said
    assert tab.locator("#task-0 table.ranked tr.on").get_attribute("data-h") == "L1H2"
    tab.keyboard.press("Escape")
    assert tab.locator("#tip").inner_text() == ""


def test_hover_shows_a_cell(opened):
    tab = opened("three.html")
    tab.locator("#task-0 svg.heat").nth(1).locator("g[data-h='L3H5']").hover()
    assert tab.locator("#tip").inner_text().startswith("L3H5: ")


def test_patterns_say_query_key_and_weight(opened):
    tab = opened("three.html")
    pattern = tab.locator("#task-0 svg.pattern").first
    pattern.focus()
    tab.keyboard.press("ArrowRight")
    assert tab.locator("#live").inner_text().startswith("·to (14) → When (1): 0.")
    for _ in range(14):
        tab.keyboard.press("ArrowUp")
    assert tab.locator("#live").inner_text() == "<s> (0) → When (1): masked"


def test_hostile_tokens_are_shown(opened):
    tab = opened("hostile.html")
    tab.locator("svg.pattern").first.focus()
    tab.keyboard.press("ArrowRight")
    assert "<img src=x onerror=window.hacked=1>" in tab.locator("#tip").inner_text()
    assert tab.evaluate("window.hacked") is None
    assert tab.locator("img").count() == 0


def test_numbers_are_there_without_javascript(opened):
    tab = opened("three.html", java_script_enabled=False)
    assert tab.locator("#task-0 table.ranked tbody tr").nth(40).is_visible()
    assert "logit difference" in tab.locator("#overview table").inner_text()


def test_without_javascript_ranking_types_and_circuits_can_be_read(opened):
    tab = opened("three.html", java_script_enabled=False)
    row = tab.locator("#task-0 table.ranked tbody tr").first.inner_text()
    assert re.match(r"L1H2\s+induction\s+●?\s*1\.0\s+\[1\.0, \d+\.\d\]\s+\d\.\d\d \[\d\.\d\d, \d\.\d\d\]", row), row
    assert tab.locator("#task-0 svg.circuit").is_visible()
    assert "0.96 [0.91, 0.99]" in tab.locator("#task-0").inner_text()
    assert not tab.locator(".bench").first.is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(opened, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    tab = opened("three.html", color_scheme=scheme)
    found = axe.Axe().run(tab).response["violations"]
    grave = [one for one in found if one["impact"] in ("serious", "critical")]
    bad = {one["id"]: [node["target"] for node in one["nodes"]][:3] for one in grave}
    assert bad == {}


def test_the_workbench_opens_in_a_frame_that_reaches_nothing(opened, pages):
    tab = opened("three.html", viewport={"width": 1200, "height": 900})
    box = tab.locator("#task-0 .bench")
    box.scroll_into_view_if_needed()
    frame = tab.frame_locator("#task-0 .bench iframe")
    frame.locator("canvas").first.wait_for(timeout=10_000)
    assert "Activation patching of z, noising" in frame.locator("body").inner_text()
    assert tab.locator("#task-0 .bench iframe").get_attribute("sandbox") == "allow-scripts"
    tab.wait_for_function("document.querySelector('#task-0 .bench iframe').style.height !== ''")
    assert [url for url in tab.asked if url.startswith(("http", "ws"))] == []
    assert tab.wrong == []


def test_hostile_tokens_are_text_in_the_workbench_too(opened):
    tab = opened("hostile.html")
    tab.locator(".bench").scroll_into_view_if_needed()
    frame = tab.frame_locator(".bench iframe")
    frame.locator("canvas").first.wait_for(timeout=10_000)
    inside = next(one for one in tab.frames if one.parent_frame)
    assert inside.evaluate("globalThis.hacked") is None
    assert tab.evaluate("window.hacked") is None
    assert frame.locator("img").count() == 0


def test_a_node_of_the_circuit_shows_its_own_edges(opened):
    tab = opened("three.html")
    graph = tab.locator("#task-0 svg.circuit")
    graph.locator("g.node[data-h=L3H5] circle").hover()
    assert graph.locator("path.e.mine").count() == 4
    assert tab.locator("#tip").inner_text() == "L3H5: 2 edges in, 2 out"
    assert tab.locator("#task-0 table.ranked tr.on").get_attribute("data-h") == "L3H5"


def test_words_sort_as_words(opened):
    tab = opened("three.html")
    head = tab.locator("#task-0 table.ranked thead th").nth(1)
    head.get_by_role("button").click()
    cells = tab.eval_on_selector_all("#task-0 table.ranked tbody tr", "rows => rows.map(r => r.cells[1].textContent)")
    assert cells == sorted(cells)
    assert cells[0].startswith("first-token sink")


def test_it_prints_whole_tables_without_controls(opened):
    tab = opened("three.html")
    tab.emulate_media(media="print")
    assert not tab.locator("nav").is_visible()
    assert not tab.locator(".tools").first.is_visible()
    assert not tab.locator(".bench").first.is_visible()
    assert tab.locator("#task-0 table.ranked tbody tr").nth(40).is_visible()
    paper = (210 - 26) / 25.4 * 96
    tab.set_viewport_size({"width": int(paper), "height": 1000})
    wide = tab.evaluate("""[...document.querySelectorAll("table, svg")]
        .filter(e => e.getBoundingClientRect().right > innerWidth + 1)
        .map(e => e.getAttribute("aria-label") || e.className)""")
    assert wide == []
    assert len(tab.pdf(prefer_css_page_size=True)) > 20_000


def test_focus_is_seen_and_text_is_legible(opened):
    """Body text against the page in both schemes, by the browser's own computed colours (WCAG AA: 4.5)."""
    for scheme in ("light", "dark"):
        tab = opened("three.html", color_scheme=scheme)
        ratio = tab.evaluate("""() => {
          const lum = c => { const v = c.match(/[\\d.]+/g).slice(0, 3).map(x => x / 255)
                                        .map(x => x <= .04045 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4);
                             return .2126 * v[0] + .7152 * v[1] + .0722 * v[2]; };
          const back = lum(getComputedStyle(document.body).backgroundColor);
          return Math.min(...["body", "figcaption", ".note", ".kicker", "a", "td small", "summary"].map(s => {
            const l = lum(getComputedStyle(document.querySelector(s)).color);
            const [a, b] = l > back ? [l, back] : [back, l];
            return (a + .05) / (b + .05); }));
        }""")
        assert ratio >= 4.5, scheme

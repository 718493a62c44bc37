"""axe-core on every view, in the dark theme for its colours: nothing serious, nothing critical."""

import pytest
from every_view import KINDS, everything
from live_page import open_live
from saved_page import STATE, serious

import interp
from interp.views.widgets import sources

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page(show, tmp_path_factory):
    """The workbench with every view."""
    return show(everything().to_html(tmp_path_factory.mktemp("accessible") / "page.html"))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_view_is_without_serious_findings(page, theme):
    page.evaluate(f"{STATE}.update({{theme: '{theme}', sel: [[1, 2], [0, 1]]}})")
    found = {"the page": serious(page, "html", theme == "dark")}
    for kind in KINDS:
        page.locator(f"[role=tab][id$='-{kind}-tab']").click()
        for button in page.locator("button[aria-expanded=false]", has_text="Table").all():
            if button.is_visible():
                button.click()
        found[kind] = serious(page, f"section.iw-{kind}", theme == "dark")
    assert "\n".join(f"{kind}: {line}" for kind, lines in found.items() for line in lines) == ""


def test_the_live_view_is_without_serious_findings(blank, tmp_path):
    """With a model behind it, after an intervention and with the table of tokens."""
    model = interp.load("organism", verify=False)
    state = interp.views.workbench(model, interp.tasks.get("ioi").batch(model, n=4)).state
    open_live(blank, state, tmp_path / "live.html")
    panel = blank.locator("section.iw-live")
    panel.locator("button", has_text="Zero").click()
    panel.locator("table").first.wait_for()
    for theme in ("light", "dark"):
        blank.evaluate(f"{STATE}.update({{theme: '{theme}'}})")
        assert serious(blank, "section.iw-live", theme == "dark") == []


def test_every_view_is_looked_at():
    assert {*KINDS, "live"} == set(sources.further())

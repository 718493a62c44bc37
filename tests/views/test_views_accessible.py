"""axe-core on every view, in the dark theme for its colours: nothing serious, nothing critical."""

import pytest
from every_view import KINDS, everything
from live_page import open_live

import interp
from interp.views.widgets import sources

pytestmark = pytest.mark.browser
STATE = "globalThis.interpState"


@pytest.fixture(scope="module")
def page(chromium, tmp_path_factory):
    """The workbench with every view, offline."""
    path = tmp_path_factory.mktemp("accessible") / "page.html"
    everything().to_html(path)
    context = chromium.new_context(offline=True, viewport={"width": 1180, "height": 900})
    opened = context.new_page()
    opened.goto(path.as_uri())
    opened.wait_for_selector(".iw-voice", state="attached")
    yield opened
    context.close()


def serious(page, context: str, colours_alone: bool) -> list[str]:
    """What axe-core finds serious or critical in a part of the page, with the first place of each."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    options = {"resultTypes": ["violations"], **({"runOnly": ["color-contrast"]} if colours_alone else {})}
    found = axe.Axe().run(page, context=context, options=options).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html'][:120]} ({one['nodes'][0]['failureSummary'][:200]})"
            for one in found if one["impact"] in ("serious", "critical")]


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


def test_the_live_view_is_without_serious_findings(chromium, tmp_path):
    """With a model behind it, after an intervention and with the table of tokens."""
    model = interp.load("organism", verify=False)
    state = interp.views.workbench(model, interp.tasks.get("ioi").batch(model, n=4)).state
    context = chromium.new_context(viewport={"width": 1180, "height": 900})
    tab = context.new_page()
    open_live(tab, state, tmp_path / "live.html")
    panel = tab.locator("section.iw-live")
    panel.locator("button", has_text="Zero").click()
    panel.locator("table").first.wait_for()
    for theme in ("light", "dark"):
        tab.evaluate(f"{STATE}.update({{theme: '{theme}'}})")
        assert serious(tab, "section.iw-live", theme == "dark") == []
    context.close()


def test_every_view_is_looked_at():
    assert {*KINDS, "live"} == set(sources.further())

"""What tests read of a saved page that is open in a browser: its state, what is drawn, what screen readers meet."""

from typing import Any

import pytest

STATE = "globalThis.interpState"
DRAWN = "c => new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer).some(x => x)"
"""Whether a canvas has any pixel."""


def get(page: Any, name: str) -> Any:
    """A trait of the page's state."""
    return page.evaluate(f"{STATE}.get('{name}')")


def edges_drawn(page: Any) -> int:
    """How many edges of a graph are not hidden."""
    return page.locator(".iw-es path").evaluate_all("all => all.filter((one) => one.style.display !== 'none').length")


def serious(page: Any, context: str | None = None, colours_alone: bool = False) -> list[str]:
    """What axe-core finds serious or critical in the page or a part of it, with the first place of each."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    options = {"resultTypes": ["violations"], **({"runOnly": ["color-contrast"]} if colours_alone else {})}
    found = axe.Axe().run(page, context=context, options=options).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html'][:120]} ({one['nodes'][0]['failureSummary'][:200]})"
            for one in found if one["impact"] in ("serious", "critical")]

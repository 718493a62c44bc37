"""The views of a ``HeadState``: ``HeadGrid``, ``AttentionMap``, ``TokenStrip``, and ``Workbench`` with all of them."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, ClassVar

import anywidget

from interp.core.errors import InterpError
from interp.core.head import Head
from interp.views.widgets import page, saving, sources
from interp.views.widgets.state import HeadState

FALLBACK = 450_000
"""Characters that a cell's output may take for readers without widgets (an exported notebook)."""
HEIGHTS = {"grid": 620, "map": 720, "strip": 320, "workbench": 900}
TALL = 640
"""Height in pixels of a further view's frame."""


class View(anywidget.AnyWidget):
    """A drawn view; ``state`` is shared by all views that are given the same one, in one cell or in several."""

    kind: ClassVar[str]
    _css = sources.style()
    state = anywidget.WidgetTrait().tag(sync=True)

    def __init__(self, state: HeadState, **traits: Any) -> None:
        super().__init__(state=state, **traits)

    @property
    def selected(self) -> tuple[Head, ...]:
        """The selected heads."""
        chosen: tuple[Head, ...] = self.state.selected
        return chosen

    @selected.setter
    def selected(self, heads: Sequence[Head | str] | Head | str) -> None:
        self.state.selected = heads

    def to_html(self, path: str | Path, **options: Any) -> Path:
        """Write this view as one interactive HTML file that needs no network (see ``interp.views.widgets.page.page``)."""
        return page.save(self.state, self.kind, path, **options)

    def save(self, path: str | Path, **options: Any) -> Path:
        """Write this view as ``.html`` (as ``to_html``) or its numbers as ``.csv`` (``widgets.saving.save``)."""
        return saving.save(self.state, self.kind, path, **options)

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """The widget, and for readers that have none (an exported notebook) the same view in a frame, where it is small."""
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = bundle
        text = page.page(self.state, self.kind, largest=FALLBACK // 2)
        if len(text) <= FALLBACK:
            data["text/html"] = (
                '<iframe sandbox="allow-scripts allow-downloads" title="attention heads" '
                f'style="width:100%;height:{HEIGHTS.get(self.kind, TALL)}px;border:0" srcdoc="{escape(text)}"></iframe>'
            )
        return data, metadata


class HeadGrid(View):
    """All heads: rows are layers (0 on top), columns heads; a metric's colours, thumbnails of the patterns, or both."""

    kind = "grid"
    _esm = sources.script("grid")


class AttentionMap(View):
    """The pattern of the head that is looked at: rows are queries, columns keys, masked cells hatched."""

    kind = "map"
    _esm = sources.script("map")


class TokenStrip(View):
    """The prompt, shaded by what the chosen query attends to, or by which queries attend to the chosen key."""

    kind = "strip"
    _esm = sources.script("strip")


class Workbench(View):
    """Head grid, attention map and token strip together, and as tabs the further views that the state has data for."""

    kind = "workbench"
    _esm = sources.script("workbench")


def attached(kind: str, payload: Mapping[str, Any], state: HeadState | None = None, **traits: Any) -> HeadState:
    """The state for a further view: the given one with this view's data added, else a new one for ``payload["heads"]``.

    Where ``payload["least"]`` is true, results are of some layers or heads only: a state fits that has at least these.

    Raises:
        InterpError: the state shows heads of another shape.
    """
    heads = [int(count) for count in payload["heads"]]
    if state is None:
        return HeadState(heads=heads, payloads={kind: dict(payload)}, **traits)
    if not _fits(heads, state.heads, bool(payload.get("least"))):
        seen, own = (f"{len(one)} layers of {max(one)} heads" for one in (state.heads, heads))
        raise InterpError(f"add a view of {own}", f"the state shows {seen}", "give results of the same model")
    state.show(kind, dict(payload))
    return state


def _fits(heads: Sequence[int], shown: Sequence[int], least: bool) -> bool:
    """Whether results of ``heads`` are of a model whose layers have ``shown``; ragged layers may be filled up with NaN."""
    if least:
        return len(heads) <= len(shown) and all(own <= seen for own, seen in zip(heads, shown, strict=False))
    return list(heads) in (list(shown), [max(shown)] * len(shown))

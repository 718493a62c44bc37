"""Drawing, from saved scores and plain arrays: plotly figures, linked widgets for notebooks, inline SVG for pages. No torch.

``interp.views.figures.head_heatmap(scores)`` and its siblings return a ``plotly.graph_objects.Figure``;
``interp.views.workbench(...)`` and its single views are linked widgets.
"""

from importlib import import_module
from typing import Any

_ENTRIES = ("workbench", "head_grid", "attention_map", "token_strip", "head_state")
"""Named here for the user, written in ``interp.workbench``, a layer above, which may also read them from a model."""

__all__ = ["figures", "widgets", *_ENTRIES]


def __getattr__(name: str) -> Any:
    if name in _ENTRIES:
        return getattr(import_module("interp.workbench"), name)
    if name in __all__:
        return import_module(f"interp.views.{name}")
    raise AttributeError(f"module 'interp.views' has no attribute {name!r}")

"""Drawing, from saved scores and plain arrays: plotly figures, linked widgets for notebooks, inline SVG for pages. No torch.

``interp.views.figures.head_heatmap(scores)`` and its siblings return a ``plotly.graph_objects.Figure``;
``interp.views.workbench(...)`` and its single views are linked widgets.
"""

from importlib import import_module
from typing import Any

_ENTRIES = ("workbench", "head_grid", "attention_map", "token_strip", "head_state", "retrieval_data", "circuit_graph",
            "live_view")
"""Named here for the user, written in ``interp.workbench``, a layer above, which may also read them from a model."""

_FURTHER = {"patching_map": "patching", "head_scatter": "scatter", "overlap_view": "overlap",
            "retrieval_view": "retrieval", "training_slider": "training"}
"""Views of results alone, a file of ``interp.views.widgets`` each."""

__all__ = ["figures", "widgets", *_ENTRIES, *_FURTHER]


def __getattr__(name: str) -> Any:
    if name in _ENTRIES:
        return getattr(import_module("interp.workbench"), name)
    if name in _FURTHER:
        return getattr(import_module(f"interp.views.widgets.{_FURTHER[name]}"), name)
    if name in __all__:
        return import_module(f"interp.views.{name}")
    raise AttributeError(f"module 'interp.views' has no attribute {name!r}")

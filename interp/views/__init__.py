"""Drawing, from saved scores and plain arrays: plotly figures for notebooks, inline SVG for pages. No torch.

``interp.views.figures.head_heatmap(scores)`` and its siblings return a ``plotly.graph_objects.Figure``.
"""

from importlib import import_module
from typing import Any

__all__ = ["figures"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return import_module(f"interp.views.{name}")
    raise AttributeError(f"module 'interp.views' has no attribute {name!r}")

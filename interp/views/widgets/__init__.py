"""Linked widgets for notebooks and pages: one state, drawn by a head grid, an attention map and a token strip.

``interp.views.workbench(...)`` makes them from arrays, scores, or a model and a batch. No torch here.
"""

from importlib import import_module
from typing import Any

_NAMES = {
    "HeadState": "state",
    "HeadGrid": "view",
    "AttentionMap": "view",
    "TokenStrip": "view",
    "Workbench": "view",
    "HeadMetric": "head_metric",
    "head_metrics": "head_metric",
    "PatternSet": "pattern_set",
    "TokenRow": "pattern_set",
    "pattern_set": "pattern_set",
    "Retrieval": "retrieval",
    "NeedleRun": "retrieval",
}

__all__ = list(_NAMES)


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(import_module(f"interp.views.widgets.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'interp.views.widgets' has no attribute {name!r}")

"""Plotly figures, one chart per file, found by existing: ``interp.views.figures.head_heatmap(scores)``.

Each takes scores or plain arrays and returns a ``plotly.graph_objects.Figure``; none changes plotly's defaults.
``interp.views.figures.save(figure, "effects.svg")`` writes one to a file.
"""

import importlib
import pkgutil
import sys
from types import ModuleType
from typing import Any

_NO_FIGURES = ("save", "style")
"""Files here that draw nothing."""


def names() -> list[str]:
    """The names of all figures."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name not in _NO_FIGURES)


class _Figures(ModuleType):
    """The package as a table: an attribute is the figure of that name, never the file it is written in."""

    def __getattr__(self, name: str) -> Any:
        if name != "save" and (name.startswith("_") or name not in names()):
            raise AttributeError(f"interp.views.figures has no figure {name!r}; it has {', '.join(names())}")
        return getattr(importlib.import_module(f"{self.__name__}.{name}"), name)

    def __setattr__(self, name: str, value: Any) -> None:
        # Importing figures/head_heatmap.py binds that module to its name here; the name belongs to the figure.
        if isinstance(value, ModuleType) and callable(getattr(value, name, None)):
            value = getattr(value, name)
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *names(), "save"})


sys.modules[__name__].__class__ = _Figures

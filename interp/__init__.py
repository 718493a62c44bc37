"""A mechanistic interpretability workbench: which attention heads do what, in which task, and how sure are we?

    import interp

    model = interp.load("organism")
    batch = interp.tasks.ioi.batch(model, n=64, seed=0)
    scores = interp.measures.activation_patching(model, batch, direction="noising")
    scores.top(10)

Importing ``interp`` loads neither torch nor any model library; the first call that needs them does.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_MODULES = ("core", "models", "tasks", "engine", "measures", "discovery", "views", "report")
_NAMES = {
    "load": "interp.models.load",
    "Head": "interp.core.head",
    "HeadScores": "interp.core.scores",
    "InterpError": "interp.core.errors",
}

__all__ = [*_MODULES, *_NAMES]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(import_module(_NAMES[name]), name)
    if name in _MODULES:
        return import_module(f"interp.{name}")
    raise AttributeError(f"module 'interp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

"""Head scores, one measure (or family) per file; a new file here is a new measure, found by existing.

``interp.measures.activation_patching(model, batch, ...)`` reads the file that defines the measure on first use;
``dir(interp.measures)`` and ``interp.measures.catalog()`` list what there is without importing torch.
"""

import importlib
import sys
from types import ModuleType
from typing import Any

_TABLES = {"sink_table": "sink_table", "sink_tokens": "sink_table",
           "head_types": "head_types"}
"""Functions that return a table in place of scores, and the file of each."""


class _Measures(ModuleType):
    """The package as a table: an attribute is the measure of that name, never the file it is written in."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        listing = importlib.import_module(f"{self.__name__}.catalog")
        if name in ("catalog", "markdown"):
            return getattr(listing, name)
        entries = listing.catalog()
        if name in entries:
            return getattr(importlib.import_module(entries[name].module), name)
        if name in _TABLES:
            return getattr(importlib.import_module(f"{self.__name__}.{_TABLES[name]}"), name)
        raise AttributeError(f"interp.measures has no measure {name!r}; it has {', '.join(sorted(entries))}")

    def __setattr__(self, name: str, value: Any) -> None:
        # Importing measures/ablation.py binds that module to the name "ablation" here; the name belongs to the measure.
        if isinstance(value, ModuleType) and callable(getattr(value, name, None)):
            value = getattr(value, name)
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        listing = importlib.import_module(f"{self.__name__}.catalog")
        return sorted({*super().__dir__(), "catalog", "markdown", *listing.catalog(), *_TABLES})


sys.modules[__name__].__class__ = _Measures

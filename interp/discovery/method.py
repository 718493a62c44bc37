"""The interface of a discovery method, and ``discover``.

A method scores every edge of a model on every prompt (or every node: ``level="nodes"``). Adding one is adding a file: a
function of the file's name in ``interp/discovery/methods/``, decorated. For example, ``methods/distance.py``::

    from typing import Any

    import numpy as np

    from interp.discovery.graph import edges_of
    from interp.discovery.method import method
    from interp.engine.edge_attribution import provenance
    from interp.engine.edges import EdgeScores


    @method(
        sense="larger = nearer",
        formula="1 / (1 + layer of the receiver - layer of the sender)",
        source="nobody: a control that knows neither prompts nor weights",
        does_not_show="Anything about the behaviour.",
        cost="none",
    )
    def distance(model: Any, batch: Any, *, power: float = 1.0) -> EdgeScores:
        \"\"\"One line that a listing shows.\"\"\"
        ...

* The arguments after the star are the options: annotated, with defaults, checked before the method runs; all of them stand
  in the provenance of the scores, except those that cannot change a number (``batch_size``, ``progress``, ``running``).
* It returns ``EdgeScores`` (``interp.engine.edges``): ``values[edge, prompt]`` in units of the metric, larger = matters
  more; NaN for what was not asked for; per prompt even where only the mean will be used, since intervals need it. A method
  without a prompt axis (learned masks) returns one column. What belongs beside the scores goes into ``notes`` by name. A
  method on nodes returns ``NodeScores`` (``interp.discovery.node_scores``).
* ``tests/discovery/test_methods.py`` tests it by its existing.
"""

import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

from interp.core.errors import InterpError
from interp.core.registry import unknown
from interp.discovery import methods as files
from interp.discovery.node_scores import NodeScores
from interp.engine.edges import EdgeScores
from interp.measures.catalog import RUNNING
from interp.measures.options import check_value, record

DEFAULT = "verified"
LEVELS = ("edges", "nodes")


@dataclass(frozen=True)
class Method:
    """A discovery method: call it as ``method(model, batch, **options)``.

    Attributes:
        name: of the method and its file. summary: the first line of its docstring. level: ``edges`` or ``nodes``.
        sense, formula, source, does_not_show, cost: what it says of itself.
        options: name -> parameter, in the order of the signature.
        run: the function; its docstring explains the options.
    """

    name: str
    summary: str
    level: str
    sense: str
    formula: str
    source: str
    does_not_show: str
    cost: str
    options: Mapping[str, inspect.Parameter]
    run: Callable[..., EdgeScores | NodeScores]

    def __call__(self, model: Any, batch: Any, **given: Any) -> EdgeScores | NodeScores:
        """Scores, with every option in their provenance."""
        for option, value in given.items():
            if option not in self.options:
                raise unknown(f"option of {self.name}", option, list(self.options))
            check_value(f"{self.name}({option}={record(value)!r})", value, self.options[option].annotation)
        for option, parameter in self.options.items():
            if parameter.default is parameter.empty and option not in given:
                raise InterpError(f"discover by {self.name}", f"it needs the option {option!r}", f"give {option}=...")
        asked = {name: p.default for name, p in self.options.items() if p.default is not p.empty} | given
        scores = self.run(model, batch, **asked)
        recorded = {name: record(value) for name, value in asked.items() if name not in (*RUNNING, "metric")}
        return replace(scores, provenance=replace(scores.provenance, measure=self.name, options=recorded))


def method(*, sense: str, formula: str, source: str, does_not_show: str, cost: str, level: str = "edges"
           ) -> Callable[[Callable[..., EdgeScores | NodeScores]], Method]:
    """Make ``function(model, batch, *, options)`` a discovery method; see the module."""
    if level not in LEVELS:
        raise TypeError(f"a method scores one of {', '.join(LEVELS)}, not {level!r}")

    def made(function: Callable[..., EdgeScores | NodeScores]) -> Method:
        signature = inspect.signature(function)
        first, options = list(signature.parameters.values())[:2], list(signature.parameters.values())[2:]
        if [p.name for p in first] != ["model", "batch"] or any(p.kind is not p.KEYWORD_ONLY for p in options):
            written = f"{function.__name__}{signature}"
            raise TypeError(f"a method is written as f(model, batch, *, options), which {written} is not")
        summary = (inspect.getdoc(function) or "").split("\n", 1)[0]
        return Method(function.__name__, summary, level, sense, formula, source, does_not_show, cost,
                      {p.name: p for p in options}, function)

    return made


def names() -> list[str]:
    """The methods there are: the files of ``interp.discovery.methods``."""
    return sorted(module.name for module in pkgutil.iter_modules(files.__path__))


def find(name: str) -> Method:
    """The method of that name; an unknown one is refused with the nearest."""
    if name not in names():
        raise unknown("method of discovery", str(name), names())
    found = getattr(import_module(f"{files.__name__}.{name}"), name, None)
    if not isinstance(found, Method):
        raise TypeError(f"{files.__name__}.{name} defines no method of that name")
    return found


def discover(model: Any, batch: Any, *, method: str = DEFAULT, **options: Any) -> EdgeScores | NodeScores:
    """Score every edge (or node) of ``model`` on every prompt of ``batch`` by a method of that name.

    Args:
        method: one of ``names()``. options: as the method's signature has them (``find(name).options``).

    Raises:
        InterpError: an unknown method or option, an option of the wrong kind, or as the method says.
    """
    return find(method)(model, batch, **options)

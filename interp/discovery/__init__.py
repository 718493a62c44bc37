"""Circuits found: scores of edges (or nodes) by many methods, and the selection of a circuit from scores.

    import interp

    scores = interp.discovery.discover(model, batch, method="mask_ig")      # EdgeScores: a number per edge and prompt
    circuit = interp.discovery.select(scores, 100)                          # Circuit: the 100 best edges, loose ends off
    circuit.save("circuit.json")

* ``methods/``: one file per method, found by existing; ``interp.discovery.names()`` lists them, ``find(name)`` says what
  each computes, where it is published and what it does not show. How to add one stands in ``method.py``.
* ``graph.py``: nodes and edges of a model as numbers; sets of edges as a mask; nodes <-> edges; what is connected.
* ``selection.py``: from scores to a circuit.
"""

from importlib import import_module
from typing import Any

_WHERE = {
    "discover": "method", "find": "method", "method": "method", "names": "method", "Method": "method",
    "NodeScores": "node_scores",
    "Judgement": "judgement", "curve": "judgement", "judge": "judgement", "judge_all": "judgement", "minimal": "judgement",
    "random_like": "judgement",
    "choose": "selection", "select": "selection",
    "circuit_of": "graph", "edges_among": "graph", "edges_of": "graph", "mask_of": "graph", "nodes_of": "graph",
    "prune": "graph", "scored_edges": "graph",
}

__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

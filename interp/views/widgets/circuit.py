"""``CircuitGraph``: which heads and MLPs carry a behaviour and what flows between them, above a threshold of the scores.

An edge is kept where the size of its score is at least the threshold (``state.threshold``), and where it has no score.
What the kept edges do by themselves is shown where it was measured, and nowhere guessed between two measurements.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from interp.core.circuit import Circuit, Edge, Node
from interp.core.errors import InterpError
from interp.core.intervals import bootstrap
from interp.views.labels import plural
from interp.views.widgets import sources
from interp.views.widgets.graph_data import edge_name, heads_of, in_order, merged_roles, placed, unplaced
from interp.views.widgets.state import HeadState
from interp.views.widgets.view import View, attached

DRAWN = 2000
"""Edges that are drawn at most; of more, the strongest."""
WEAKER = 24
"""Thresholds below the weakest drawn edge that can be chosen."""
START = 80
"""Edges of a model's scores that are shown at first."""
KEYS, VALUES = 1, 2
"""Kinds of receivers in ``interp.engine.edges`` that heads may share."""


class CircuitGraph(View):
    """Heads (circles), MLPs (squares) and their edges, layers upwards; a threshold and the faithfulness of what it keeps."""

    kind = "circuit"
    _esm = sources.script("circuit")


def circuit_graph(shown: Any, state: HeadState | None = None, *, scores: Any = None, threshold: float | None = None,
                  points: Sequence[Mapping[str, Any]] = (), **traits: Any) -> CircuitGraph:
    """The graph of a circuit, or of a model's scored edges. ``interp.views.circuit_graph`` also takes a model.

    Args:
        shown: a ``Circuit``, its file or the file's content; ``EdgeScores`` or ``NodeScores``.
        state: of another view, to be linked with.
        points: faithfulness at some thresholds: threshold, edges, faithfulness, low, high, n, and ``how`` in words.
        scores: of a circuit's edges, if it does not tell them: ``EdgeScores``, or numbers by edge.
        threshold: what is kept at first; None: a circuit whole, of a model's scores the best ``START``.
        traits: of the state, ``theme`` for example.

    Raises:
        InterpError: something else, or heads of another shape than the state shows.
    """
    data = payload(shown, scores=scores, points=points, heads=None if state is None else state.heads)
    return CircuitGraph(begin(data, state, threshold, **traits))


def begin(data: dict[str, Any], state: HeadState | None = None, threshold: float | None = None, **traits: Any) -> HeadState:
    """The state with a graph's data and the threshold that it begins with."""
    state = attached("circuit", data, state, **traits)
    state.threshold = float(data["start"] if threshold is None else threshold)
    return state


def payload(shown: Any, *, scores: Any = None, points: Sequence[Mapping[str, Any]] = (), heads: Sequence[int] | None = None
            ) -> dict[str, Any]:
    """What the script draws: ``nodes``, ``edges`` (from, to, input, score, low, high; strongest first), and notes.

    ``shown`` may also be a pair (circuit, scores).

    ``heads``: of each layer, where a circuit does not tell the shape of its model.
    """
    if isinstance(shown, tuple) and len(shown) == 2 and scores is None:
        shown, scores = shown
    if hasattr(shown, "to_edges"):
        shown = shown.to_edges()
    if scored(shown):
        return _of_scores(shown, points)
    return _of_circuit(circuit_of(shown), scores, points, heads)


def scored(shown: Any) -> bool:
    """Whether these are scores of a model's edges (``interp.engine.edges.EdgeScores``; known by form: no torch here)."""
    return all(hasattr(shown, part) for part in ("edges", "values", "provenance", "interval"))


def circuit_of(shown: Any) -> Circuit:
    """A circuit, its file, or the file's content."""
    if isinstance(shown, Circuit):
        return shown
    if isinstance(shown, str | Path):
        return Circuit.load(shown)
    if isinstance(shown, Mapping) and "nodes" in shown:
        return Circuit.from_json(json.dumps(dict(shown)))
    raise InterpError("draw a circuit", f"a {type(shown).__name__} is none", "give a Circuit, its file, or EdgeScores")


def told_scores(circuit: Circuit, scores: Any = None) -> dict[Edge, tuple[float, float, float]]:
    """Mean and interval (NaN: none) of a circuit's edges without positions, from ``scores`` or from its own file. Edges that
    stand for the same at several positions are summed."""
    if scores is not None and hasattr(scores, "to_edges"):
        scores = scores.to_edges()
    if scored(scores):
        low, high = scores.interval()
        mean = scores.mean()
        wanted = set(map(_plain, circuit.edges))
        return {edge: (float(mean[i]), float(low[i]), float(high[i])) for i in np.flatnonzero(np.isfinite(mean))
                for edge in scores.edges.edges(int(i)) if edge in wanted}
    given = circuit.provenance.get("scores", {}) if scores is None else scores
    found: dict[Edge, float] = {}
    by_name = {str(edge): float(value) for edge, value in given.items() if value is not None}
    for edge in circuit.edges:
        if str(edge) in by_name:
            found[_plain(edge)] = found.get(_plain(edge), 0.0) + by_name[str(edge)]
    return {edge: (value, math.nan, math.nan) for edge, value in found.items()}


def _plain(edge: Edge) -> Edge:
    return Edge(unplaced(edge.source), unplaced(edge.target), edge.input)


def _of_circuit(circuit: Circuit, scores: Any, points: Sequence[Mapping[str, Any]], heads: Sequence[int] | None
                ) -> dict[str, Any]:
    shape, known = heads_of([circuit])
    if not known and heads and len(heads) >= len(shape) and max(heads) >= max(shape):
        shape = list(heads)
    told = told_scores(circuit, scores)
    places: dict[Edge, dict[str, None]] = {}
    for edge in circuit.edges:
        at = places.setdefault(_plain(edge), {})
        at |= dict.fromkeys(node.position for node in (edge.source, edge.target) if node.position is not None)
    lines = [(edge, *told.get(edge, (math.nan,) * 3)) for edge in places]
    made = circuit.provenance
    judged = made.get("judged")
    whole = [] if not isinstance(judged, Mapping) else [_judged(judged, made, len(lines))]
    origin = _said(str(made.get("method", "")), made.get("metric"), made.get("task")) if told else ""
    return _graph(lines, circuit.nodes, shape, origin, [*whole, *points]) | {
        "name": circuit.name or circuit.task or "circuit", "model": circuit.model, "task": circuit.task,
        "citation": circuit.citation, "roles": {str(node): role for node, role in merged_roles([circuit]).items()},
        "places": {edge_name(edge): ", ".join(at) for edge, at in places.items() if at}, "start": 0.0,
        "told": "" if known else "The file does not tell the shape of its model: empty layers and heads are not known.",
    }


def _of_scores(scores: Any, points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    mean, edges, made = scores.mean(), scores.edges, scores.provenance
    sizes = np.abs(mean)
    order = np.argsort(-np.where(np.isfinite(sizes), sizes, -np.inf), kind="stable")
    order = order[np.isfinite(sizes[order])]
    group = edges.n_heads // edges.n_kv_heads
    shared = np.isin(edges.receivers.kind[edges.receiver[order]], (KEYS, VALUES))
    reached = np.cumsum(np.where(shared, group, 1))
    taken = order[:int((reached <= DRAWN).sum())]
    low, high = bootstrap(scores.values[taken].T)
    lines = [(edge, float(mean[i]), low[at], high[at]) for at, i in enumerate(taken) for edge in edges.edges(int(i))]
    told = _said(made.measure, made.metric, made.task)
    data = _graph(lines, [], [edges.n_heads] * edges.n_layers, told, points)
    return data | {
        "name": f"edges by {made.measure}", "model": str(made.model.get("name", "")), "task": str(made.task.get("name", "")),
        "citation": "", "roles": {}, "places": {},
        "total": int(reached[-1]) if len(order) else 0,
        "weaker": _weaker(sizes[order[len(taken):]], reached[len(taken):]),
        "start": abs(lines[min(START, len(lines)) - 1][1]) if lines else 0.0,
        "told": f"{group} heads share keys and values: an edge into them is drawn to each." if group > 1 else "",
    }


def _graph(lines: Sequence[tuple[Edge, float, float, float]], nodes: Sequence[Node], heads: list[int], origin: str,
           points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Nodes and edges as plain lists, and what every graph tells."""
    every = in_order([*nodes, *(node for edge, *_ in lines for node in (edge.source, edge.target))])
    at = {node: i for i, node in enumerate(every)}
    ranked = sorted(lines, key=lambda line: -abs(line[1]) if math.isfinite(line[1]) else -math.inf)
    rest = np.array([abs(mean) for _, mean, *_ in ranked[DRAWN:] if math.isfinite(mean)])
    edges = [[at[edge.source], at[edge.target], edge.input if edge.input in ("q", "k", "v") else "",
              _number(mean, None), _number(low), _number(high)] for edge, mean, low, high in ranked[:DRAWN]]
    return {"heads": heads, "nodes": placed(every, heads), "edges": edges, "total": len(lines), "origin": origin,
            "weaker": _weaker(rest, DRAWN + 1 + np.arange(len(rest))), "points": [dict(point) for point in points]}


def _weaker(sizes: np.ndarray, reached: np.ndarray) -> list[tuple[float, int]]:
    """Thresholds below what is drawn with the edges that they keep, falling: of sizes and how many edges each reaches."""
    if not len(sizes):
        return []
    at = np.unique(np.geomspace(1, len(sizes), WEAKER).astype(int)) - 1
    return list({float(sizes[i]): int(reached[int((sizes >= sizes[i]).sum()) - 1]) for i in at}.items())


def _number(value: float, digits: int | None = 4) -> float | None:
    if not math.isfinite(value):
        return None
    return float(value) if digits is None else float(f"{value:.{digits}g}")


def _said(method: str, metric: Any, task: Any) -> str:
    """Where scores come from, in one line."""
    told = dict(task) if isinstance(task, Mapping) else {}
    parts = [f"scores by {method}" if method else "scores", f"in units of {str(metric).replace('_', ' ')}" if metric else "",
             f"mean of {plural(int(told['n']), 'prompt')}" + (f" of {told['name']}" if told.get("name") else "")
             if told.get("n") else ""]
    return ", ".join(part for part in parts if part) if any(parts[1:]) or method else ""


def _judged(judged: Mapping[str, Any], made: Mapping[str, Any], edges: int) -> dict[str, Any]:
    """The faithfulness that a circuit's file tells, of all its edges."""
    prompts = made.get("judged_on")
    name = prompts.get("name", "") if isinstance(prompts, Mapping) else ""
    how = f"{judged.get('ablation', '')} ablation, {str(judged.get('metric', '')).replace('_', ' ')}; told by the file"
    return {"threshold": 0.0, "edges": edges, "file": True, "how": how + (f", on prompts of {name}" if name else ""),
            **{part: judged.get(part) for part in ("faithfulness", "low", "high", "n")}}

"""``OverlapView``: what circuits of several tasks share: a matrix of pairs, intersections (UpSet), their union as a graph.

Every number stands beside what chance gives: the average of random circuits with as many heads (or edges) in each layer.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from interp.core.circuit import Circuit, Edge, Node
from interp.core.errors import InterpError
from interp.core.overlap_many import intersections, pairs, weighted_pairs
from interp.core.universe import Shape, Universe, universe
from interp.views.widgets import sources
from interp.views.widgets.circuit import circuit_of, told_scores
from interp.views.widgets.graph_data import in_order, placed, unplaced
from interp.views.widgets.state import HeadState
from interp.views.widgets.view import View, attached

BARS = 40
"""Intersections that are drawn."""
DRAWN = 2000
"""Edges of the union that are drawn; of more, those that most circuits have."""
ITEMS = 2_500_000
"""Numbers that the random exchanges of weights take: of large models fewer exchanges are made."""


class OverlapView(View):
    """Matrix, UpSet bars and union graph of circuits, each beside chance."""

    kind = "overlap"
    _esm = sources.script("overlap")


def overlap_view(shown: Any, state: HeadState | None = None, *, shape: Shape | None = None, **traits: Any) -> OverlapView:
    """What circuits of one model share, beside chance.

    Args:
        shown: circuits by name, or a list of them (a ``Circuit``, its file or the file's content each); or what
            ``interp compare --out`` wrote (its file or content).
        state: of another view, to be linked with.
        shape: of the model; None: as the circuits tell it.
        traits: of the state, ``theme`` for example.

    Raises:
        InterpError: fewer than two circuits; of different models; no shape.
    """
    return OverlapView(attached("overlap", payload(shown, shape=shape), state, **traits))


def payload(shown: Any, *, shape: Shape | None = None) -> dict[str, Any]:
    """What the script draws: pairs and intersections of heads and (where all circuits have them) of edges; the union."""
    circuits, told = _circuits(shown)
    shape = shape or told or Shape.of_circuits(*circuits.values())
    heads = [shape.n_heads] * shape.n_layers
    kinds = {node.kind for one in circuits.values() for node in one.nodes}
    there = {"heads": "head" in kinds, "nodes": "mlp" in kinds, "edges": all(one.edges for one in circuits.values())}
    units = [unit for unit, shown in there.items() if shown] or ["heads"]
    compared = {unit: _unit(circuits, universe(shape, unit)) for unit in units}
    return {"heads": heads, "tasks": list(circuits), "units": compared, **_union(circuits, heads, shape)}


def _circuits(shown: Any) -> tuple[dict[str, Circuit], Shape | None]:
    """Circuits by name, and the model's shape if it is told apart from them."""
    if isinstance(shown, str | Path):
        try:
            shown = json.loads(Path(shown).read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError) as error:
            raise InterpError(f"read the comparison {shown}", str(error), "give a file of interp compare --out") from error
    if isinstance(shown, Mapping) and "intersections" in shown:
        return _compared(shown)
    if isinstance(shown, Mapping):
        found = {str(name): circuit_of(one) for name, one in shown.items()}
    elif isinstance(shown, Sequence):
        read = [circuit_of(one) for one in shown]
        names = [one.task or one.name for one in read]
        if len(set(names)) < len(names) or not all(names):
            names = [one.name or f"circuit {i + 1}" for i, one in enumerate(read)]
        if len(set(names)) < len(names):
            names = [f"{name} {i + 1}" for i, name in enumerate(names)]
        found = dict(zip(names, read, strict=True))
    else:
        raise InterpError("compare circuits", f"a {type(shown).__name__} holds none", "give circuits by name, or a list")
    if len(found) < 2:
        raise InterpError(f"compare {len(found)} circuits", "that is none or one alone", "give two or more")
    return found, None


def _compared(told: Mapping[str, Any]) -> tuple[dict[str, Circuit], Shape]:
    """The circuits that a comparison's intersections list."""
    items: dict[str, list[str]] = {str(name): [] for name in told["circuits"]}
    for row in told["intersections"]:
        for name in row["circuits"]:
            items[name] += row["items"]
    edges = told["unit"] == "edges"
    return {name: Circuit(name=name, edges=tuple(map(Edge.parse, some)) if edges else (),
                          nodes=() if edges else tuple(map(Node.parse, some))) for name, some in items.items()
            }, Shape(**told["shape"])


def _unit(circuits: Mapping[str, Circuit], among: Universe) -> dict[str, Any]:
    """Pairs and intersections of heads or of edges."""
    names = list(circuits)
    found = pairs(circuits, among).to_dict("records")
    weights = {name: _weights(circuit, among) for name, circuit in circuits.items()}
    draws = int(min(999, max(199, ITEMS // len(among))))
    by_weight = weighted_pairs(weights, among, n=draws).to_dict("records") if all(weights.values()) else []
    cells = []
    for i, row in enumerate(found):
        cell = {"a": names.index(row["a"]), "b": names.index(row["b"]), "shared": row["shared"],
                "union": row["size_a"] + row["size_b"] - row["shared"], "value": row["jaccard"], "chance": row["matched"],
                "anywhere": row["chance"], "p": row["p_holm"]}
        if by_weight:
            one = by_weight[i]
            cell["weighted"] = {"value": one["weighted"], "chance": one["matched"], "p": one["p_holm"]}
        cells.append(_plain(cell))
    cut = intersections(circuits, among)
    largest = cut.assign(size=cut[["count", "chance"]].max(axis=1)).nlargest(BARS, "size").index
    bars = [{"in": [names.index(name) for name in row["circuits"]], "count": int(row["count"]),
             "chance": float(row["chance"]), "heads": _heads(row["items"], among.unit)}
            for row in cut.loc[sorted(largest)].to_dict("records")]
    sizes = [len(among.members(circuit)) for circuit in circuits.values()]
    return {"n": len(among), "sizes": sizes, "pairs": cells, "bars": bars, "more": len(cut) - len(bars), "draws": draws,
            "weighted": bool(by_weight)}


def _weights(circuit: Circuit, among: Universe) -> dict[Any, float]:
    """Sizes of the scores of a circuit's edges, or of nodes the sums over the edges out of them; empty where the circuit
    does not tell the scores of all its edges."""
    found: dict[Any, float] = {}
    told = told_scores(circuit)
    if len(told) < len({(unplaced(edge.source), unplaced(edge.target), edge.input) for edge in circuit.edges}):
        return found
    for edge, (score, *_) in told.items():
        for item in among.shape.plain(edge) if among.unit == "edges" else [edge.source]:
            if item in among.strata:
                found[item] = found.get(item, 0.0) + abs(score)
    return found


def _heads(items: Sequence[str], unit: str) -> list[list[int]]:
    """The heads among items, or at the ends of items that are edges."""
    nodes = [Node.parse(item) for item in items] if unit != "edges" else [
        node for edge in map(Edge.parse, items) for node in (edge.source, edge.target)]
    found = {(node.layer or 0, node.head or 0): None for node in nodes if node.kind == "head" and node.attention == "self"}
    return [list(at) for at in sorted(found)]


def _union(circuits: Mapping[str, Circuit], heads: list[int], shape: Shape) -> dict[str, Any]:
    """Nodes and edges of all circuits with the numbers of the circuits that have them."""
    having: dict[Edge, list[int]] = {}
    in_node: dict[Node, list[int]] = {}
    for i, circuit in enumerate(circuits.values()):
        for one in {one for edge in circuit.edges for one in shape.plain(edge)}:
            having.setdefault(one, []).append(i)
        for node in {unplaced(node) for node in circuit.nodes}:
            in_node.setdefault(node, []).append(i)
    ranked = sorted(having, key=lambda edge: (-len(having[edge]), str(edge)))
    for node in {end for edge in ranked for end in (edge.source, edge.target)} - set(in_node):
        in_node[node] = sorted({i for edge in ranked if node in (edge.source, edge.target) for i in having[edge]})
    every = in_order(in_node)
    at = {node: i for i, node in enumerate(every)}
    nodes = [one | {"in": in_node[node]} for one, node in zip(placed(every, heads), every, strict=True)]
    edges = [[at[edge.source], at[edge.target], edge.input if edge.input in ("q", "k", "v") else "", having[edge]]
             for edge in ranked[:DRAWN]]
    return {"nodes": nodes, "edges": edges, "total": len(ranked)}


def _plain(cell: dict[str, Any]) -> dict[str, Any]:
    """NaN as null."""
    return {name: _plain(value) if isinstance(value, dict) else None if isinstance(value, float) and not math.isfinite(value)
            else value for name, value in cell.items()}

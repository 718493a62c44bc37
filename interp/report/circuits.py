"""Which circuits belong on a page, and a circuit as the page shows it: its graph, its size, what it carries, its edges."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from interp.core.circuit import Circuit, Edge
from interp.core.errors import InterpError
from interp.core.universe import Shape, universe
from interp.report.panels import Panel
from interp.views import labels
from interp.views.svg.circuit import circuit_graph, strongest

DRAWN = 400
"""Edges of a graph that are drawn, the strongest first."""
LISTED = 150
"""Edges that are listed, the strongest first; JSON holds all."""


def shipped_circuits(model: Mapping[str, Any]) -> tuple[Circuit, ...]:
    """The circuits that ship with the project and were found in the very weights that ``model`` (a provenance) names."""
    package = Path(__file__).resolve().parent.parent
    found: dict[str, Circuit] = {}
    for place in (package.parent / "circuits", package / "_data" / "circuits"):
        for path in sorted((place / Path(str(model.get("name"))).name).glob("*.json")):
            found.setdefault(path.stem, Circuit.load(path))
    mine = model.get("weights_sha256")
    return tuple(one for one in found.values() if mine and _model(one).get("weights_sha256") == mine)


def check_fit(circuit: Circuit, model: Mapping[str, Any], tasks: Sequence[str], shape: tuple[int, int]) -> None:
    """Refuse a circuit of another model, of weights other than these, of no task of the page, or with heads that there are
    not. ``shape``: layers, heads."""
    asked = f"show the circuit {circuit.name or circuit.task or 'without a name'}"
    told = _model(circuit)
    mine, theirs = model.get("weights_sha256"), told.get("weights_sha256")
    name = str(told.get("name") or circuit.model)
    if mine and theirs:
        if mine != theirs:
            raise InterpError(asked, f"it was found in other weights ({name}, {str(theirs)[:8]}) than the report's "
                              f"({model.get('name')}, {str(mine)[:8]})", "find it again in this model")
    elif _short(name) != _short(str(model.get("name"))):
        raise InterpError(asked, f"it is of the model {name or '(none named)'}, the report of {model.get('name')}",
                          "give a circuit of this model")
    if circuit.task not in tasks:
        raise InterpError(asked, f"it is of the task {circuit.task or '(none named)'}, the report of {', '.join(tasks)}",
                          f"add --task {circuit.task}" if circuit.task else "name its task in the file")
    known = circuit.provenance.get("shape")
    if isinstance(known, Mapping) and (known.get("n_layers"), known.get("n_heads")) != shape:
        raise InterpError(asked, f"its model has {known.get('n_layers')} layers of {known.get('n_heads')} heads, this one "
                          f"{shape[0]} of {shape[1]}", "give a circuit of this model")
    if missing := [node for node in circuit.nodes if (node.layer or 0) >= shape[0] or (node.head or 0) >= shape[1]]:
        raise InterpError(asked, f"{shape[0]} layers of {shape[1]} heads have no {missing[0]}",
                          "give a circuit of this model")


def shape_of(circuit: Circuit, layers: int, heads: int) -> Shape:
    """The shape that the file tells, or what is known of it: layers and heads."""
    told = circuit.provenance.get("shape")
    return Shape(**told) if isinstance(told, Mapping) else Shape(layers, heads)


def scores_of(circuit: Circuit) -> dict[Edge, float]:
    """Edge -> its score, where the file tells it."""
    told = circuit.provenance.get("scores", {})
    return {edge: float(told[str(edge)]) for edge in circuit.edges if str(edge) in told}


def membership(circuits: Sequence[Circuit]) -> dict[str, list[str]]:
    """Head -> names of the circuits that have it."""
    found: dict[str, list[str]] = {}
    for circuit in circuits:
        for head in circuit.heads():
            found.setdefault(str(head), []).append(name_of(circuit))
    return found


def name_of(circuit: Circuit) -> str:
    """What the circuit is called."""
    return circuit.name or circuit.task


def judged(circuit: Circuit) -> dict[str, Any] | None:
    """What the file says that the circuit does by itself (``Judgement.summary``); None where it says nothing."""
    told = circuit.provenance.get("judged")
    return dict(told) if isinstance(told, Mapping) and "faithfulness" in told else None


def section(circuit: Circuit, first: Panel, prompts: Mapping[str, Any], identifier: str) -> dict[str, Any]:
    """What the page says of one circuit; ``first``: the task's first measure, ``prompts``: the provenance of its prompts."""
    layers, heads = first.mean.shape
    scores, shape = scores_of(circuit), shape_of(circuit, layers, heads)
    drawn = strongest(circuit, scores, DRAWN)
    told = judged(circuit)
    among = len(universe(shape, "edges")) if "shape" in circuit.provenance else 0
    random = [float(value) for value in circuit.provenance.get("random", ()) if np.isfinite(value)]
    return {
        "name": name_of(circuit),
        "anchor": f"{identifier}-section",
        "citation": circuit.citation,
        "edges": len(circuit.edges),
        "among": among,
        "share": labels.percent(len(circuit.edges) / among) if among else "–",
        "heads": len(circuit.heads()),
        "all_heads": layers * heads,
        "mlps": sum(node.kind == "mlp" for node in circuit.nodes),
        "judged": None if told is None else _judgement(told, _prompts(circuit)),
        "random": "" if not random else labels.number(max(random), 2),
        "n_random": len(random),
        "svg": circuit_graph(circuit, drawn, scores, layers=layers, heads=heads, identifier=identifier),
        "undrawn": len(circuit.edges) - len(drawn),
        "scored": bool(scores),
        "method": _method(circuit),
        "nodes": _nodes(circuit, scores, first),
        "has_roles": bool(circuit.roles),
        "listed": [_edge(edge, scores) for edge in strongest(circuit, scores, LISTED)],
        "unlisted": max(0, len(circuit.edges) - LISTED),
        "notes": _notes(circuit, prompts, told),
    }


def _judgement(told: Mapping[str, Any], which: str) -> dict[str, Any]:
    def stretch(value: str, low: str, high: str) -> str:
        if value not in told:
            return ""
        ends = labels.interval(float(told.get(low, np.nan)), float(told.get(high, np.nan)), 2)
        return f"{labels.fixed(float(told[value]), 2)} {ends}"

    return {
        "faithfulness": stretch("faithfulness", "low", "high"),
        "completeness": stretch("completeness", "completeness_low", "completeness_high"),
        "worst": labels.fixed(float(told["worst_5_percent"]), 2) if "worst_5_percent" in told else "",
        "ablation": told.get("ablation", ""),
        "n": told.get("n", ""),
        "which": which,
        "warnings": list(told.get("warnings", ())),
    }


def _prompts(circuit: Circuit) -> str:
    """What the file says of the prompts that it was judged on."""
    hashes = [of.get("tokens_sha256") if isinstance(of := circuit.provenance.get(name), Mapping) else None
              for name in ("judged_on", "task")]
    return "prompts that it was not found on" if all(hashes) and hashes[0] != hashes[1] else "prompts"


def _method(circuit: Circuit) -> str:
    told = circuit.provenance
    task = told.get("task")
    n = task.get("n") if isinstance(task, Mapping) else None
    return " ".join(filter(None, [str(told.get("method") or ""), f"on {n} prompts" if n else ""]))


def _notes(circuit: Circuit, prompts: Mapping[str, Any], told: Mapping[str, Any] | None) -> list[str]:
    said = []
    if told is None:
        said.append("The file does not say what the circuit does by itself: interp evaluate measures it.")
    found_on = circuit.provenance.get("task")
    mine, theirs = prompts.get("options"), found_on.get("options") if isinstance(found_on, Mapping) else None
    if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
        other = sorted(key for key in {*mine, *theirs} if mine.get(key) != theirs.get(key))
        if other:
            said.append("It was found on prompts made with other options: " + ", ".join(
                f"{key} {theirs.get(key)} (here {mine.get(key)})" for key in other) + ".")
    if not _model(circuit).get("weights_sha256"):
        said.append("The file names the model, not its weights: that these are the same is taken on trust.")
    if "not listed" in circuit.provenance:
        said.append(f"Not listed in the file: {circuit.provenance['not listed']}.")
    return said


def _nodes(circuit: Circuit, scores: Mapping[Edge, float], first: Panel) -> list[dict[str, Any]]:
    """The circuit's heads: role, edges in and out by input, its strongest edge, its rank by the page's first measure."""
    ranks = first.ranks()
    rows = []
    for head in circuit.heads():
        into = [e for e in circuit.edges if e.target.kind == "head" and e.target.as_head() == head]
        out = [e for e in circuit.edges if e.source.kind == "head" and e.source.as_head() == head]
        best = max([*into, *out], key=lambda edge: abs(scores.get(edge, 0.0)), default=None)
        counts = {name: sum(edge.input == name for edge in into) for name in ("q", "k", "v")}
        place = ranks[head.layer, head.head] if first.scores.unit == "head" else np.nan
        roles = dict.fromkeys(role for node, role in circuit.roles.items() if node.kind == "head" and node.as_head() == head)
        rows.append({
            "head": str(head),
            "order": head.layer * first.mean.shape[1] + head.head,
            "role": ", ".join(roles),
            "into": len(into),
            "by_input": ", ".join(f"{count} {name}" for name, count in counts.items() if count),
            "out": len(out),
            "best": "" if best is None or best not in scores else f"{best} {labels.number(scores[best], 2)}",
            "best_size": 0.0 if best is None else abs(scores.get(best, 0.0)),
            "rank": int(place) if np.isfinite(place) else "–",
        })
    return rows


def _edge(edge: Edge, scores: Mapping[Edge, float]) -> dict[str, Any]:
    return {
        "source": str(edge.source),
        "target": str(edge.target),
        "input": {None: "", "mlp": "", "out": ""}.get(edge.input, edge.input),
        "score": labels.number(scores[edge]) if edge in scores else "–",
        "size": abs(scores.get(edge, 0.0)),
    }


def _model(circuit: Circuit) -> Mapping[str, Any]:
    told = circuit.provenance.get("model")
    return told if isinstance(told, Mapping) else {}


def _short(name: str) -> str:
    return name.rstrip("/").rsplit("/", 1)[-1].lower()

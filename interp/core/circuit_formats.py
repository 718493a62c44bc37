"""Circuits in other tools' files: the graphs of EAP-IG and the MIB benchmark, and plain lists of heads.

EAP-IG writes a graph as one JSON object::

    {"cfg": {"n_layers": 12, "n_heads": 12, "parallel_attn_mlp": false, "d_model": 768},
     "nodes": {"input": {"in_graph": true}, "a0.h0": {"in_graph": false, "score": 0.1}, "m0": ..., "logits": ...},
     "edges": {"input->a0.h0<q>": {"score": 0.25, "in_graph": true}, "a0.h0->m0": ..., "m0->logits": ...}}

with every edge of the model, in the circuit or not. It knows no shared keys and values, no positions and no roles.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from interp.core.circuit import Circuit, Edge, Node
from interp.core.errors import InterpError
from interp.core.head import Head

_NODE = re.compile(r"input|logits|a(\d+)\.h(\d+)|m(\d+)")
_EDGE = re.compile(r"([^<>]+?)->([^<>]+?)(?:<([qkv])>)?")


def to_eap_ig(circuit: Circuit, *, n_layers: int, n_heads: int, d_model: int, parallel: bool = False,
              scores: Mapping[Edge, float] | None = None) -> str:
    """The circuit as JSON that EAP-IG's ``Graph.from_json`` and the MIB benchmark read: every edge of the shape, those of
    the circuit marked; a circuit without edges marks all edges among its nodes and the embedding.

    Args:
        scores: of edges (see ``interp.discovery.scored_edges``); 0 for those that are missing, EAP-IG has no other word.
        parallel: whether the MLP reads what attention reads (``parallel_attn_mlp``).

    Raises:
        InterpError: the circuit has a node or an edge that this shape does not have, or names positions.
    """
    asked = f"write the circuit {circuit.name} for EAP-IG" if circuit.name else "write a circuit for EAP-IG"
    if any(node.position is not None for node in circuit.nodes):
        raise InterpError(asked, "it names positions, which that format does not have", "leave the positions out")
    every = list(_edges(n_layers, n_heads, parallel))
    known = set(every)
    nodes = dict.fromkeys([Node("embed"), *(edge.target for edge in every)])
    for node in circuit.nodes:
        if node not in nodes:
            raise InterpError(asked, f"{n_layers} layers of {n_heads} heads have no {node}", "give the model's own shape")
    inside = {one for edge in circuit.edges for one in _with_inputs(edge)}
    if not circuit.edges:
        among = {*circuit.nodes, Node("embed"), Node("logits")} if circuit.nodes else set()
        inside = {edge for edge in every if edge.source in among and edge.target in among}
    if missing := inside - known:
        raise InterpError(asked, f"there is no edge {min(map(str, missing))} in that shape", "give the model's own shape")
    touched = {node for edge in inside for node in (edge.source, edge.target)} | set(circuit.nodes)
    record = {
        "cfg": {"n_layers": n_layers, "n_heads": n_heads, "parallel_attn_mlp": parallel, "d_model": d_model},
        "nodes": {_node_name(node): {"in_graph": node in touched or node.kind == "logits"} for node in nodes},
        "edges": {_edge_name(edge): {"score": float((scores or {}).get(edge, 0.0)), "in_graph": edge in inside}
                  for edge in every},
    }
    return json.dumps(record)


def from_eap_ig(text: str, **about: Any) -> Circuit:
    """The circuit of a graph that EAP-IG wrote: its edges with ``in_graph``, and its nodes where it holds no such edge.

    Args:
        about: name, model, task, citation, roles, provenance of the circuit.

    Raises:
        InterpError: text that is no such graph.
    """
    record = _record(text)
    edges = tuple(_edge(name) for name, entry in record["edges"].items() if _inside(entry))
    nodes = (_node(name) for name, entry in record["nodes"].items() if _inside(entry))
    return Circuit(nodes=() if edges else tuple(nodes), edges=edges, **about)


def scores_from_eap_ig(text: str) -> dict[Edge, float]:
    """The score of every edge in a graph that EAP-IG wrote, by edge."""
    return {_edge(name): float(entry["score"]) for name, entry in _record(text)["edges"].items()
            if isinstance(entry, dict) and entry.get("score") is not None}


def from_heads(heads: str | Path | Iterable[str | Head | tuple[int, int]] | Mapping[str, Iterable[str]],
               **about: Any) -> Circuit:
    """A circuit of heads from a list: text with heads between commas, spaces or lines (``9.9, L10H0, a7.h3``), a file of it,
    pairs (layer, head), or a table role -> heads.

    Lines of the form ``name mover: 9.9, 10.0`` give roles; what follows a ``#`` is a remark.
    """
    if isinstance(heads, Path):
        heads = heads.read_text(encoding="utf-8")
    roles: dict[Node, str] = {}
    if isinstance(heads, str):
        found = [node for line in heads.splitlines() for node in _of_line(line.partition("#")[0], roles)]
    elif isinstance(heads, Mapping):
        roles = {_head(head): role for role, members in heads.items() for head in members}
        found = list(roles)
    else:
        found = [_head(head) for head in heads]
    if not found:
        raise InterpError("read a list of heads", "it names none", "write heads as 9.9, L9H9 or a9.h9")
    return Circuit(nodes=tuple(found), roles=roles, **about)


def to_heads(circuit: Circuit) -> str:
    """The heads of a circuit as text that ``from_heads`` reads: a line for each role, those without one first."""
    lines: dict[str | None, list[str]] = {None: []}
    for node in circuit.nodes:
        if node.kind == "head" and str(node.as_head()) not in lines.setdefault(circuit.roles.get(node), []):
            lines[circuit.roles.get(node)].append(str(node.as_head()))
    return "".join(("" if role is None else f"{role}: ") + ", ".join(heads) + "\n" for role, heads in lines.items() if heads)


def _of_line(line: str, roles: dict[Node, str]) -> list[Node]:
    role, colon, members = line.rpartition(":")
    found = [_head(word) for word in re.split(r"[\s,;]+", members) if word]
    roles.update({head: role.strip() for head in found} if colon else {})
    return found


def _head(head: str | Head | tuple[int, int]) -> Node:
    return Node.of(Head(*head) if isinstance(head, tuple) else Head.parse(head))


def _edges(n_layers: int, n_heads: int, parallel: bool) -> Iterator[Edge]:
    """Every edge of a decoder with an MLP in each layer and keys of their own for every head."""
    before = [Node("embed")]
    for layer in range(n_layers):
        heads, mlp = [Node("head", layer, head) for head in range(n_heads)], Node("mlp", layer)
        yield from (Edge(source, head, letter) for source in before for head in heads for letter in "qkv")
        yield from (Edge(source, mlp, "mlp") for source in (before if parallel else [*before, *heads]))
        before += [*heads, mlp]
    yield from (Edge(source, Node("logits"), "out") for source in before)


def _with_inputs(edge: Edge) -> list[Edge]:
    """An edge into each input that it can mean, where it names none."""
    inputs = {"head": ("q", "k", "v"), "mlp": ("mlp",), "logits": ("out",)}[edge.target.kind]
    return [edge] if edge.input is not None else [Edge(edge.source, edge.target, name) for name in inputs]


def _node_name(node: Node) -> str:
    return {"embed": "input", "logits": "logits", "mlp": f"m{node.layer}", "head": f"a{node.layer}.h{node.head}"}[node.kind]


def _edge_name(edge: Edge) -> str:
    into = f"<{edge.input}>" if edge.target.kind == "head" else ""
    return f"{_node_name(edge.source)}->{_node_name(edge.target)}{into}"


def _node(name: str) -> Node:
    match = _NODE.fullmatch(name)
    if match is None:
        raise InterpError(f"read {name!r} as a node of EAP-IG", "it is not input, a0.h0, m0 or logits", "check the file")
    if name in ("input", "logits"):
        return Node("embed" if name == "input" else "logits")
    return Node("mlp", int(match[3])) if match[3] else Node("head", int(match[1]), int(match[2]))


def _edge(name: str) -> Edge:
    match = _EDGE.fullmatch(name)
    if match is None:
        raise InterpError(f"read {name!r} as an edge of EAP-IG", "it is not of the form a0.h0->a1.h0<q>", "check the file")
    target = _node(match[2])
    return Edge(_node(match[1]), target, match[3] or {"mlp": "mlp", "logits": "out"}.get(target.kind))


def _inside(entry: Any) -> bool:
    """Older files write true or false in place of the entry."""
    return bool(entry.get("in_graph", False)) if isinstance(entry, dict) else bool(entry)


def _record(text: str) -> dict[str, Any]:
    asked = "read a graph of EAP-IG"
    try:
        record = json.loads(text)
    except json.JSONDecodeError as error:
        raise InterpError(asked, f"it is not JSON ({error})", "give text written by EAP-IG's Graph.to_json") from error
    if not isinstance(record, dict) or not all(isinstance(record.get(part), dict) for part in ("nodes", "edges")):
        raise InterpError(asked, "it has no tables of nodes and edges", "give text written by EAP-IG's Graph.to_json")
    return record

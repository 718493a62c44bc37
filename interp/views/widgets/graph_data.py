"""Heads, MLPs and edges of circuits as the scripts draw them: rows, slots and plain lists.

Nodes that differ in their position alone are one node here, and so are their edges.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from interp.core.circuit import Circuit, Edge, Node
from interp.core.universe import Shape

ENCODERS = ("encoder", "vision")


def unplaced(node: Node) -> Node:
    """The node without its position."""
    return node if node.position is None else Node(node.kind, node.layer, node.head, node.attention)


def edge_name(edge: Edge) -> str:
    """An edge as the views name it: ``L0H5->L2H1<k>``; into MLPs and the output without the last part."""
    inputs = f"<{edge.input}>" if edge.input in ("q", "k", "v") else ""
    return f"{unplaced(edge.source)}->{unplaced(edge.target)}{inputs}"


def heads_of(circuits: Sequence[Circuit]) -> tuple[list[int], bool]:
    """Heads of each layer of the circuits' model, and whether its shape was told; else as many as the circuits name."""
    for one in circuits:
        if "shape" in one.provenance:
            shape = Shape(**one.provenance["shape"])
            return [shape.n_heads] * shape.n_layers, True
    nodes = [node for one in circuits for node in one.nodes if node.layer is not None and node.attention not in ENCODERS]
    layers = max((node.layer or 0 for node in nodes), default=0) + 1
    return [max((node.head or 0 for node in nodes), default=0) + 1] * layers, False


def placed(nodes: Iterable[Node], heads: Sequence[int]) -> list[dict[str, Any]]:
    """Nodes with their row (layers upwards; an MLP half a row above its heads) and slot (the head; cross-attention's after
    the others; none for what is no head)."""
    nodes = list(nodes)
    below = max((node.layer or 0 for node in nodes if node.attention in ENCODERS), default=-2) + 2
    found = []
    for node in nodes:
        base = 0 if node.attention in ENCODERS else below
        top = base + len(heads) if base == below else below - 1
        own = base + (node.layer or 0)
        row = {"embed": base - 1, "logits": top, "mlp": own + 0.5}.get(node.kind, own)
        slot = None if node.head is None else node.head + (max(heads) if node.attention == "cross" else 0)
        found.append({"name": str(node), "kind": node.kind, "row": row, "slot": slot, "layer": node.layer, "head": node.head,
                      "attention": node.attention})
    return found


def merged_roles(circuits: Iterable[Circuit]) -> Mapping[Node, str]:
    """Roles of nodes whatever their positions; several roles of one node are listed."""
    found: dict[Node, dict[str, None]] = {}
    for circuit in circuits:
        for node, role in circuit.roles.items():
            found.setdefault(unplaced(node), {})[role] = None
    return {node: ", ".join(roles) for node, roles in found.items()}


def in_order(nodes: Iterable[Node]) -> list[Node]:
    """Each node once, in the order of computation."""
    return sorted(set(map(unplaced, nodes)), key=lambda node: (node.depth, node.head or 0, str(node)))

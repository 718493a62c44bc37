"""The graph of a model, and sets of its edges: as a mask [edge] of ``interp.engine.edges.Edges``, or as a ``Circuit``.

Nodes are the embedding, the heads, the MLPs and the output; edges go into q, k and v of a head separately, into MLPs and
into the output. With grouped keys and values one edge serves all query heads of the group: a circuit names it once for each
of them. In a parallel block the MLP has no edges from the heads of its own layer. Behind a post-norm a head's part is what
its exchange changes in the norm's output (see ``interp.engine.edge_patching``).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from interp.core.circuit import Circuit, Edge, Node
from interp.core.errors import InterpError
from interp.engine.edge_runs import graph_of
from interp.engine.edges import RECEIVERS, Edges, EdgeScores


def edges_of(model: Any) -> Edges:
    """Every node and edge of a model.

    Raises:
        InterpError: an architecture whose residual stream is no plain sum, or whose reading points are unknown.
    """
    return graph_of(model).edges


def edges_among(edges: Edges, nodes: np.ndarray) -> np.ndarray:
    """The edges between some nodes, and from them to the output: mask [edge] from a mask of nodes [sender].

    An edge into keys or values that several heads share belongs to all of them: it is among the nodes where one of the heads
    is.
    """
    into = (edges.feeds & nodes).any(1) | (edges.receivers.kind == RECEIVERS.index("output"))
    return nodes[edges.sender] & into[edges.receiver]


def nodes_of(edges: Edges, chosen: np.ndarray) -> np.ndarray:
    """The nodes that some edges touch: mask [sender] from a mask of edges [edge]. Shared keys count for every head of their
    group that sends or queries, and for the whole group where none does."""
    sends = np.zeros(len(edges.senders), dtype=bool)
    sends[edges.sender[chosen]] = True
    reading = np.zeros(len(edges.receivers), dtype=bool)
    reading[edges.receiver[chosen]] = True
    shared = edges.feeds.sum(1) > 1
    alone = edges.feeds[reading & ~shared].any(0) | sends
    groups = edges.feeds[reading & shared]
    return alone | groups[~(groups & alone).any(1)].any(0) if len(groups) else alone


def prune(edges: Edges, chosen: np.ndarray) -> np.ndarray:
    """Without loose ends: the edges that lie on a path from the embedding to the output, mask [edge].

    Under resample ablation with all other edges corrupted nothing is lost: what nothing clean enters, carries what the
    corrupted run carries, and what nothing reads has no effect.
    """
    live = np.zeros(len(edges.senders), dtype=bool)
    live[0] = True
    forward = np.zeros(len(edges), dtype=bool)
    for receiver in range(len(edges.receivers)):
        mine = edge_slice(edges, receiver)
        forward[mine] = chosen[mine] & live[:edges.before[receiver]]
        live |= edges.feeds[receiver] & forward[mine].any()
    kept = np.zeros(len(edges), dtype=bool)
    read = np.zeros(len(edges.senders), dtype=bool)
    for receiver in reversed(range(len(edges.receivers))):
        mine = edge_slice(edges, receiver)
        wanted = not edges.feeds[receiver].any() or bool((edges.feeds[receiver] & read).any())
        kept[mine] = forward[mine] & wanted
        read[:edges.before[receiver]] |= kept[mine]
    return kept


def edge_slice(edges: Edges, receiver: int) -> slice:
    """The edges into one receiver, sender by sender."""
    return slice(int(edges.start[receiver]), int(edges.start[receiver] + edges.before[receiver]))


def circuit_of(edges: Edges, chosen: np.ndarray, *, position: str | None = None, **about: Any) -> Circuit:
    """Some edges as a circuit.

    Args:
        position: the name of the tokens where the senders write, where the edges are those of one place: it is set on each
            sender, and on receivers that read at the place they stand at (queries, MLPs, the output), not on heads whose
            keys and values are read from elsewhere.
        about: name, model, task, citation, provenance, roles of the circuit.
    """
    found = (edge for i in np.flatnonzero(chosen) for edge in edges.edges(int(i)))
    return Circuit(edges=tuple(edge if position is None else _placed(edge, position) for edge in found), **about)


def _placed(edge: Edge, position: str) -> Edge:
    def at(node: Node) -> Node:
        return Node(node.kind, node.layer, node.head, node.attention, position)

    return Edge(at(edge.source), edge.target if edge.input in ("k", "v") else at(edge.target), edge.input)


def mask_of(edges: Edges, circuit: Circuit) -> np.ndarray:
    """The edges of a circuit as a mask [edge], whatever their positions; a circuit without edges gives all edges among its
    nodes, the embedding included. An edge into no named input of a head stands for all three.

    Raises:
        InterpError: the circuit has a node or an edge that the graph does not have.
    """
    asked = f"find the circuit {circuit.name} in a model" if circuit.name else "find a circuit in a model"
    if not circuit.nodes:
        return np.zeros(len(edges), dtype=bool)
    if not circuit.edges:
        places = {edges.sender_node(i): i for i in range(len(edges.senders))}
        nodes = np.zeros(len(edges.senders), dtype=bool)
        nodes[0] = True
        for node in circuit.nodes:
            if node.kind == "logits":
                continue
            if _plain(node) not in places:
                raise InterpError(asked, f"the model has no {node}", "take a circuit of this model")
            nodes[places[_plain(node)]] = True
        return edges_among(edges, nodes)
    known = {edge: i for i in range(len(edges)) for edge in edges.edges(i)}
    chosen = np.zeros(len(edges), dtype=bool)
    for edge in circuit.edges:
        inputs = {"head": ("q", "k", "v"), "mlp": ("mlp",), "logits": ("out",)}[edge.target.kind]
        for name in inputs if edge.input is None else (edge.input,):
            one = Edge(_plain(edge.source), _plain(edge.target), name)
            if one not in known:
                raise InterpError(asked, f"the model has no edge {one}", "take a circuit of this model")
            chosen[known[one]] = True
    return chosen


def scored_edges(scores: EdgeScores) -> Mapping[Edge, float]:
    """Mean scores by edge of a circuit; an edge into shared keys or values is divided evenly among the heads of its group,
    so that sums stay as they are."""
    mean, found = scores.mean(), {}
    for i in np.flatnonzero(np.isfinite(mean)):
        parts = scores.edges.edges(int(i))
        found |= {edge: float(mean[i]) / len(parts) for edge in parts}
    return found


def _plain(node: Node) -> Node:
    """The node without its position."""
    return Node(node.kind, node.layer, node.head, node.attention)

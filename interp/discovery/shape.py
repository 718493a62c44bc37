"""What circuit files tell beyond their edges: the shape of the model's graph, and the scores of the edges."""

from interp.core.circuit import Circuit
from interp.core.universe import Shape
from interp.discovery.graph import scored_edges
from interp.discovery.node_scores import NodeScores
from interp.engine.edges import RECEIVERS, Edges, EdgeScores


def shape_of(edges: Edges) -> Shape:
    """The shape that has these edges."""
    of = edges.receivers
    mlps = of.kind == RECEIVERS.index("mlp")
    layers = tuple(int(layer) for layer in of.layer[mlps])
    queries = {int(layer): int(n) for layer, n, kind in zip(of.layer, edges.before, of.kind, strict=True) if kind == 0}
    parallel = any(queries[int(layer)] == n for layer, n in zip(of.layer[mlps], edges.before[mlps], strict=True))
    shared = None if edges.n_kv_heads == edges.n_heads else edges.n_kv_heads
    return Shape(edges.n_layers, edges.n_heads, shared, None if len(layers) == edges.n_layers else layers, parallel)


def scores_of(circuit: Circuit, scores: EdgeScores | NodeScores) -> dict[str, float]:
    """Mean scores of a circuit's edges by name, of four digits."""
    known = scored_edges(scores if isinstance(scores, EdgeScores) else scores.to_edges())
    return {str(edge): float(f"{known[edge]:.4g}") for edge in circuit.edges if edge in known}

"""A circuit at the level of heads: embedding at the bottom, layers upwards, logits on top; q, k and v told apart."""

from collections.abc import Mapping, Sequence
from html import escape

from interp.core.circuit import Circuit, Edge, Node
from interp.views.labels import number

PITCH = 46.0
"""Between two heads of a layer, in CSS pixels; narrower where there are many."""
WIDEST = 640.0
RISE = 58.0
"""Between two layers."""
RADIUS = 13.0
SLOTS = 16
"""Up to so many heads a layer has a place for each; above, those of the circuit are spread over the width."""
MANY = 16
"""Above so many layers those without a node of the circuit are left out."""
PORT = {"q": -6.0, "k": 0.0, "v": 6.0}
"""Where an edge enters a head: query at the left, key in the middle, value at the right."""
Place = tuple[float, float]


def strongest(circuit: Circuit, scores: Mapping[Edge, float], most: int) -> list[Edge]:
    """At most ``most`` edges of a circuit, the largest scores (by size) first; edges without a score come last."""
    order = sorted(circuit.edges, key=lambda edge: -abs(scores[edge]) if edge in scores else 0.0)
    return order[:most]


def circuit_graph(circuit: Circuit, edges: Sequence[Edge], scores: Mapping[Edge, float], *, layers: int, heads: int,
                  identifier: str) -> str:
    """The graph as ``<svg>``.

    Args:
        edges: those that are drawn. scores: edge -> score; the sign is the colour, the size the width; grey if unknown.
        layers, heads: of the model; heads outside the circuit are small dots. identifier: unique in the page.

    Heads are circles named ``layer.head``, MLPs squares at the right, a half row above their layer's heads, as they are
    computed after them. Dashed: into queries. Dotted: into keys. Full: into values, MLPs and the logits.
    """
    rows = _rows(circuit, layers)
    places, width = _places(circuit, rows, heads)
    height = max(y for _, y in places.values()) + 26
    largest = max((abs(scores[edge]) for edge in edges if edge in scores), default=0.0)
    drawn = "".join(_edge(edge, scores, places, largest) for edge in reversed(edges))
    dots = "".join(_outside(rows, places, heads))
    nodes = "".join(_node(node, places[node]) for node in places)
    axis = "".join(
        f'<text class="a" text-anchor="end" x="34" y="{_height(rows, layer) + 3:.4g}">layer {layer}</text>' for layer in rows
    )
    title = (f"Graph of {circuit.name or circuit.task}: {len(circuit.heads())} heads, {len(edges)} of {len(circuit.edges)} "
             "edges drawn; the tables that follow list both")
    return (
        f'<svg class="circuit" id="{identifier}" role="img" aria-label="{escape(title)}" '
        f'viewBox="0 0 {width:.5g} {height:.5g}" '
        f'style="max-width:{width * 1.1:.0f}px">{axis}<g class="edges">{drawn}</g>{dots}<g class="nodes">{nodes}</g></svg>'
    )


def _rows(circuit: Circuit, layers: int) -> list[int]:
    """The layers that have a row."""
    used = {node.layer for node in circuit.nodes if node.layer is not None}
    return [layer for layer in range(layers) if layers <= MANY or layer in used]


def _height(rows: Sequence[int], layer: int) -> float:
    """The middle of a layer's heads; layer 0 is the lowest."""
    return 52 + RISE * (len(rows) - 1 - rows.index(layer)) + RISE / 2


def _pitch(heads: int) -> float:
    return min(PITCH, WIDEST / heads)


def _places(circuit: Circuit, rows: Sequence[int], heads: int) -> tuple[dict[Node, Place], float]:
    left, across = 44.0, _pitch(min(heads, SLOTS)) * min(heads, SLOTS)
    found: dict[Node, Place] = {}
    for node in circuit.nodes:
        plain = Node(node.kind, node.layer, node.head, node.attention)
        if plain in found:
            continue
        if node.kind == "head" and node.layer is not None and node.head is not None:
            if heads <= SLOTS:
                x = left + (node.head + 0.5) * _pitch(heads)
            else:
                inside = sorted({one.head for one in circuit.nodes if one.kind == "head" and one.layer == node.layer
                                 and one.head is not None})
                x = left + (inside.index(node.head) + 0.5) * across / len(inside)
            found[plain] = x, _height(rows, node.layer)
        elif node.kind == "mlp" and node.layer is not None:
            found[plain] = left + across + 26, _height(rows, node.layer) - RISE / 2
        else:
            found[plain] = left + across / 2, (22.0 if node.kind == "logits" else 52 + RISE * len(rows) + 18)
    return found, left + across + 52


def _edge(edge: Edge, scores: Mapping[Edge, float], places: Mapping[Node, Place], largest: float) -> str:
    (x, y), (to_x, to_y) = places[_plain(edge.source)], places[_plain(edge.target)]
    y, to_y = y - _reach(edge.source), to_y + _reach(edge.target)
    if edge.target.kind == "head":
        to_x += PORT.get(edge.input or "", 0.0)
    elif edge.target.kind == "logits":
        to_x += max(-30.0, min(30.0, (x - to_x) / 6))
    bend = max(12.0, 0.45 * (y - to_y))
    bow = 16.0 if abs(x - to_x) < 8 and y - to_y > RISE else 0.0
    score = scores.get(edge)
    share = abs(score) / largest if score is not None and largest > 0 else 0.04
    sign = "none" if score is None else "pos" if score >= 0 else "neg"
    said = f"{edge}" + ("" if score is None else f": {number(score)}")
    style = f"e {sign}" + (f" {edge.input}" if edge.input in PORT else "")
    ends = f'data-s="{escape(str(_plain(edge.source)))}" data-t="{escape(str(_plain(edge.target)))}"'
    return (
        f'<path class="{style}" {ends} d="M{x:.4g} {y:.4g}C{x + bow:.4g} {y - bend:.4g} {to_x + bow:.4g} '
        f'{to_y + bend:.4g} {to_x:.4g} {to_y:.4g}" stroke-width="{0.7 + 3.6 * share**0.5:.3g}" '
        f'opacity="{0.45 + 0.5 * share**0.5:.2f}"><title>{escape(said)}</title></path>'
    )


def _reach(node: Node) -> float:
    """Half the height of a node."""
    return {"head": RADIUS, "mlp": 10.0}.get(node.kind, 10.0)


def _node(node: Node, at: Place) -> str:
    x, y = at
    if node.kind == "head":
        shape, text = f'<circle cx="{x:.4g}" cy="{y:.4g}" r="{RADIUS:g}"/>', f"{node.layer}.{node.head}"
    else:
        wide = 12.0 if node.kind == "mlp" else 26.0
        round_ = 2 if node.kind == "mlp" else 10
        shape = f'<rect x="{x - wide:.4g}" y="{y - 10:.4g}" width="{2 * wide:g}" height="20" rx="{round_}"/>'
        text = f"m{node.layer}" if node.kind == "mlp" else node.kind
    name, label = escape(str(node)), f'<text x="{x:.4g}" y="{y + 3.4:.4g}">{text}</text>'
    return f'<g class="node {node.kind}" data-h="{name}"><title>{name}</title>{shape}{label}</g>'


def _outside(rows: Sequence[int], places: Mapping[Node, Place], heads: int) -> list[str]:
    """Dots for the heads that are not in the circuit, where every head has its place."""
    if heads > SLOTS:
        return []
    inside = {(node.layer, node.head) for node in places if node.kind == "head"}
    return [f'<circle class="out" cx="{44 + (head + 0.5) * _pitch(heads):.4g}" cy="{_height(rows, layer):.4g}" r="2"/>'
            for layer in rows for head in range(heads) if (layer, head) not in inside]


def _plain(node: Node) -> Node:
    return node if node.position is None else Node(node.kind, node.layer, node.head, node.attention)

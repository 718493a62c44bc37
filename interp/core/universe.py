"""What a circuit is chosen from: the heads, nodes or edges of a model's shape, each with the layers that it lies in.

A circuit file holds what was chosen, not what there was to choose from; without that no overlap can be held against chance.
"""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from interp.core.circuit import Circuit, Edge, Node
from interp.core.errors import InterpError
from interp.core.registry import unknown

UNITS = ("heads", "nodes", "edges")


@dataclass(frozen=True)
class Shape:
    """The shape of a decoder, as far as circuits know it.

    Attributes:
        n_layers, n_heads: of the decoder.
        n_kv_heads: keys and values of a layer; None: one for each head. Edges into shared ones count once.
        mlps: the layers that have an MLP; None: all.
        parallel: whether the MLP reads what attention of its layer reads, and so has no edges from its heads.
    """

    n_layers: int
    n_heads: int
    n_kv_heads: int | None = None
    mlps: tuple[int, ...] | None = None
    parallel: bool = False

    def __post_init__(self) -> None:
        group = self.n_kv_heads or self.n_heads
        if self.n_layers < 1 or self.n_heads < 1 or self.n_heads % group:
            raise InterpError(f"take a shape of {self.n_layers} layers of {self.n_heads} heads and {group} keys",
                              "heads share keys in equal groups, and there is one of each at least", "check the numbers")
        if self.mlps is not None:
            object.__setattr__(self, "mlps", tuple(self.mlps))

    @classmethod
    def of_circuits(cls, *circuits: Circuit) -> "Shape":
        """The shape that circuits tell of themselves (``provenance["shape"]``); refused where none does, or two disagree."""
        told = {str(one.name or one.task): cls(**one.provenance["shape"]) for one in circuits if "shape" in one.provenance}
        if not told:
            raise InterpError("say what these circuits share by chance", "their files do not tell the shape of the model",
                              "give it: --layers 12 --heads 12, or --model NAME")
        if len(set(told.values())) > 1:
            raise InterpError("compare circuits of " + " and ".join(told), "they are of models of different shapes",
                              "compare circuits of one model")
        return next(iter(told.values()))

    def record(self) -> dict[str, Any]:
        """Plain data for the provenance of a circuit."""
        return asdict(self)

    def plain(self, edge: Edge) -> tuple[Edge, ...]:
        """What an edge stands for here: without places, into each input where it names none, shared keys named once."""
        inputs = {"head": ("q", "k", "v"), "mlp": ("mlp",), "logits": ("out",)}[edge.target.kind]
        return tuple(Edge(_unplaced(edge.source), self._reader(edge.target, name), name)
                     for name in (inputs if edge.input is None else (edge.input,)))

    def _reader(self, node: Node, name: str) -> Node:
        group = self.n_heads // (self.n_kv_heads or self.n_heads)
        node = _unplaced(node)
        if name in ("k", "v") and node.head is not None:
            return Node(node.kind, node.layer, node.head - node.head % group, node.attention)
        return node

    def edges(self) -> Iterator[Edge]:
        """Every edge, in the form of ``plain``."""
        before = [Node("embed")]
        group = self.n_heads // (self.n_kv_heads or self.n_heads)
        for layer in range(self.n_layers):
            heads = [Node("head", layer, head) for head in range(self.n_heads)]
            for head in heads:
                names = "qkv" if head.head is not None and head.head % group == 0 else "q"
                yield from (Edge(source, head, name) for name in names for source in before)
            has_mlp = self.mlps is None or layer in self.mlps
            if has_mlp:
                mlp = Node("mlp", layer)
                yield from (Edge(source, mlp, "mlp") for source in (before if self.parallel else [*before, *heads]))
            before += heads + ([Node("mlp", layer)] if has_mlp else [])
        yield from (Edge(source, Node("logits"), "out") for source in before)


@dataclass(frozen=True)
class Universe:
    """What there is to choose from.

    Attributes:
        unit: ``heads``, ``nodes`` (heads and MLPs) or ``edges``.
        strata: item (a ``Node`` or an ``Edge``) -> what it is matched by: of a head its layer, of an MLP that it is one, of
            an edge the layers and kinds of its ends.
        shape: of the model.
    """

    unit: str
    strata: Mapping[Any, Hashable]
    shape: Shape

    def __len__(self) -> int:
        return len(self.strata)

    def members(self, circuit: Circuit) -> frozenset[Any]:
        """The items of a circuit; refused where it has one that there is not, and of edges where it has none."""
        asked = f"take the {self.unit} of {circuit.name or circuit.task or 'a circuit'}"
        if self.unit == "edges":
            if not circuit.edges and circuit.nodes:
                raise InterpError(asked, "it is a list of nodes without edges", "compare heads or nodes")
            found: frozenset[Any] = frozenset(one for edge in circuit.edges for one in self.shape.plain(edge))
        else:
            kinds = ("head",) if self.unit == "heads" else ("head", "mlp")
            found = frozenset(_unplaced(node) for node in circuit.nodes if node.kind in kinds)
        if missing := found - set(self.strata):
            raise InterpError(asked, f"a model of {self.shape.n_layers} layers of {self.shape.n_heads} heads has no "
                              f"{min(map(str, missing))}", "give the shape of its model")
        return found


def universe(shape: Shape, unit: str = "heads") -> Universe:
    """All heads, nodes or edges of a shape."""
    if unit not in UNITS:
        raise unknown("unit of circuits", str(unit), list(UNITS))
    if unit == "edges":
        between: dict[Any, Hashable] = {edge: (edge.source.kind, edge.source.layer, edge.input, edge.target.layer)
                                        for edge in shape.edges()}
        return Universe(unit, between, shape)
    strata: dict[Any, Hashable] = {}
    for layer in range(shape.n_layers):
        strata |= {Node("head", layer, head): layer for head in range(shape.n_heads)}
    if unit == "nodes":
        layers = range(shape.n_layers) if shape.mlps is None else shape.mlps
        strata |= {Node("mlp", layer): "mlp" for layer in layers}
    return Universe(unit, strata, shape)


def _unplaced(node: Node) -> Node:
    return node if node.position is None else Node(node.kind, node.layer, node.head, node.attention)

"""``Edges``: the edges of a decoder's residual stream as small arrays; ``EdgeScores``: one number per edge and prompt.

Senders write to the residual stream: the embedding (with its positions), every head, every MLP. Receivers read it: q of
every head, k and v of every key-value head, every MLP, and the output (final norm and unembedding). Each receiver has an
edge from every sender computed before it. For L layers of H heads, K key-value heads and an MLP, with a = 1 + l (H + 1)
senders before layer l::

    edges = Σ_l a (H + 2K)  +  Σ_l (a + H)  +  1 + L (H + 1)        into q, k, v; into MLPs; into the output

(parallel blocks: a, not a + H, into an MLP). GPT-2 small (L = H = K = 12): 31,320 + 1,014 + 157 = 32,491.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from interp.core.circuit import Edge, Node
from interp.core.errors import InterpError
from interp.core.intervals import bootstrap
from interp.core.provenance import Provenance
from interp.core.registry import unknown

SENDERS = ("embed", "head", "mlp")
RECEIVERS = ("q", "k", "v", "mlp", "output")


@dataclass(frozen=True, eq=False)
class Nodes:
    """Senders or receivers, in the order of computation.

    Attributes:
        kind: index into ``SENDERS`` or ``RECEIVERS``, int8 [node].
        layer, head: int32 [node]; -1 where there is none. The head of a k or v receiver is a key-value head.
    """

    kind: np.ndarray
    layer: np.ndarray
    head: np.ndarray

    def __len__(self) -> int:
        return len(self.kind)


@dataclass(frozen=True, eq=False)
class Edges:
    """Every edge of one model: receiver by receiver in the order of computation, each from its senders in that order.

    Attributes:
        senders, receivers: the nodes.
        before: how many senders each receiver has: they are the first ones, int32 [receiver].
        n_layers, n_heads, n_kv_heads: the shape.
    """

    senders: Nodes
    receivers: Nodes
    before: np.ndarray
    n_layers: int
    n_heads: int
    n_kv_heads: int

    def __len__(self) -> int:
        return int(self.before.sum())

    @cached_property
    def receiver(self) -> np.ndarray:
        """Index of each edge's receiver, int32 [edge]."""
        return np.repeat(np.arange(len(self.receivers), dtype=np.int32), self.before)

    @cached_property
    def sender(self) -> np.ndarray:
        """Index of each edge's sender, int32 [edge]."""
        return (np.arange(len(self)) - self.start[self.receiver]).astype(np.int32)

    @cached_property
    def start(self) -> np.ndarray:
        """Index of each receiver's first edge, int64 [receiver]."""
        return np.concatenate([[0], np.cumsum(self.before)[:-1]])

    @cached_property
    def feeds(self) -> np.ndarray:
        """Whose output depends on what a receiver reads: bool [receiver, sender]. q of a head: that head; shared k or v: the
        heads of the group; an MLP: itself; the output: no sender."""
        senders, receivers = self.senders, self.receivers
        group = self.n_heads // self.n_kv_heads
        shared = np.isin(receivers.kind, (RECEIVERS.index("k"), RECEIVERS.index("v")))[:, None]
        head = np.where(shared, senders.head // group == receivers.head[:, None], senders.head == receivers.head[:, None])
        same = (receivers.layer[:, None] == senders.layer) & (receivers.layer[:, None] >= 0)
        mlp = (receivers.kind == RECEIVERS.index("mlp"))[:, None]
        kind = np.where(mlp, senders.kind == SENDERS.index("mlp"), (senders.kind == SENDERS.index("head")) & head)
        return same & kind

    def names(self, at: Sequence[int] | np.ndarray | None = None) -> list[str]:
        """Edges as text: ``L5H5->L9H9.k``, ``embed->mlp3.mlp``, ``L9H9->logits.out``; a shared key-value head: ``L9KV1``."""
        at = np.arange(len(self)) if at is None else np.asarray(at)
        senders = [str(self.sender_node(i)) for i in range(len(self.senders))]
        receivers = [self._receiver_name(i) for i in range(len(self.receivers))]
        return [f"{senders[self.sender[i]]}->{receivers[self.receiver[i]]}" for i in at]

    def sender_node(self, i: int) -> Node:
        """A sender as a node of a circuit."""
        kind = SENDERS[self.senders.kind[i]]
        return Node("embed") if kind == "embed" else _node(kind, self.senders, i)

    def edges(self, i: int) -> tuple[Edge, ...]:
        """One edge as edges of a circuit: one, or into k or v of each query head that shares the key-value head."""
        receiver = int(self.receiver[i])
        kind, source = RECEIVERS[self.receivers.kind[receiver]], self.sender_node(int(self.sender[i]))
        if kind == "output":
            return (Edge(source, Node("logits"), "out"),)
        if kind == "mlp":
            return (Edge(source, _node("mlp", self.receivers, receiver), "mlp"),)
        group = 1 if kind == "q" else self.n_heads // self.n_kv_heads
        layer, head = int(self.receivers.layer[receiver]), int(self.receivers.head[receiver])
        return tuple(Edge(source, Node("head", layer, head * group + j), kind) for j in range(group))

    def index(self, name: str) -> int:
        """Where the edge of that name stands, in the form that ``names`` writes."""
        if name not in self._index:
            raise InterpError(f"find the edge {name!r}", "this model has none of that name",
                              "write it as L5H5->L9H9.k, embed->mlp3.mlp or L9H9->logits.out, sender before receiver")
        return self._index[name]

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names())}

    def _receiver_name(self, i: int) -> str:
        kind, layer, head = (x[i] for x in (self.receivers.kind, self.receivers.layer, self.receivers.head))
        shared = RECEIVERS[kind] in ("k", "v") and self.n_kv_heads < self.n_heads
        return {"output": "logits.out", "mlp": f"mlp{layer}.mlp"}.get(
            RECEIVERS[kind], f"L{layer}{'KV' if shared else 'H'}{head}.{RECEIVERS[kind]}")


def _node(kind: str, nodes: Nodes, i: int) -> Node:
    return Node(kind, int(nodes.layer[i]), int(nodes.head[i]) if kind == "head" else None)


def make_edges(n_layers: int, n_heads: int, n_kv_heads: int, mlps: Sequence[bool], parallel: bool) -> Edges:
    """The edges of a decoder. ``mlps``: which layers have an MLP; ``parallel``: whether it reads what attention reads."""
    senders: list[tuple[int, int, int]] = [(0, -1, -1)]
    receivers: list[tuple[int, int, int]] = []
    before: list[int] = []
    for layer in range(n_layers):
        for kind, count in ((0, n_heads), (1, n_kv_heads), (2, n_kv_heads)):
            receivers += [(kind, layer, head) for head in range(count)]
            before += [len(senders)] * count
        if mlps[layer]:
            receivers.append((3, layer, -1))
            before.append(len(senders) + (0 if parallel else n_heads))
        senders += [(1, layer, head) for head in range(n_heads)]
        senders += [(2, layer, -1)] if mlps[layer] else []
    receivers.append((4, -1, -1))
    before.append(len(senders))
    return Edges(_nodes(senders), _nodes(receivers), np.array(before, dtype=np.int32), n_layers, n_heads, n_kv_heads)


def _nodes(rows: list[tuple[int, int, int]]) -> Nodes:
    kind, layer, head = np.array(rows).T
    return Nodes(kind.astype(np.int8), layer.astype(np.int32), head.astype(np.int32))


def ranked(mean: np.ndarray, k: int, by: str) -> np.ndarray:
    """Indices of the ``k`` largest means, by absolute value (``by="size"``) or as they are (``by="value"``).

    What has no score is never among them; ties keep their order.
    """
    if by not in ("size", "value"):
        raise InterpError(f"rank scores by {by!r}", "they are ranked by size or by value", "use by='size' or by='value'")
    key = np.abs(mean) if by == "size" else mean
    order = np.argsort(-np.where(np.isfinite(key), key, -np.inf), kind="stable")[:k]
    return order[np.isfinite(key[order])]


@dataclass(frozen=True, eq=False)
class EdgeScores:
    """Scores of edges on each prompt.

    Attributes:
        edges: the edges of the model.
        values: float64 [edge, prompt], in units of the metric; larger = matters more (see ``sign`` in the provenance). NaN
            for edges that were not asked for.
        provenance: what was asked.
        baselines: the metric of the unchanged runs per prompt, ``clean`` and ``corrupt`` [prompt].
        notes: further facts per prompt or of the whole computation, e.g. ``residual`` [prompt].
        places: name of a place (a span, ``end``, or the number of a token) -> the part of ``values`` that senders write
            there, [edge, prompt]; keys and values that a head reads from a place count there, wherever the head stands.
    """

    edges: Edges
    values: np.ndarray
    provenance: Provenance
    baselines: dict[str, np.ndarray] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    places: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or len(self.values) != len(self.edges):
            raise ValueError(f"values of shape {self.values.shape} for {len(self.edges)} edges")
        self.values.setflags(write=False)

    @property
    def n_prompts(self) -> int:
        """Number of prompts."""
        return self.values.shape[1]

    def at(self, place: str) -> "EdgeScores":
        """The scores of one place, in the form of scores of all."""
        if place not in self.places:
            raise unknown("place of these scores", place, list(self.places))
        return replace(self, values=self.places[place], places={})

    def provenance_dict(self) -> dict[str, Any]:
        """What the provenance of other scores records of these, where they start from them."""
        return {"measure": self.provenance.measure, "options": dict(self.provenance.options)}

    def mean(self) -> np.ndarray:
        """Mean over prompts, [edge]."""
        return self.values.mean(1)

    def interval(self, confidence: float = 0.95, n_boot: int = 2000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Bootstrap interval of the mean over prompts: (low, high), each [edge]; NaN with one prompt."""
        return bootstrap(self.values.T, confidence=confidence, n_boot=n_boot, seed=seed)

    def top(self, k: int = 20, *, by: str = "size", confidence: float = 0.95, n_boot: int = 2000,
            seed: int = 0) -> pd.DataFrame:
        """The ``k`` edges of largest mean: of its absolute value (``by="size"``) or of itself (``by="value"``).

        Columns: edge (text), sender, receiver, layer, head and kind of both, mean, low, high (bootstrap over prompts).
        """
        mean = self.mean()
        order = ranked(mean, k, by)
        low, high = bootstrap(self.values[order].T, confidence=confidence, n_boot=n_boot, seed=seed)
        frame = pd.DataFrame({"edge": self.edges.names(order)} | self._columns(order))
        return frame.assign(mean=mean[order], low=low, high=high)

    def to_frame(self) -> pd.DataFrame:
        """Every edge that was asked for and prompt as one row: edge, its sender and receiver, prompt, value."""
        at = np.flatnonzero(np.isfinite(self.values).any(1))
        rows = np.repeat(at, self.n_prompts)
        names = np.repeat(np.array(self.edges.names(at), dtype=object), self.n_prompts)
        prompts = np.tile(np.arange(self.n_prompts), len(at))
        return pd.DataFrame({"edge": names} | self._columns(rows) | {"prompt": prompts, "value": self.values[at].ravel()})

    def matrix(self) -> np.ndarray:
        """[sender, receiver, prompt]; NaN where there is no edge."""
        table = np.full((len(self.edges.senders), len(self.edges.receivers), self.n_prompts), np.nan)
        table[self.edges.sender, self.edges.receiver] = self.values
        return table

    def by_sender(self) -> np.ndarray:
        """Sum over each sender's edges, [sender, prompt]: for a first-order estimate, the sender's own estimate."""
        total = np.zeros((len(self.edges.senders), self.n_prompts))
        np.add.at(total, self.edges.sender, self.values)
        return total

    def _columns(self, at: np.ndarray) -> dict[str, np.ndarray]:
        edges = self.edges
        columns = {}
        for name, nodes, index, kinds in (("sender", edges.senders, edges.sender, SENDERS),
                                          ("receiver", edges.receivers, edges.receiver, RECEIVERS)):
            chosen = index[at]
            columns |= {name: np.array(kinds, dtype=object)[nodes.kind[chosen]], f"{name}_layer": nodes.layer[chosen],
                        f"{name}_head": nodes.head[chosen]}
        return columns

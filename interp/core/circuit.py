"""``Node``, ``Edge``, ``Circuit``: which heads and MLPs carry a behaviour, what flows between them, and the role of each."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from interp.core.errors import InterpError
from interp.core.files import write_text
from interp.core.head import Head
from interp.core.provenance import plain
from interp.core.registry import unknown

KINDS = ("head", "mlp", "embed", "logits")
INPUTS = ("q", "k", "v", "mlp", "out")
FORMAT = 1
_PREFIX = {"": "self", "enc.": "encoder", "cross.": "cross", "vis.": "vision"}


@dataclass(frozen=True, order=True)
class Node:
    """One component: an attention head, an MLP, the embedding (``embed``) or the unembedding (``logits``).

    ``position`` optionally names where it acts (a task's span: ``end``, ``S2``). ``str`` gives ``L9H9``, ``cross.L0H3``,
    ``mlp3``, ``embed`` or ``logits``, followed by ``@position``.
    """

    kind: str
    layer: int | None = None
    head: int | None = None
    attention: str = "self"
    position: str | None = None

    def __post_init__(self) -> None:
        needs = {"head": (True, True), "mlp": (True, False), "embed": (False, False), "logits": (False, False)}
        asked = f"make a node of kind {self.kind!r}"
        if self.kind not in KINDS:
            raise InterpError(asked, "there is no such kind", "use one of " + ", ".join(KINDS))
        if (self.layer is not None, self.head is not None) != needs[self.kind]:
            raise InterpError(asked, "a head has a layer and a head, an MLP a layer, embed and logits neither",
                              f"change layer={self.layer} and head={self.head}")
        Head(self.layer or 0, self.head or 0, self.attention)    # refuses negative numbers and unknown attentions

    def __str__(self) -> str:
        prefix = next(short for short, name in _PREFIX.items() if name == self.attention)
        names = {"head": f"L{self.layer}H{self.head}", "mlp": f"mlp{self.layer}"}
        body = prefix + names.get(self.kind, self.kind)
        return body if self.position is None else f"{body}@{self.position}"

    @classmethod
    def of(cls, head: Head, position: str | None = None) -> "Node":
        """The node of a head."""
        return cls("head", head.layer, head.head, head.attention, position)

    @classmethod
    def parse(cls, text: "str | Node") -> "Node":
        """Read what ``str`` writes, or any form of a head that ``Head.parse`` reads."""
        if isinstance(text, Node):
            return text
        body, _, position = text.strip().partition("@")
        match = re.fullmatch(r"(enc\.|cross\.|vis\.|)(?:mlp(\d+)|(embed|logits))", body)
        if match is None:
            return cls.of(Head.parse(body), position or None)
        attention = _PREFIX[match[1]]
        return cls(match[3] or "mlp", None if match[3] else int(match[2]), None, attention, position or None)

    def as_head(self) -> Head:
        """The head of this node; refused for other kinds."""
        if self.kind != "head" or self.layer is None or self.head is None:
            raise InterpError(f"take {self} as a head", f"it is of kind {self.kind}", "choose nodes with kind == 'head'")
        return Head(self.layer, self.head, self.attention)

    @property
    def depth(self) -> tuple[int, float]:
        """Order of computation: encoders before the decoder, then by layer, attention before its layer's MLP."""
        stack = 0 if self.attention in ("encoder", "vision") else 1
        within = {"embed": -1.0, "logits": float("inf")}.get(self.kind, 3.0 * (self.layer or 0))
        step = {"mlp": 2.0, "head": 1.0 if self.attention == "cross" else 0.0}.get(self.kind, 0.0)
        return stack, within + step


@dataclass(frozen=True, order=True)
class Edge:
    """What flows from one node to another; ``input`` says into which input of the target (``q``, ``k``, ``v`` of a head,
    ``mlp``, ``out`` for the logits), None if that is not known. ``str`` gives ``L5H5->L9H9.k``."""

    source: Node
    target: Node
    input: str | None = None

    def __post_init__(self) -> None:
        if self.input is not None and self.input not in INPUTS:
            raise unknown("input", self.input, list(INPUTS))
        fits = {"head": ("q", "k", "v"), "mlp": ("mlp",), "logits": ("out",), "embed": ()}[self.target.kind]
        if self.input is not None and self.input not in fits:
            raise InterpError(f"make the edge {self}", f"a target of kind {self.target.kind} has no input {self.input!r}",
                              "use " + (" or ".join(fits) or "another target"))
        if self.source.depth >= self.target.depth:
            raise InterpError(f"make the edge {self}", "its source is not computed before its target",
                              "exchange or correct the two")

    def __str__(self) -> str:
        return f"{self.source}->{self.target}" + ("" if self.input is None else f".{self.input}")

    @classmethod
    def parse(cls, text: "str | Edge") -> "Edge":
        """Read what ``str`` writes."""
        if isinstance(text, Edge):
            return text
        source, arrow, target = text.partition("->")
        if not arrow:
            raise InterpError(f"read {text!r} as an edge", "it has no '->'", "write source->target, e.g. L5H5->L9H9.k")
        match = re.fullmatch(r"(.*)\.(q|k|v|mlp|out)", target)
        return cls(Node.parse(source), Node.parse(match[1] if match else target), match[2] if match else None)


@dataclass(frozen=True)
class Circuit:
    """A set of nodes and edges with their roles, and where it comes from.

    Attributes:
        nodes: every node, in the order of computation; nodes of ``edges`` and ``roles`` are added by themselves.
        edges: every edge, sorted; may be empty where only the heads are known.
        roles: node -> its role in the field's words, e.g. ``name mover``.
        name, model, task: what the circuit is called, and of which model and task it is one.
        citation: where it is published, or how it was made.
        provenance: how it was found, plain data.
    """

    nodes: tuple[Node, ...] = ()
    edges: tuple[Edge, ...] = ()
    roles: Mapping[Node, str] = field(default_factory=dict)
    name: str = ""
    model: str = ""
    task: str = ""
    citation: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        edges = tuple(sorted(set(self.edges), key=_order))
        ends = {node for edge in edges for node in (edge.source, edge.target)}
        nodes = tuple(sorted({*self.nodes, *ends, *self.roles}, key=lambda node: (node.depth, str(node))))
        object.__setattr__(self, "edges", edges)
        object.__setattr__(self, "nodes", nodes)
        object.__setattr__(self, "roles", MappingProxyType({node: self.roles[node] for node in nodes if node in self.roles}))
        object.__setattr__(self, "provenance", MappingProxyType(plain(self.provenance, "provenance")))

    def __hash__(self) -> int:
        return hash((self.nodes, self.edges, self.name, self.model, self.task))

    def heads(self, role: str | None = None) -> tuple[Head, ...]:
        """The heads of the circuit (each once, whatever its positions), or those of one role."""
        chosen = (node for node in self.nodes if node.kind == "head" and (role is None or self.roles.get(node) == role))
        return tuple(dict.fromkeys(node.as_head() for node in chosen))

    def to_json(self) -> str:
        """JSON text with one node and one edge per line, so that a change of a circuit reads well as a difference."""
        head = {"format": FORMAT, "name": self.name, "model": self.model, "task": self.task, "citation": self.citation,
                "provenance": dict(self.provenance)}
        nodes = ({"node": str(node)} | ({"role": self.roles[node]} if node in self.roles else {}) for node in self.nodes)
        lines = [f'  "{key}": {json.dumps(value, ensure_ascii=False, sort_keys=True)}' for key, value in head.items()]
        lines += [f'  "nodes": {_list(nodes)}', f'  "edges": {_list(str(edge) for edge in self.edges)}']
        return "{\n" + ",\n".join(lines) + "\n}\n"

    @classmethod
    def from_json(cls, text: str) -> "Circuit":
        """Read what ``to_json`` wrote."""
        asked = "read a circuit"
        try:
            record = json.loads(text)
        except json.JSONDecodeError as error:
            raise InterpError(asked, f"it is not JSON ({error})", "give text written by Circuit.to_json") from error
        if not isinstance(record, dict) or not all(isinstance(record.get(part), list) for part in ("nodes", "edges")):
            raise InterpError(asked, "it has no lists of nodes and edges", "give text written by Circuit.to_json")
        if record.get("format", 0) > FORMAT:
            true = f"it is of format {record['format']}, this version reads up to {FORMAT}"
            raise InterpError(asked, true, "update interp")
        entries = [{"node": entry} if isinstance(entry, str) else entry for entry in record["nodes"]]
        return cls(
            nodes=tuple(Node.parse(entry["node"]) for entry in entries),
            edges=tuple(Edge.parse(edge) for edge in record["edges"]),
            roles={Node.parse(entry["node"]): entry["role"] for entry in entries if "role" in entry},
            **{key: record.get(key, "") for key in ("name", "model", "task", "citation")},
            provenance=record.get("provenance", {}),
        )

    def save(self, path: str | Path) -> Path:
        """Write JSON to ``path``, whole or not at all."""
        return write_text(path, self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> "Circuit":
        """Read a circuit file."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except OSError as error:
            raise InterpError(f"read the circuit {path}", error.strerror or str(error), "check the path") from error
        return cls.from_json(text)


def _order(edge: Edge) -> tuple[Any, ...]:
    return edge.source.depth, edge.target.depth, str(edge)


def _list(items: Iterable[Any]) -> str:
    lines = [f"    {json.dumps(item, ensure_ascii=False)}" for item in items]
    return "[\n" + ",\n".join(lines) + "\n  ]" if lines else "[]"

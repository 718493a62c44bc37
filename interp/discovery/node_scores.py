"""``NodeScores``: one number per node (embedding, head, MLP) and prompt, and what they say of edges."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from interp.core.intervals import bootstrap
from interp.core.provenance import Provenance
from interp.engine.edges import SENDERS, Edges, EdgeScores, ranked


@dataclass(frozen=True, eq=False)
class NodeScores:
    """Scores of nodes on each prompt.

    Attributes:
        edges: the graph; nodes are its senders, in their order.
        values: float64 [node, prompt]; larger = matters more. NaN for nodes that were not asked for.
        provenance, baselines, notes: as of ``EdgeScores``.
    """

    edges: Edges
    values: np.ndarray
    provenance: Provenance
    baselines: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or len(self.values) != len(self.edges.senders):
            raise ValueError(f"values of shape {self.values.shape} for {len(self.edges.senders)} nodes")
        self.values.setflags(write=False)

    @property
    def n_prompts(self) -> int:
        """Number of prompts."""
        return self.values.shape[1]

    def names(self) -> list[str]:
        """Nodes as text: ``embed``, ``L5H5``, ``mlp3``."""
        return [str(self.edges.sender_node(i)) for i in range(len(self.edges.senders))]

    def mean(self) -> np.ndarray:
        """Mean over prompts, [node]."""
        return self.values.mean(1)

    def heads(self) -> np.ndarray:
        """Scores of the heads, [layer, head, prompt]."""
        return self.values[self.edges.senders.kind == SENDERS.index("head")].reshape(
            self.edges.n_layers, self.edges.n_heads, self.n_prompts)

    def top(self, k: int = 20, *, by: str = "size", confidence: float = 0.95, n_boot: int = 2000, seed: int = 0
            ) -> pd.DataFrame:
        """The ``k`` nodes of largest mean (``by="value"``) or largest absolute mean (``by="size"``), with intervals."""
        mean = self.mean()
        order = ranked(mean, k, by)
        low, high = bootstrap(self.values[order].T, confidence=confidence, n_boot=n_boot, seed=seed)
        names = np.array(self.names(), dtype=object)
        return pd.DataFrame({"node": names[order], "mean": mean[order], "low": low, "high": high})

    def to_edges(self) -> EdgeScores:
        """Scores of edges from scores of nodes: of each prompt, the smaller in size of the edge's two ends.

        An edge is no more important than either of the nodes that it joins; the embedding (where it has no score) and the
        output set no limit. Keys and values of grouped attention count as the largest of the heads that share them. Which
        of several edges between important nodes carries what, node scores do not know: they are ties.
        """
        size = np.abs(self.values)
        size = np.where(np.isfinite(size), size, np.inf)
        reads = self.edges.feeds
        into = np.stack([size[row].max(0) if row.any() else np.full(self.n_prompts, np.inf) for row in reads])
        values = np.minimum(size[self.edges.sender], into[self.edges.receiver])
        return EdgeScores(self.edges, np.where(np.isfinite(values), values, np.nan), self.provenance, dict(self.baselines),
                          dict(self.notes))

"""Secondary sinks: tokens that a middle layer turns into the direction of the primary sink, with start, lifetime and level.

Wong et al. (2025) find them in the residual stream alone: between the layer where the first token's norm becomes massive
and the one where it vanishes, a later token is like a sink where its hidden state has a cosine above 0.9 with the primary
sink's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.engine.streaming import Block, Fold
from interp.measures.sink_statistics import Received

COSINE = 0.9
SHORTEST, FROM_DEPTH = 4, 15
"""Published: a token that is like the primary sink in more than 4 layers and in fewer than all but 15 is secondary."""
DEPTH = 48
"""Layers of the deepest model of the published table (R1-Distill-Qwen-14B), in which both rules are the same."""
LABELS = ("noise", "secondary", "primary")


@dataclass(frozen=True, eq=False)
class SinkTokens:
    """What was found in one prompt. Layer l stands for the hidden state that enters layer l; the one after the last layer is
    layer L.

    Attributes:
        primary: position of the primary sink.
        window: first layer in which it is massive, and the first in which it is no more.
        norm_ratio: its norm over the median norm of the other tokens, largest in the window. Near 1: there is no primary
            sink, and what follows means nothing.
        alike: which later tokens have its direction [layer, key], layers 0 to L.
        cosine: largest |cosine| with it in the window [key].
        start, lifetime: first such layer (-1: none) and number of them [key]. Together they are the sink's level.
        label: ``noise``, ``secondary`` or ``primary`` (like the primary sink nearly throughout) [key]; empty for tokens that
            are never alike.
    """

    primary: int
    window: tuple[int, int]
    norm_ratio: float
    alike: np.ndarray
    cosine: np.ndarray
    start: np.ndarray
    lifetime: np.ndarray
    label: np.ndarray

    def of(self, label: str) -> np.ndarray:
        """Where tokens of one label have the primary sink's direction: bool [layer, key], layers 0 to L."""
        return self.alike & (self.label == label)


def residual_folds(candidates: Sequence[int] = (0, 1)) -> dict[str, Fold]:
    """What of the residual stream is kept: of each token the norm, and its cosine with the tokens at ``candidates``."""
    def fold(kept: dict[str, Any] | None, block: Block) -> dict[str, Any]:
        x = block.tensor.float()
        kept = kept or {"references": {}, "parts": []}
        for at in candidates:
            if block.first <= at < block.first + x.shape[1]:
                kept["references"][at] = x[:, at - block.first].clone()
        kept["parts"].append((x.norm(dim=-1), x))
        return _reduced(kept, candidates, block.length)

    return {"directions": Fold("resid_pre", fold, lambda kept: torch.cat(kept["done"], dim=1), last=True)}


def _reduced(kept: dict[str, Any], candidates: Sequence[int], length: int) -> dict[str, Any]:
    """Cosines of the blocks read so far, once every candidate of the prompt was read; hidden states are then let go."""
    if len(kept["references"]) < sum(at < length for at in candidates):
        return kept
    done = list(kept.get("done", []))
    for norms, x in kept["parts"]:
        cosines = [_cosine(x, kept["references"][at]) if at in kept["references"] else torch.full_like(norms, torch.nan)
                   for at in candidates]
        done.append(torch.stack([norms, *cosines], dim=-1))
    return {**kept, "parts": [], "done": done}


def _cosine(x: Tensor, reference: Tensor) -> Tensor:
    return torch.nn.functional.cosine_similarity(x, reference[:, None], dim=-1, eps=1e-12)


def secondary_tokens(one: Received, n_layers: int, *, rule: str = "scaled", cosine: float = COSINE,
                     candidates: Sequence[int] = (0, 1)) -> SinkTokens:
    """The secondary sinks of one prompt, from statistics that were read with ``residual_folds(candidates)``.

    Args:
        rule: ``published``: a token that is alike in n of L layers is secondary if 4 < n < L − 15, primary if n ≥ L − 15. No
            n is both in models of 20 layers and fewer, which are refused. ``scaled``: L/12 < n < 11 L/16, the same at the
            48 layers of the published table, in proportion elsewhere.
        cosine: threshold of |cosine|. candidates: positions of which the primary sink is the one of the largest mean norm.
    """
    if rule == "published" and n_layers - FROM_DEPTH <= SHORTEST + 1:
        raise InterpError("find secondary sinks by the published rule", f"no number of layers lies between {SHORTEST} and "
                          f"{n_layers} − {FROM_DEPTH}", "use rule='scaled'")
    read = np.asarray(one.extra["directions"], dtype=np.float64)
    norms = read[..., 0]
    there = [place for place, at in enumerate(candidates) if at < norms.shape[1]]
    place = max(there, key=lambda place: norms[:, candidates[place]].mean())
    primary = candidates[place]
    change = np.diff(norms[:, primary])
    start = int(change.argmax()) + 1
    end = int(change[start:].argmin()) + start + 1 if start < len(change) else len(norms)
    aligned = np.abs(read[..., 1 + place])
    inside = (np.arange(len(norms)) >= start) & (np.arange(len(norms)) < end)
    alike = (aligned > cosine) & inside[:, None] & (np.arange(norms.shape[1]) > primary)
    lifetime = alike.sum(0)
    low, high = (SHORTEST, n_layers - FROM_DEPTH) if rule == "published" else (
        SHORTEST / DEPTH * n_layers, n_layers - FROM_DEPTH / DEPTH * n_layers)
    label = np.where(lifetime >= high, "primary", np.where(lifetime > low, "secondary", "noise"))
    others = np.delete(norms, primary, axis=1)
    ratio = float((norms[:, primary] / np.median(others, axis=1))[inside].max()) if others.size else float("nan")
    first = np.where(lifetime > 0, alike.argmax(0), -1)
    return SinkTokens(primary, (start, end), ratio, alike, aligned[inside].max(0), first, lifetime,
                      np.where(lifetime > 0, label, ""))

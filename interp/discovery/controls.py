"""Random heads in place of some heads, as a control."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from interp.core.head import Head


def other_heads(model: Any, heads: Sequence[Head], spared: Collection[Head], random: np.random.Generator
                ) -> list[tuple[Head, Head]]:
    """(head, its stand-in): of its layer, or of the nearest layer that has any left; none of ``heads`` or ``spared``, none
    twice. Fewer than ``heads`` where the model has no more."""
    every = [Head(layer, head) for layer in range(model.n_layers) for head in range(model.stack(None).n_heads)]
    free, drawn = [head for head in every if head not in {*heads, *spared}], list[tuple[Head, Head]]()
    for head in heads:
        if free:
            near = min(abs(one.layer - head.layer) for one in free)
            nearest = [one for one in free if abs(one.layer - head.layer) == near]
            drawn.append((head, nearest[int(random.integers(len(nearest)))]))
            free.remove(drawn[-1][1])
    return drawn

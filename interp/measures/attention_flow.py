"""Attention flow: the largest flow from the answer position to a token through all layers, one head at a time."""

from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_flow

from interp.measures.attention_graph import Floats, augmented, over_prompts, self_stack
from interp.measures.measure import Measured, measure

SCALE = 2**30 - 1
"""Capacities, at most 1, are counted in units of 1 / SCALE; a row's sum to 1, so no flow overflows 32 bits."""


@measure(
    sense="larger = wider paths lead from those keys to the answer position, when the head stands for its layer",
    formula=(
        "maximum flow from the answer position on top to the keys at the bottom; edge (l, i) → (l − 1, j) with capacity "
        "Â_l[i, j], Â = (A + I) with rows that sum to one, A the mean of a layer's heads, this head alone in its layer; "
        "baseline 'averaged': the published flow"
    ),
    source="Abnar and Zuidema 2020 (arXiv 2005.00928), attention flow; one head at a time is ours",
    does_not_show=(
        "Causes: values, MLPs and norms are left out. A flow is bounded by its narrowest cut, so a head in a layer that "
        "is no bottleneck changes nothing; to tokens that many heads attend to, the first above all, the flow is full (1) "
        "whatever one head does. Flows to different keys are found apart and do not add up to one."
    ),
    cost="one forward pass, then a maximum flow on the CPU for each head and prompt: for short prompts and few layers",
    about="attention",
)
def attention_flow(
    model: Any,
    batch: Any,
    *,
    keys: str | int | tuple[str, ...] = 0,
    residual: float = 0.5,
    attention: str | None = None,
    batch_size: int | None = None,
) -> Measured:
    """The largest flow from the answer position to a token through all layers, with one head standing for its layer.

    ``values[layer, head, prompt]`` from 0 to 1; ``baselines["averaged"]``: the published flow of each prompt, the heads of
    every layer averaged. NaN for a prompt without such keys.

    Args:
        keys: a span's name, several (taken as one sink), or a token index (0: the first token, -1: the last).
        residual: weight of the identity in Â (published: one half).
        attention: ``self``, ``encoder`` or ``vision``; None: the model's main attention.
        batch_size: prompts per pass; changes no number.

    Raises:
        InterpError: an unknown span; cross-attention, whose queries are not its keys.
    """
    stack = self_stack(model, attention, "find the flow of")
    values, plain = over_prompts(model, batch, stack.attention, keys, batch_size,
                                 lambda one: flows(one.pattern, one.keys, one.answer, residual))
    return Measured(values=values, attention=stack.attention, baselines={"averaged": plain}, metric="flow")


def flows(pattern: Floats, keys: np.ndarray, answer: int, residual: float = 0.5) -> tuple[Floats, float]:
    """Flow from ``answer`` to ``keys`` [key] by each head in place of its layer [layer, head], and by averages alone.

    ``pattern``: [layer, head, query, key], layer 0 next to the input.
    """
    layers, each = augmented(pattern.mean(1), residual), augmented(pattern, residual)
    values = np.empty(pattern.shape[:2])
    for layer, head in np.ndindex(values.shape):
        swapped = layers.copy()
        swapped[layer] = each[layer, head]
        values[layer, head] = max_flow(swapped, keys, answer)
    return values, max_flow(layers, keys, answer)


def max_flow(layers: Floats, keys: np.ndarray, answer: int) -> float:
    """Maximum flow from ``answer`` on top of ``layers`` [layer, query, key] to the tokens ``keys`` [key] below the first.

    Dinic's algorithm on capacities rounded to whole multiples of 1 / SCALE, so the flow is exact to about n_keys² / SCALE.
    """
    depth, n = layers.shape[:2]
    if not keys.any():
        return 0.0
    layer, query, key = np.nonzero(layers > 1 / SCALE)
    width = np.round(layers[layer, query, key] * SCALE)
    sink = (depth + 1) * n      # node (l, i), above layer l, is l * n + i
    ends = np.flatnonzero(keys)
    start = np.concatenate([(layer + 1) * n + query, ends])
    stop = np.concatenate([layer * n + key, np.full(len(ends), sink)])
    capacity = np.concatenate([width, np.full(len(ends), SCALE)]).astype(np.int32)
    graph = csr_array((capacity, (start, stop)), shape=(sink + 1, sink + 1))
    return maximum_flow(graph, depth * n + answer, sink).flow_value / SCALE

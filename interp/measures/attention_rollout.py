"""Attention rollout: how much of a token reaches the answer position through all layers, one head at a time."""

from typing import Any, Literal

import numpy as np

from interp.measures.attention_graph import Floats, augmented, over_prompts, self_stack
from interp.measures.measure import Measured, measure


@measure(
    sense="larger = more of what reaches the answer position comes from those keys, when the head stands for its layer",
    formula=(
        "[Â_L … Â_{l+1} Â_l^h Â_{l−1} … Â_1](answer, keys), Â = (A + I) with rows that sum to one, A the mean of a layer's "
        "heads and A^h this head alone; baseline 'averaged': the published rollout, every layer averaged"
    ),
    source="Abnar and Zuidema 2020 (arXiv 2005.00928), attention rollout; one head at a time is ours",
    does_not_show=(
        "Causes: values, MLPs and norms are left out, and half of every layer is taken to be the residual stream, "
        "whatever it is. In causal models the rollout of the first tokens is large by their position alone."
    ),
    cost="one forward pass",
    about="attention",
)
def attention_rollout(
    model: Any,
    batch: Any,
    *,
    keys: str | int | tuple[str, ...] = 0,
    others: Literal["averaged", "left out"] = "averaged",
    residual: float = 0.5,
    attention: str | None = None,
    batch_size: int | None = None,
) -> Measured:
    """How much of a token reaches the answer position through all layers, with one head standing for its layer.

    ``values[layer, head, prompt]`` from 0 to 1; ``baselines["averaged"]``: the published rollout of each prompt, every
    layer's heads averaged. NaN for a prompt without such keys.

    Args:
        keys: a span's name, several, or a token index (0: the first token, -1: the last).
        others: what the other layers are: ``averaged`` over their heads, or ``left out`` (the head's layer alone).
        residual: weight of the identity in Â (published: one half).
        attention: ``self``, ``encoder`` or ``vision``; None: the model's main attention.
        batch_size: prompts per pass; changes no number.

    Raises:
        InterpError: an unknown span; cross-attention, whose queries are not its keys.
    """
    stack = self_stack(model, attention, "roll out")
    values, plain = over_prompts(model, batch, stack.attention, keys, batch_size,
                                 lambda one: rollouts(one.pattern, one.keys, one.answer, others, residual))
    return Measured(values=values, attention=stack.attention, baselines={"averaged": plain}, metric="rollout")


def rollouts(pattern: Floats, keys: np.ndarray, answer: int, others: str = "averaged",
             residual: float = 0.5) -> tuple[Floats, float]:
    """Rollout from ``keys`` [key] to ``answer`` by each head in place of its layer [layer, head], and by averages alone.

    ``pattern``: [layer, head, query, key], layer 0 next to the input.
    """
    layers, each = augmented(pattern.mean(1), residual), augmented(pattern, residual)
    below = [keys.astype(np.float64)]
    for layer in layers:
        below.append(layer @ below[-1])
    read = np.eye(len(keys))[answer]
    above, values = read, np.empty(pattern.shape[:2])
    for at in reversed(range(len(layers))):
        start, end = (above, below[at]) if others == "averaged" else (read, below[0])
        values[at] = (each[at] @ end) @ start
        above = above @ layers[at]
    return values, float(below[-1][answer])

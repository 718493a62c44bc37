"""Cross-layer similarity: how alike the attention of a head and of the heads of other layers is."""

from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from interp.engine.streaming import Block, Fold, stream
from interp.measures.measure import Measured, measure

ROWS = 32
"""Rows that are read at a time: those of all layers are held together."""


@measure(
    sense="larger = the head attends more as heads of the other layer do",
    formula="cos(A^{l,h}, A^{m,h}) = Σ_ij A^{l,h}_ij A^{m,h}_ij / (‖A^{l,h}‖ ‖A^{m,h}‖); best head: the largest over the "
            "heads of layer m",
    source="EchoAtt (Rajabzadeh et al. 2024, arXiv 2409.14595), whose mean over heads this keeps apart",
    does_not_show=(
        "That the layers can share one pattern. A weak resemblance is the rule: two heads that rest on the first token are "
        "nearly equal, and causal rows all begin with a single key. The order of heads in a layer means nothing, so that "
        "match='same head' compares heads that have no more to do with one another than others."
    ),
    cost="one forward pass, read in blocks of rows of which all layers are held (whole maps where attention sees both ways)",
    about="attention",
)
def cross_layer_similarity(
    model: Any,
    batch: Any,
    *,
    match: Literal["same head", "best head"] = "same head",
    attention: str | None = None,
    batch_size: int | None = None,
) -> Measured:
    """Cosine between each head's attention pattern and that of the same (or the most alike) head in every layer.

    ``values[layer, head, prompt, other_layer]`` from 0 to 1; 1 with its own layer. Its mean over heads is EchoAtt's matrix
    of layers.

    Args:
        match: ``same head``: the head of the same index, as published. ``best head``: the head most alike.
        attention: ``self``, ``encoder``, ``cross`` or ``vision``; None: the model's main attention.
        batch_size: prompts that are run together; changes no number.
    """
    stack = model.stack(attention)
    fold = products(stack.n_layers, match)
    found = stream(model, batch, {"products": fold}, attention=attention, block=ROWS, batch_size=batch_size)["products"]
    values = np.stack([cosines(one, match) for one in found], axis=2)
    return Measured(values=values, attention=stack.attention, axes={"other_layer": tuple(range(stack.n_layers))},
                    metric="cosine")


def products(layers: int, match: str = "same head") -> Fold:
    """The fold that keeps products with the patterns of earlier layers (and of its own): [prompt, head, layer, other head],
    one other head for ``same head``. A fold serves one pass."""
    held: list[Tensor] = []
    return Fold("pattern", partial(_multiply, held, layers, match))


def cosines(found: Tensor, match: str = "same head") -> np.ndarray:
    """Cosines [layer, head, other layer] from what ``products`` keeps of all layers [layer, head, layer, other head]."""
    found = found.double()
    layers, heads = found.shape[:2]
    if match == "same head":
        full = found[..., 0].permute(1, 0, 2)                                  # [head, layer, other]
        full = full + full.tril(-1).transpose(1, 2)
        size = full.diagonal(dim1=1, dim2=2).sqrt()
        return (full / (size[:, :, None] * size[:, None])).permute(1, 0, 2).numpy()
    flat = found.reshape(layers * heads, layers * heads)
    later = torch.arange(layers).repeat_interleave(heads)
    flat = torch.where(later[:, None] > later[None], flat, 0) + torch.where(later[:, None] >= later[None], flat, 0).T
    size = flat.diagonal().sqrt()
    return (flat / (size[:, None] * size[None])).reshape(layers, heads, layers, heads).amax(-1).numpy()


def _multiply(held: list[Tensor], layers: int, match: str, kept: Tensor | None, block: Block) -> Tensor:
    if block.site.layer == 0:
        held.clear()
    weights = block.tensor.float()
    held.append(weights.clone())
    prompts, heads = weights.shape[:2]
    others = 1 if match == "same head" else heads
    new = torch.zeros(prompts, heads, layers, others, dtype=torch.float64, device=weights.device)
    for layer, earlier in enumerate(held):
        if match == "same head":
            new[:, :, layer, 0] = (weights * earlier).sum((-1, -2))
        else:
            new[:, :, layer] = torch.einsum("phrk,pgrk->phg", weights, earlier)
    if block.site.layer == layers - 1:
        held.clear()
    return new if kept is None else kept + new

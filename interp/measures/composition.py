"""Composition: how much of what an earlier head writes a later head reads, through its queries, keys or values."""

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.core.head import Head
from interp.measures.measure import Measured, measure
from interp.models.head_circuits import LayerCircuits, head_circuits


@measure(
    sense="larger = the later head reads more of what the earlier one writes; with the baseline, 0 = as much as by chance",
    formula=(
        "‖W_OV^s M‖_F / (‖W_OV^s‖_F ‖M‖_F) − baseline, s the sender, W_OV = W_V W_O, and M of the receiver: W_Q W_Kᵀ (Q), "
        "W_K W_Qᵀ (K), W_V W_O (V); rows times matrix. Baseline 1/√d_model: exact root mean square of the ratio when the "
        "two are turned against each other at random"
    ),
    source=(
        "Elhage et al. 2021, A Mathematical Framework for Transformer Circuits: the ratios, less those of random "
        "matrices of the same shapes (there found by sampling, here in closed form)"
    ),
    does_not_show=(
        "That the path is used: norms say nothing of which directions occur in prompts, nor of attention. Large common "
        "directions (a mean, a few outlier dimensions) give every pair a large score. Rotary embedding and the norms' "
        "scale are left aside, MLPs between the two heads too."
    ),
    cost="no passes: products of weights",
    about="weights",
)
def composition(
    model: Any,
    batch: Any = None,
    *,
    kind: Literal["K", "Q", "V"] = "K",
    baseline: Literal["random", "none"] = "random",
    norms: Literal["folded", "left out"] = "folded",
    sender: str = "each",
    attention: str | None = None,
) -> Measured:
    """How much of what an earlier head writes a later head reads, through its queries, keys or values.

    ``values[layer, head, 0, sender]``: the receiver by layer and head, the sender along a further axis (``L0H2``); NaN where
    the sender's layer is not before the receiver's. ``scores.at(sender="L0H2")`` has a grid of receivers. There are no
    prompts and so no interval.

    Args:
        kind: what of the receiver reads: its ``K``eys, ``Q``ueries or ``V``alues.
        baseline: ``random`` as published, or ``none``: the ratios themselves, 0 to 1.
        norms: ``folded`` into the matrices; ``left out`` (as published: there are none).
        sender: ``each``; a head, such as ``L0H2`` (no further axis); or ``strongest``: the largest over all senders.
        attention: ``self`` or ``encoder``; None: the model's main attention.

    Raises:
        InterpError: no such sender; attention whose output does not come back to it; norms that cannot be folded.
    """
    stack = model.stack(attention)
    if stack.attention == "cross":
        raise InterpError("compose heads of cross-attention", "its keys and values read another stream than it writes to",
                          "use the self or encoder attention")
    layers = head_circuits(model, attention, folded=norms == "folded")
    ratios = composition_ratios(layers, kind)
    values = ratios - (stack.d_model ** -0.5 if baseline == "random" else 0)
    heads = [Head(layer, head, stack.attention) for layer in range(stack.n_layers) for head in range(stack.n_heads)]
    named = {"metric": f"{kind}-composition", "attention": stack.attention, "signed": baseline == "random"}
    if sender == "each":
        return Measured(values=values[:, :, None], axes={"sender": tuple(map(str, heads))}, **named)
    if sender == "strongest":
        best = np.where(np.isnan(values), -np.inf, values).max(-1)
        return Measured(values=np.where(np.isinf(best), np.nan, best)[:, :, None], **named)
    chosen = Head.parse(sender)
    if chosen not in heads:
        raise InterpError(f"score composition with {sender}", f"there are {stack.n_layers} layers of "
                          f"{stack.n_heads} {stack.attention} heads", "name one of its heads, such as L0H0, or use 'each'")
    return Measured(values=values[:, :, None, heads.index(chosen)], **named)


def composition_ratios(layers: tuple[LayerCircuits, ...], kind: str) -> np.ndarray:
    """[layer, head, sender]: ‖A B‖ / (‖A‖ ‖B‖) of every pair of heads, senders layer by layer, NaN for those not before;
    0 where one of the two is zero.

    The Frobenius norm does not change when an orthogonal factor is taken off either end, so each product of two
    [d_model, d_model] matrices becomes one of [d_head, d_model] with [d_model, d].
    """
    heads = layers[0].n_heads
    result = np.full((len(layers), heads, len(layers) * heads), np.nan)
    sent = [torch.linalg.qr(layer.v)[1] @ layer.o for layer in layers]      # [head, d_head, d_model]
    for at, layer in enumerate(layers):
        if at == 0:
            continue
        reads = _reads(layer, kind)
        senders = torch.cat(sent[:at])
        both = torch.stack([torch.linalg.matrix_norm(senders @ one) for one in reads])
        sizes = torch.linalg.matrix_norm(reads)[:, None] * torch.linalg.matrix_norm(senders)[None]
        ratio = torch.where(sizes > 0, both / sizes.clamp_min(torch.finfo(torch.float64).tiny), 0.0)
        result[at, :, : at * heads] = ratio.cpu().numpy()
    return result


def _reads(layer: LayerCircuits, kind: str) -> Tensor:
    """What reads the sender's output, [head, d_model, d], its far end without its orthogonal factor."""
    near, far = {"Q": (layer.q, layer.k), "K": (layer.k, layer.q), "V": (layer.v, layer.o.mT)}[kind]
    return near @ torch.linalg.qr(far)[1].mT

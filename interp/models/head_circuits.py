"""Weights of heads as they meet the residual stream: per query head, with the norms folded in or left out.

A pre-norm block reads norm(x) = (x − c·mean(x)) · w / s(x) + b. Its weight w and its centring c are linear and go into the
matrix that reads; the scale s(x) > 0 depends on the token and is left aside, as are all biases, which no token carries.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from interp.core.errors import InterpError
from interp.models.norm_slope import NormSlope, norm_slope

COLUMNS = 8192
"""Tokens of the vocabulary whose unembedding is taken at once."""


@dataclass(frozen=True)
class LayerCircuits:
    """The weights of one layer in row-vector convention (x W), one matrix per query head, float64.

    Attributes:
        q, k: [head, d_model, d_qk]; the score of query x and key y is x q kᵀ yᵀ (without position and scale).
        v: [head, d_model, d_head]. o: [head, d_head, d_model]. Key and value heads are repeated for their query heads.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    o: Tensor

    @property
    def n_heads(self) -> int:
        """Query heads."""
        return self.q.shape[0]


def head_circuits(model: Any, attention: str | None = None, *, folded: bool = True) -> tuple[LayerCircuits, ...]:
    """The weights of every layer of one attention.

    Args:
        folded: put the weight and centring of the norm before attention into q, k and v, and those of a post-norm into o;
            behind a norm that takes the mean out, o is centred too. Else the matrices as they are.

    Raises:
        InterpError: q, k and v are no linear maps (latent attention); ``folded`` for a model whose norms are not before its
            attention (BERT, BART), with several stacks (T5), or behind another backend than transformers.
    """
    stack = model.stack(attention)
    kind = stack.attention
    slopes = _slopes(model, kind) if folded else None
    layers = []
    with torch.no_grad():
        for layer in range(stack.n_layers):
            q, k, v, o = (getattr(model, name)(layer, kind).detach().double() for name in ("W_Q", "W_K", "W_V", "W_O"))
            if slopes is not None:
                before, after = slopes[layer]
                q, k, v = (before.read_by(x) for x in (q, k, v))
                o = o - o.mean(-1, keepdim=True) if after.centred else o
                o = o * after.weight
                o = o - o.mean(-1, keepdim=True) if before.centred else o
            k, v = (x.repeat_interleave(stack.n_heads // x.shape[0], 0) for x in (k, v))
            layers.append(LayerCircuits(q, k, v, o))
    return tuple(layers)


def embedding(model: Any) -> Tensor:
    """The token embedding [vocab, d_model], float64, without positions and constant factors.

    Raises:
        InterpError: the model has none, or its vectors are not of the residual stream's size.
    """
    weight = _matrix(model, "get_input_embeddings", "W_E")
    if weight is None or weight.shape[-1] != model.d_model:
        raise InterpError(f"take the token embedding of {model.name}", "no table of tokens feeds its residual stream",
                          "use circuit='ov', which needs none")
    return weight.detach().double()


def unembedding(model: Any, *, folded: bool = True) -> Tensor:
    """The unembedding [d_model, vocab], float64; ``folded``: the final norm's weight and centring put into it, up to a
    positive factor.

    Raises:
        InterpError: the model's logits are not a norm and one matrix of the residual stream.
    """
    if not folded:
        weight = _matrix(model, "get_output_embeddings", "W_U")
        if weight is None or weight.shape[-1] != model.d_model:
            raise InterpError(f"take the unembedding of {model.name}",
                              "its logits are not one matrix of the residual stream", "use circuit='ov', which needs none")
        return weight.detach().double().T
    basis = torch.eye(model.d_model, dtype=model.dtype, device=model.device)[:, None]
    probe = _probe(model)[None]
    with torch.no_grad():
        parts = [model.backend.logit_parts(basis, probe, columns[None])[:, 0].double()
                 for columns in torch.arange(model.vocab_size, device=model.device).split(COLUMNS)]
    return torch.cat(parts, dim=-1)


def _slopes(model: Any, attention: str) -> list[tuple[NormSlope, NormSlope]]:
    """Of each layer: the norm before attention and the one behind it."""
    if attention not in ("self", "encoder"):
        raise InterpError(f"fold the norms into the {attention} attention of {model.name}",
                          "queries and keys read different streams, or the model is no language model",
                          "use norms='left out'")
    try:
        readers = model.readers
    except InterpError as refusal:
        raise InterpError(f"fold the norms of {model.name} into its heads", refusal.true,
                          "use norms='left out'") from refusal
    at = _probe(model)[None, None]
    return [(reader.slope(at), norm_slope(norm, at))
            for reader, norm in zip(readers.attention, readers.attn_norms, strict=True)]


def _probe(model: Any) -> Tensor:
    """A vector [d_model] at which norms are evaluated: mean 0, size 1 per entry, no entry zero."""
    ramp = torch.linspace(1.0, 2.0, model.d_model, dtype=torch.float32)
    ramp[1::2] *= -1
    ramp = ramp - ramp.mean()
    return (ramp / ramp.pow(2).mean().sqrt()).to(model.device, model.dtype)


def _matrix(model: Any, getter: str, of_bridge: str) -> Tensor | None:
    """The embedding or the unembedding [vocab, d]; None where the network names none."""
    bridge = getattr(model.backend, "bridge", None)
    if bridge is not None:
        found = getattr(bridge, of_bridge, None)
        return found.T if found is not None and of_bridge == "W_U" else found
    find: Callable[[], nn.Module | None] | None = getattr(model.weights, getter, None)
    return getattr(find(), "weight", None) if find else None

"""OV copying: whether a head's output raises the very token it reads, from its weights alone."""

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.measures.measure import Measured, measure
from interp.models.head_circuits import LayerCircuits, embedding, head_circuits, unembedding

ROWS = 1024
"""Source tokens whose logits over the whole vocabulary are held at once."""


@measure(
    sense=(
        "eigenvalues: 1 = every direction of the tokens is sent to itself (copies), −1 = to its opposite (suppresses), 0 = "
        "neither; top1: larger = more tokens raise themselves most"
    ),
    formula=(
        "eigenvalues: Σ λ / Σ |λ| over the eigenvalues of W_E W_V W_O W_U (circuit='full') or of W_V W_O (circuit='ov'); "
        "top1: share of source tokens t whose own entry is among the ``top`` largest of row t of W_E W_V W_O W_U"
    ),
    source=(
        "Elhage et al. 2021, A Mathematical Framework for Transformer Circuits (eigenvalue score, models without norms and "
        "MLPs); top-1 share: its common companion; top 5 as in the copy score of Wang et al. 2022"
    ),
    does_not_show=(
        "Whether the head is ever pointed at a token worth copying, and what later layers do. The embedding is what heads "
        "read only in the first layers: behind MLPs tokens look different (a true copier of a deep model can score low), "
        "and tied embeddings bias the full circuit. Biases, positions and the norms' scale are left aside."
    ),
    cost="no passes: products of weights (for top1 the logits of every token, one after another, for each head)",
    about="weights",
)
def ov_copying(
    model: Any,
    batch: Any = None,
    *,
    value: Literal["eigenvalues", "top1"] = "eigenvalues",
    circuit: Literal["full", "ov"] = "full",
    norms: Literal["folded", "left out"] = "folded",
    top: int = 1,
    tokens: int | None = None,
    attention: str | None = None,
) -> Measured:
    """Whether a head's output raises the very token it reads, from its weights alone.

    ``values[layer, head, 0]``: from −1 to 1 (``eigenvalues``), or a share from 0 to 1 (``top1``). There are no prompts and
    so no interval: the number is exact for these weights.

    Args:
        circuit: ``full`` from token to token, as published; ``ov`` within the residual stream (for models without tokens).
        norms: ``folded`` into the matrices; ``left out`` (as published: there are none), or for models that
            TransformerLens has folded already.
        top: of value="top1": how many largest logits count as raised most.
        tokens: of value="top1": read so many source tokens, evenly spaced in the vocabulary; None: all.
        attention: ``self``, ``encoder``, ``cross`` or ``vision``; None: the model's main attention.

    Raises:
        InterpError: top1 of circuit='ov'; latent attention; a model whose norms cannot be folded.
    """
    if value == "top1" and circuit == "ov":
        raise InterpError("count tokens in circuit='ov'", "it has no tokens", "use circuit='full'")
    stack = model.stack(attention)
    layers = head_circuits(model, attention, folded=norms == "folded")
    if circuit == "ov":
        found = [eigenvalue_score(layer.o @ layer.v) for layer in layers]
    else:
        read, write = embedding(model), unembedding(model, folded=norms == "folded")
        read = read[: write.shape[1]]
        if value == "eigenvalues":
            through = write @ read      # [d_model, d_model]: out of the stream to a token, and in again
            found = [eigenvalue_score(layer.o @ through @ layer.v) for layer in layers]
        else:
            found = [top_share(layer, read, write, top, tokens) for layer in layers]
    spectral = value == "eigenvalues"
    return Measured(values=np.stack([one.cpu().numpy() for one in found])[:, :, None], attention=stack.attention,
                    metric="eigenvalue score" if spectral else "share of tokens", signed=spectral)


def eigenvalue_score(inner: Tensor) -> Tensor:
    """Σ λ / Σ |λ| of each matrix [..., d, d]; 0 where all eigenvalues vanish.

    The eigenvalues of A B that are not zero are those of B A, so that of a product over the whole vocabulary only its small
    inner form [d_head, d_head] is needed.
    """
    values = torch.linalg.eigvals(inner)
    size = values.abs().sum(-1)
    tiny = torch.finfo(torch.float64).eps * inner.shape[-1] * torch.linalg.matrix_norm(inner)
    return torch.where(size > tiny, values.real.sum(-1) / size.clamp_min(torch.finfo(torch.float64).tiny), 0.0)


def top_share(layer: LayerCircuits, read: Tensor, write: Tensor, top: int = 1, tokens: int | None = None) -> Tensor:
    """[head]: share of source tokens whose own logit is among the ``top`` largest; ties with others are lost.

    Args:
        read: [vocab, d_model], what stands for each token in the stream. write: [d_model, vocab].
    """
    vocab = write.shape[1]
    if top < 1 or (tokens is not None and tokens < 1):
        raise InterpError(f"count the top {top} of {tokens} tokens", "there is nothing to count", "use 1 or more")
    sources = torch.arange(vocab, device=write.device)
    if tokens is not None and tokens < vocab:
        sources = torch.linspace(0, vocab - 1, tokens, dtype=torch.float64, device=write.device).round().long()
    hits = torch.zeros(layer.n_heads, dtype=torch.float64, device=write.device)
    for head in range(layer.n_heads):
        out = layer.o[head] @ write
        for some in sources.split(ROWS):
            logits = (read[some] @ layer.v[head]) @ out
            own = logits.gather(1, some[:, None])
            hits[head] += ((logits >= own).sum(1) <= top).sum()
    return hits / len(sources)

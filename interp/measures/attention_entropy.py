"""Attention entropy: over how many tokens a head spreads its attention."""

from typing import Any, Literal

import torch
from torch import Tensor

from interp.engine.streaming import Block
from interp.measures.attention_rows import normalised, row_means, visible
from interp.measures.measure import Measured, measure


@measure(
    sense="larger = the head spreads its attention over more tokens",
    formula="mean over rows i of H_i = − Σ_j A[i, j] ln A[i, j]; relative: H_i / ln(visible keys); keys: exp(H_i)",
    source="Ghader & Monz 2017 (arXiv 1710.03348); Clark et al. 2019 (arXiv 1906.04341); at the last step: CARVE",
    does_not_show=(
        "Where the head looks, and whether a low entropy means a choice: a head that rests on the first token has none at "
        "all (exclude_bos=True asks about the rest). In causal attention it grows with the length of the prompt by itself."
    ),
    cost="one forward pass, read in blocks of rows",
    about="attention",
)
def attention_entropy(
    model: Any,
    batch: Any,
    *,
    value: Literal["nats", "bits", "relative", "keys"] = "nats",
    queries: str | None = None,
    exclude_bos: bool = False,
    attention: str | None = None,
    batch_size: int | None = None,
) -> Measured:
    """Entropy of each head's attention rows: 0 for a single token, ln n for n tokens alike.

    ``values[layer, head, prompt]`` ≥ 0, in nats or bits; ``relative``: share of the largest possible, 0 to 1; ``keys``: as
    many tokens as equal weights with this entropy would lie on.

    Args:
        queries: only the rows of this span (or ``"end"``); None: all, but for the first of causal attention.
        exclude_bos: the first token left out and the rest of each row made to sum to one.
        attention: ``self``, ``encoder``, ``cross`` or ``vision``; None: the model's main attention.
        batch_size: prompts that are run together; changes no number.

    What a learned sink takes (GPT-OSS) is left out, and the rest made to sum to one. A row with a single visible key has no
    relative entropy.
    """
    stack = model.stack(attention)
    found = row_means(model, batch, {value: lambda block: entropy(block, value, exclude_bos)}, queries=queries,
                      attention=attention, batch_size=batch_size)[value]
    unit = {"nats": "nats", "bits": "bits", "relative": "share of the largest entropy", "keys": "keys"}[value]
    return Measured(values=found, attention=stack.attention, metric=unit)


def entropy(block: Block, value: str = "nats", exclude_bos: bool = False) -> Tensor:
    """Entropy of each row of a block [prompt, head, row]."""
    nats = torch.special.entr(normalised(block, exclude_bos)).sum(-1)
    if value == "relative":
        count = visible(block, exclude_bos).sum(-1)
        return nats / torch.where(count > 1, count, torch.nan).log()
    return {"nats": nats, "bits": nats / torch.log(torch.tensor(2.0)), "keys": nats.exp()}[value]

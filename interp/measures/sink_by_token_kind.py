"""Sink strength per token kind: what a token of each kind receives in each head."""

from typing import Any, Literal

import numpy as np

from interp.measures.measure import Measured, measure
from interp.measures.sink_statistics import Received, known_late, over_prompts, received
from interp.measures.token_kinds import KINDS, token_kinds


@measure(
    sense="larger = tokens of that kind receive more of the head's attention",
    formula=(
        "per token: mean of α_k over the tokens k of the kind, α_k = Σ_{i ≥ k} A[i, k] / (T − k + 1); total: mean over rows "
        "of Σ_{k of the kind} A[i, k]"
    ),
    source="ours, with α of Gu et al. 2025; that [SEP] and full stops draw attention: Clark et al. 2019",
    does_not_show="Why: kinds differ in place and number too; full stops come late, the first token has the most queries.",
    cost="one forward pass; in decoders read in blocks of rows, some 128 MiB of attention at a time, elsewhere by layer",
    about="attention",
)
def sink_by_token_kind(
    model: Any,
    batch: Any,
    *,
    value: Literal["per token", "total"] = "per token",
    late_keys: Literal["left out", "as published"] = "left out",
    epsilon: float = 0.3,
    horizon: int | None = None,
    attention: str | None = None,
    batch_size: int | None = None,
) -> Measured:
    """What the tokens of each kind receive: the mean weight of one of them, or the share of a row's weight on them all.

    ``values[layer, head, prompt, kind]`` from 0 to 1; NaN where a prompt has no token of the kind. Kinds: special tokens by
    their names ([CLS], [SEP]), ``first`` (the first token), ``punctuation``, ``line break``, ``space``, ``number``,
    ``word``; without a tokenizer, and for image patches, ``first`` and ``other``.

    Args:
        late_keys: for ``per token``: ``left out`` drops tokens that at most 1/``epsilon`` rows can see, whose mean says more
            of a head's reach than of the token.
        horizon: tokens of each prompt that are read; None: all. Causal attention only.
        attention, batch_size: see ``first_token_sink``.
    """
    stack = model.stack(attention)
    found = received(model, batch, attention=attention, until=horizon, batch_size=batch_size)
    kinds = token_kinds(model, batch, stack.attention, [one.keys for one in found])
    seen = {kind for row in kinds for kind in row}
    axis = (*sorted(seen - set(KINDS)), *(kind for kind in KINDS if kind in seen))
    drop = late_keys == "left out"
    values = [np.stack([of_kind(one, np.array(row) == kind, value, epsilon, drop) for kind in axis], axis=-1)
              for one, row in zip(found, kinds, strict=True)]
    unit = "attention weight" if value == "per token" else "share of attention"
    return Measured(values=over_prompts(values), attention=stack.attention, axes={"kind": axis}, metric=unit)


def of_kind(one: Received, chosen: np.ndarray, value: str, epsilon: float, drop_late: bool) -> np.ndarray:
    """What the ``chosen`` keys receive [layer, head]; NaN without any."""
    if value == "total":
        return one.mass(chosen) if chosen.any() else np.full(one.sums.shape[:2], np.nan)
    counted = chosen & ~(known_late(one, epsilon, "later queries") & drop_late)
    number = counted.sum(-1)[:, None]
    with np.errstate(invalid="ignore"):
        return (one.alpha() * counted[:, None]).sum(-1) / np.where(number > 0, number, np.nan)

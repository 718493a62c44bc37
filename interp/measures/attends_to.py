"""Attention to a target: how much of a head's attention goes where a head of a known kind would look."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.engine.streaming import Block, Fold, stream
from interp.measures.measure import Measured, measure
from interp.measures.targets import Target, first_token, itself, target_of, tokens_of


@measure(
    sense="larger = more of the head's attention goes to the target",
    formula=(
        "mul: Σ A[i, k] D[i, k] / Σ over the same rows i and all k of A[i, k]; abs: 1 − Σ |A − D| / number of rows i; "
        "D[i, k] = 1 where k is a target of i, else 0"
    ),
    source=(
        "detect_head of TransformerLens (rows='all', mul and abs); by rows that have a target: the diagonals of Elhage et "
        "al. 2021, Olsson et al. 2022 (arXiv 2209.11895) and Wang et al. 2022 (arXiv 2211.00593)"
    ),
    does_not_show=(
        "That the head uses what it looks at (it may write nothing, or nobody may read it), and why it looks there: on text "
        "the previous token, the duplicate and the first token may be one and the same. On repeated random tokens they are "
        "not (see prefix_matching)."
    ),
    cost="one forward pass, read in blocks of rows",
    about="attention",
)
def attends_to(
    model: Any,
    batch: Any,
    *,
    target: Literal[
        "previous token", "duplicate token", "induction", "first token", "self", "delimiter", "same word", "own word", "span"
    ] = "previous token",
    offset: int = 1,
    span: str | None = None,
    rows: Literal["with a target", "all"] = "with a target",
    queries: str | None = None,
    error_measure: Literal["mul", "abs"] = "mul",
    exclude_bos: bool = False,
    exclude_current_token: bool = False,
    attention: str | None = None,
    batch_size: int | None = None,
) -> Measured:
    """How much of each head's attention goes to a target such as the previous token, a duplicate, or an induction target.

    ``values[layer, head, prompt]``: a share of attention from 0 to 1 (``mul``), or a likeness from −1 to 1 (``abs``). NaN
    for a prompt without such a row.

    Args:
        target: ``previous token``: ``offset`` places before; ``duplicate token``: an earlier occurrence of the query's token
            (another one, where attention sees both ways); ``induction``: ``offset`` places after such an occurrence; ``first
            token``; ``self``; ``delimiter``: punctuation, line breaks and special tokens but the first token; ``same word``:
            another occurrence of the query's word, whatever its case and its tokens; ``own word``: the other tokens of the
            query's word; ``span``: the tokens of a span that the batch names.
        span: its name, for ``target='span'``.
        rows: ``with a target``: rows that have one, and more than one key to look at. ``all``: every row, as in
            TransformerLens: a head then cannot score more than the share of rows that have a target.
        queries: only rows of this span (or ``"end"``, the last token).
        error_measure: ``mul``: the share of attention on targets. ``abs``: one less the mean absolute difference between
            attention and D, which tells how the weight is spread over several targets (TransformerLens rounds it).
        exclude_bos, exclude_current_token: leave attention to the first token, or to the query's own, out of both sums.
        attention: ``self``, ``encoder``, ``cross`` or ``vision``; None: the model's main attention.
        batch_size: prompts that are run together; changes no number.

    What a learned sink takes (GPT-OSS) is on no token and counts as attention elsewhere.

    Raises InterpError where no prompt has such a row, and where the attention cannot have the target (see ``target_of``).
    """
    stack = model.stack(attention)
    wanted = target_of(model, batch, stack, target, offset=offset, span=span)
    found = attention_on(model, batch, {target: wanted}, rows=rows, queries=queries, error_measure=error_measure,
                         exclude_bos=exclude_bos, exclude_current_token=exclude_current_token, attention=attention,
                         batch_size=batch_size)[target]
    if not np.isfinite(found).any():
        raise InterpError(f"measure attention to the target {target!r} on {batch.task}", "no prompt has a row with it",
                          "use another target, or prompts that have one (that repeat a token, for duplicates and induction)")
    unit = "share of attention" if error_measure == "mul" else "likeness"
    return Measured(values=found, attention=stack.attention, metric=unit)


def attention_on(model: Any, batch: Any, targets: Mapping[str, Target], *, rows: str = "with a target",
                 queries: str | None = None, error_measure: str = "mul", exclude_bos: bool = False,
                 exclude_current_token: bool = False, attention: str | None = None, on: str = "clean",
                 block: int | None = None, batch_size: int | None = None) -> dict[str, np.ndarray]:
    """The same for several targets in one pass over the prompts: name -> [layer, head, prompt]. Arguments as there."""
    stack = model.stack(attention)
    asked = None if queries is None else tokens_of(model, batch, queries, stack, on=on)
    folds = {name: sums(target, rows, asked, exclude_bos, exclude_current_token) for name, target in targets.items()}
    found = stream(model, batch, folds, attention=attention, on=on, block=block, batch_size=batch_size)
    return {name: np.stack([score(one, error_measure) for one in found[name]], axis=2) for name in targets}


def sums(target: Target, rows: str = "with a target", queries: Sequence[Tensor] | None = None, exclude_bos: bool = False,
         exclude_current_token: bool = False) -> Fold:
    """The fold that keeps, over the chosen rows, [prompt, head, 5]: weight on targets, on all keys that are not excluded, on
    excluded ones; number of targets that are not excluded, and of rows."""
    def fold(kept: Tensor | None, block: Block) -> Tensor:
        weights, wanted = block.tensor.float(), target(block)
        excluded = torch.zeros_like(wanted[:1])
        for leave_out, at in ((exclude_bos, first_token), (exclude_current_token, itself)):
            excluded = excluded | at(block) if leave_out else excluded
        wanted = wanted & ~excluded
        chosen = torch.ones(len(block.prompts), len(block.rows), dtype=torch.bool, device=weights.device)
        if queries is not None:
            chosen &= torch.stack([queries[i] for i in block.prompts.tolist()]).to(weights.device)[:, block.rows]
        if rows == "with a target":
            alone = (block.rows == 0) & block.stack.causal
            chosen = chosen & wanted.any(-1) & ~alone
        counted = chosen[:, None].double()
        on_target = (weights * wanted[:, None]).sum(-1)
        out = (weights * excluded[:, None]).sum(-1) if exclude_bos or exclude_current_token else torch.zeros_like(on_target)
        number = wanted.sum(-1)[:, None].expand_as(on_target)
        parts = (on_target, weights.sum(-1) - out, out, number, torch.ones_like(on_target))
        new = torch.stack([(part.double() * counted).sum(-1) for part in parts], dim=-1)
        return new if kept is None else kept + new

    return Fold("pattern", fold)


def score(found: Tensor, error_measure: str = "mul") -> np.ndarray:
    """Share of attention on targets, or likeness, from what ``sums`` keeps [..., 5]; NaN without a row."""
    on, rest, out, number, rows = found.double().unbind(-1)
    if error_measure == "mul":
        return torch.where(rows - out > 1e-9, on / (rows - out).clamp(min=1e-9), torch.nan).numpy()
    return torch.where(rows > 0, 1 - (rest + number - 2 * on) / rows.clamp(min=1), torch.nan).numpy()

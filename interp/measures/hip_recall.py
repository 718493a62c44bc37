"""HiP recall: how much of a head's largest attention a tree search over the keys finds."""

from typing import Any, Literal

import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.engine.streaming import Block
from interp.measures.attention_rows import normalised, one_sequence, row_means
from interp.measures.measure import Measured, measure


@measure(
    sense="larger = the tree search loses less of the head's largest attention",
    formula="mean over rows i of Σ_{j found} A[i, j] / Σ_{j among the k largest} A[i, j]",
    source=(
        "after HiP (Lee et al. 2024, arXiv 2406.09827): top-k keys by halving ranges in which attention is taken to be "
        "local; the statistic per head and this search (k ranges, one key speaking for each half) are ours"
    ),
    does_not_show="What a kernel of HiP keeps, which searches for blocks of queries together; and whether the loss matters.",
    cost="one forward pass, read in blocks of rows",
    about="attention",
)
def hip_recall(
    model: Any,
    batch: Any,
    *,
    k: int = 512,
    representative: Literal["middle", "first"] = "middle",
    exclude_bos: bool = False,
    queries: str | None = None,
    attention: str | None = None,
    batch_size: int | None = None,
) -> Measured:
    """Share of the true top-k attention that a search finds which halves k ranges of keys until each is a single key.

    ``values[layer, head, prompt]`` from 0 to 1. The visible keys of a row are cut into k ranges; each is halved, the half's
    representative speaks for it, and the k best halves go on. A row with at most ``k`` visible keys has no value, since all
    are found: NaN for prompts without a longer one.

    Args:
        k: keys that are kept. representative: the key that speaks for a range.
        exclude_bos: the first token is neither searched nor found (such searches keep it in any case).
        queries: only the rows of this span (or ``"end"``).
        attention: ``self``; None: the model's main attention. batch_size: prompts run together; changes no number.

    Raises InterpError for attention that is not causal, and where no row sees more than ``k`` keys.
    """
    stack = model.stack(attention)
    one_sequence(stack, "search the keys")
    if k < 1 or not stack.causal:
        raise InterpError(f"search the {k} largest keys of {stack.attention} attention", "the search is of earlier "
                          "keys, for at least one", "use causal attention and k of 1 or more")
    found = row_means(model, batch, {"recall": lambda block: recall(block, k, representative, exclude_bos)},
                      queries=queries, attention=attention, batch_size=batch_size)["recall"]
    if not (found == found).any():
        raise InterpError(f"search the {k} largest keys on {batch.task}", "no row sees more keys than that",
                          "use longer prompts or a smaller k")
    return Measured(values=found, attention=stack.attention, metric="share of attention")


def recall(block: Block, k: int, representative: str = "middle", exclude_bos: bool = False) -> Tensor:
    """Recall of the search in each row of a block [prompt, head, row]; NaN for rows of at most ``k`` keys."""
    weights = normalised(block, exclude_bos)
    begin = int(exclude_bos)
    count = (block.rows + 1 - begin).double()
    edges = (count[:, None] * torch.arange(k + 1, device=weights.device) / k).floor().long() + begin
    left, right = (x.expand(*weights.shape[:3], k) for x in (edges[:, :-1], edges[:, 1:]))      # ranges [left, right)
    for _ in range(int(max(1, (count.max() / k).ceil().item())).bit_length()):
        middle = (left + right + 1) // 2
        starts, stops = torch.cat([left, middle], -1), torch.cat([middle, right], -1)
        speaker = starts if representative == "first" else (starts + stops - 1) // 2
        score = weights.gather(-1, speaker.clamp(0, weights.shape[-1] - 1)).masked_fill(stops <= starts, -1)
        best = score.topk(k, dim=-1).indices
        left, right = starts.gather(-1, best), stops.gather(-1, best)
    found = torch.where(right > left, weights.gather(-1, left.clamp(0, weights.shape[-1] - 1)), 0).sum(-1)
    true = weights.topk(min(k, weights.shape[-1]), dim=-1).values.sum(-1)
    return torch.where(count > k, found / true, torch.nan)

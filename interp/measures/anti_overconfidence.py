"""Anti-overconfidence: which heads hold back the token that the model is about to say, above all in the last layer."""

from typing import Any, Literal

import numpy as np
import torch

from interp.measures.lens import lens_runs, looked_up, part_logits, place, stream_logits
from interp.measures.logit_decomposition import beside_attention
from interp.measures.measure import Measured, measure
from interp.models.sites import Site


@measure(
    sense="larger = the head holds the token back more; negative = it pushes the token",
    formula=(
        "logit: mean over the vocabulary of the head's direct logits − its direct logit of the token, final norm frozen; "
        "log-probability: log p(token) of the last stream without the head − log p(token)"
    ),
    source=(
        "Lv et al. 2024 (arXiv 2403.19521): the last layer suppresses the right answer in all models they read; their "
        "formula is not known to us, both values are ours"
    ),
    does_not_show=(
        "That suppression is a fault: it may calibrate, as the name says. Only the direct path counts. The published "
        "mechanism is the last layer's; in earlier ones later layers may undo what is seen here. A head that holds back "
        "every prediction and one that holds back wrong ones look alike: compare prompts answered rightly and wrongly."
    ),
    cost="one forward pass, and the unembedding once per head and prompt",
    about="output",
)
def anti_overconfidence(
    model: Any,
    batch: Any,
    *,
    value: Literal["logit", "log-probability"] = "logit",
    token: Literal["answer", "wrong", "predicted"] | int = "answer",
    batch_size: int | None = None,
) -> Measured:
    """How much each head holds a token back at the answer position, by its direct path to the logits.

    ``values[layer, head, prompt]`` in logits or nats. The direct logit is taken against its mean over the vocabulary,
    because what is added to all tokens alike changes no probability. ``log-probability`` also sees a head that holds back
    by feeding the final norm, so that all logits shrink.

    Per prompt the scores carry, under ``baselines``, what the last layer does as a whole: ``before`` and ``after`` (log
    probability of the token under the logit lens before the last block, and the model's own), ``attention`` and ``mlp``
    (value='logit' of the last layer's attention with its bias, and of its MLP), ``said`` (1 where the token is the model's
    own first choice). Anti-overconfidence is ``after`` < ``before`` on prompts that are answered rightly.

    Args:
        token: as for ``logit_lens``; published for right answers. batch_size: prompts per pass; changes no number.

    Raises:
        InterpError: as ``logit_lens``.
    """
    last = model.n_layers - 1
    beside = beside_attention(model, last)
    extra = [Site("resid_pre", last), Site("attn_write", last), *(site for site, _ in beside)]
    pieces, facts = [], []
    for run, part in lens_runs(model, batch, extra, batch_size=batch_size):
        tokens, there = looked_up(run, part, token)
        rank, _, after = place(stream_logits(model, run.resid), tokens, there)
        mlp = sum(sign * run.at(site) for site, sign in beside)
        before = place(stream_logits(model, run.at(extra[0])), tokens, there)[2]
        shares = [_held_back(part_logits(model, x, run.resid), tokens, there) for x in (run.at(extra[1]), mlp)]
        facts.append(np.stack([before, after, *shares, rank == 0]))
        made = []
        for layer in range(model.n_layers):
            writes = run.writes(layer)
            if value == "logit":
                made.append(_held_back(part_logits(model, writes, run.resid), tokens, there))
            else:
                made.append(place(stream_logits(model, run.resid - writes), tokens, there)[2] - after)
        pieces.append(np.stack(made))
    names = ("before", "after", "attention", "mlp", "said")
    return Measured(values=np.concatenate(pieces, axis=-1), attention="self", signed=True,
                    baselines=dict(zip(names, np.concatenate(facts, axis=-1), strict=True)),
                    metric="logits" if value == "logit" else "nats",
                    notes={"logits": "before a final soft cap, if the model has one"})


def _held_back(logits: torch.Tensor, tokens: torch.Tensor, there: torch.Tensor) -> np.ndarray:
    """Mean over the vocabulary minus the token (the mean over several), [..., n] from logits [..., n, vocab]."""
    own = (logits.gather(-1, tokens.expand(*logits.shape[:-2], *tokens.shape)) * there).sum(-1) / there.sum(-1)
    return (logits.double().mean(-1) - own.double()).cpu().numpy()

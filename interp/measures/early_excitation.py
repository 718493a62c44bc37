"""Early excitation: which heads bring a token up in the logit lens, and which push it down again before the end."""

from typing import Any, Literal

import numpy as np
import torch

from interp.measures.lens import lens_runs, looked_up, place, stream_logits
from interp.measures.measure import Measured, measure
from interp.models.sites import Site


@measure(
    sense="larger = adding the head's output brings the token up in the logit lens; negative = it pushes the token down",
    formula=(
        "log2 (1 + R without the head) − log2 (1 + R with it), R the token's rank under the logit lens of the stream after "
        "the layer's attention; value='log-probability': the difference of the token's log probabilities there"
    ),
    source=(
        "Li et al. 2025 (arXiv 2502.03628): ranks R of tokens by layer, early excitation, hidden tokens; what a single head "
        "does to the rank is ours"
    ),
    does_not_show=(
        "What later layers make of it: the lens reads every layer as if it were the last, which early layers are not made "
        "for. Where all heads of a layer write the same, each alone seems needless."
    ),
    cost="one forward pass, and the unembedding once per head and prompt",
    about="output",
)
def early_excitation(
    model: Any,
    batch: Any,
    *,
    value: Literal["rank", "log-probability"] = "rank",
    token: Literal["answer", "wrong", "predicted"] | int = "answer",
    batch_size: int | None = None,
) -> Measured:
    """How many doublings of rank each head lifts a token by, in the stream of its own layer at the answer position.

    ``values[layer, head, prompt]``: 1 = the head halves the number of tokens above the looked-up one; or nats.

    Per prompt the scores carry, under ``baselines``, what is published of layers: ``peak`` (after how many blocks the token
    stands highest), ``rank at peak``, ``rank at end``, and ``early`` (1 where it stood higher before the last block than
    after it). ``interp.measures.lens.layer_lens`` has the rank after every block, and the hidden tokens.

    Args:
        token: as for ``logit_lens``. batch_size: prompts per pass; changes no number.

    Raises:
        InterpError: as ``logit_lens``.
    """
    layers = range(model.n_layers)
    before = [Site("resid_pre", layer) for layer in layers]
    added = [Site("attn_write", layer) for layer in layers]
    after = [Site("resid_post", layer) for layer in layers]
    pieces, ranks = [], []
    for run, part in lens_runs(model, batch, [*before, *added, *after], batch_size=batch_size):
        tokens, there = looked_up(run, part, token)
        streams = torch.stack([run.at(site) for site in (before[0], *after)])
        ranks.append(place(stream_logits(model, streams), tokens, there)[0])
        made = []
        for layer in layers:
            stream, writes = run.at(before[layer]) + run.at(added[layer]), run.writes(layer)
            whole = _height(model, stream, tokens, there, value)
            made.append(whole - _height(model, stream - writes, tokens, there, value))
        pieces.append(np.stack(made))
    found = np.concatenate(ranks, axis=-1)
    facts = {"peak": found.argmin(0), "rank at peak": found.min(0), "rank at end": found[-1],
             "early": (found[:-1].min(0) < found[-1]).astype(np.float64)}
    return Measured(values=np.concatenate(pieces, axis=-1), attention="self", baselines=facts, signed=True,
                    metric="doublings of rank" if value == "rank" else "nats", notes={"vocabulary": model.vocab_size})


def _height(model: Any, stream: Any, tokens: Any, there: Any, value: str) -> np.ndarray:
    """How high the token stands in a stream: −log2 (1 + rank), or its log probability."""
    rank, _, logprob = place(stream_logits(model, stream), tokens, there)
    return -np.log2(1 + rank) if value == "rank" else logprob

"""Logit lens per head: where a token stands when a head's output alone is read as logits."""

from typing import Any, Literal

import numpy as np

from interp.measures.lens import lens_runs, looked_up, part_logits, place, stream_logits
from interp.measures.measure import Measured, measure


@measure(
    sense=(
        "larger = the head by itself puts the token higher; of value='rank' the other way round: 0 = on top of the "
        "vocabulary, half of the vocabulary = by chance"
    ),
    formula=(
        "logits = W_U · norm(z · W_O), the scale of the final norm frozen at the run (norm='frozen') or that of the head's "
        "own output (norm='own'); rank R = number of tokens above the looked-up one, ties by half; reciprocal rank 1/(1+R)"
    ),
    source=(
        "logit lens: nostalgebraist 2020; token ranks: Li et al. 2025, arXiv 2502.03628, who take them of the streams of "
        "layers (layer_lens, early_excitation); of single heads: Geva et al. 2022 and later, Wang et al. 2022"
    ),
    does_not_show=(
        "That the head decides what is said: a small output may put a token on top (value='logit' keeps the size), and what "
        "it writes may be meant for later layers, which do not read through the unembedding. A rank says nothing of margins."
    ),
    cost="one forward pass, and the unembedding once per head and prompt",
    about="output",
)
def logit_lens(
    model: Any,
    batch: Any,
    *,
    value: Literal["reciprocal rank", "rank", "logit", "log-probability"] = "reciprocal rank",
    token: Literal["answer", "wrong", "predicted"] | int = "answer",
    norm: Literal["frozen", "own"] = "frozen",
    batch_size: int | None = None,
) -> Measured:
    """Where a token stands when each head's output at the answer position is read as logits.

    ``values[layer, head, prompt]``: 1/(1+R), R from 0 to the vocabulary's size less one; a logit; or nats. A head that
    writes nothing leaves all tokens level (norm='frozen'), so that the token stands at half of the vocabulary.

    Args:
        value: as above. ``logit`` with the frozen norm is the part of direct logit attribution that goes to this one token.
        token: the prompt's ``answer``, a ``wrong`` answer (of several the best placed), the token the model ``predicted``,
            or a token id.
        norm: ``frozen``: the final norm's scale is that of this run, its bias and the unembedding's are left out, so that
            logits of parts add up. ``own``: the head's output goes through the norm as if it were the whole stream, biases
            included, as the lens is put on layers.
        batch_size: prompts per pass; changes no number.

    Raises:
        InterpError: the model is no decoder-only language model; prompts without such tokens.
    """
    index = {"reciprocal rank": 0, "rank": 0, "logit": 1, "log-probability": 2}[value]
    pieces = []
    for run, part in lens_runs(model, batch, batch_size=batch_size):
        tokens, there = looked_up(run, part, token)
        layers = []
        for layer in range(model.n_layers):
            writes = run.writes(layer)
            logits = part_logits(model, writes, run.resid) if norm == "frozen" else stream_logits(model, writes)
            layers.append(place(logits, tokens, there)[index])
        pieces.append(np.stack(layers))
    values = np.concatenate(pieces, axis=-1)
    return Measured(values=1 / (1 + values) if value == "reciprocal rank" else values, attention="self", metric=value,
                    signed=False, notes={"vocabulary": model.vocab_size,
                                         "logits": "before a final soft cap, if the model has one"})

"""Prefix matching: attention from a token back to what followed it before, on repeated random tokens."""

import random
from typing import Any, Literal

import torch

from interp.core.errors import InterpError
from interp.engine.streaming import stream
from interp.measures.attends_to import score, sums
from interp.measures.measure import Measured, measure
from interp.measures.sink_statistics import over_prompts
from interp.measures.targets import Target, induction
from interp.tasks.texts import Texts, from_texts
from interp.tasks.tokenise import begin


@measure(
    sense="larger = the head looks more at what followed the same token before, where nothing but the repetition tells it",
    formula=(
        "on N random tokens, repeated R times: mean over the rows i after the first copy of Σ_k A[i, k] over the keys k "
        "that follow an earlier occurrence of token i"
    ),
    source="Olsson et al. 2022 (arXiv 2209.11895): 25 tokens, four times, after the beginning of a text",
    does_not_show=(
        "That the head writes the token it looks at (that is copying), or that a task uses it. A head that merely looks N − "
        "1 tokens back scores as well: shuffled=True draws another order for each copy, where it does not."
    ),
    cost="one forward pass over N · R tokens per prompt",
    about="attention",
)
def prefix_matching(
    model: Any,
    batch: Any,
    *,
    length: int = 25,
    repeats: int = 4,
    counting: Literal["rows", "entries", "last occurrence"] = "rows",
    shuffled: bool = False,
    seed: int = 0,
    attention: str | None = None,
    batch_size: int | None = None,
) -> Measured:
    """How strongly each head looks at the token after an earlier occurrence of the current one, on repeated random tokens.

    ``values[layer, head, prompt]`` from 0 to 1. Of the batch only the number of prompts is used: the prompts are the
    measure's own, drawn by ``seed`` from all tokens that are not special (published: without the most and the least common
    ones), after the tokenizer's own beginning.

    Args:
        length, repeats: N tokens in a copy, R copies.
        counting: ``rows``: what a row gives to all such keys, so that a head that does nothing else scores 1. ``entries``:
            the mean over the pattern's entries, which four copies limit to 1/2. ``last occurrence``: only the key after the
            latest one. All are the same with two copies.
        shuffled: each copy in an order of its own; the tokens after a token then differ between copies.
        attention: ``self`` only; None: the model's main attention. batch_size: prompts run together; changes no number.
    """
    stack = model.stack(attention)
    if stack.attention != "self" or not model.vocab_size or any(other.attention != "self" for other in model.stacks):
        raise InterpError(f"measure prefix matching of {model.name}", "it does not read a text alone, in one sequence",
                          "use a decoder, or attends_to with target='induction'")
    if length < 2 or repeats < 2:
        raise InterpError(f"repeat {length} random tokens {repeats} times", "nothing follows a token again",
                          "use a length and repeats of 2 or more")
    texts = repeated_tokens(model, batch.n, length, repeats, shuffled=shuffled, seed=seed)
    target: Target = last_occurrence if counting == "last occurrence" else induction
    found = stream(model, texts, {"sums": sums(target)}, attention=attention, batch_size=batch_size)["sums"]
    values = [(one[..., 0] / one[..., 3]).numpy() if counting == "entries" else score(one) for one in found]
    return Measured(values=over_prompts(values), attention=stack.attention, metric="share of attention",
                    notes={"prompts": texts.provenance_dict()})


def repeated_tokens(model: Any, n: int, length: int = 25, repeats: int = 4, *, shuffled: bool = False,
                    seed: int = 0) -> Texts:
    """``n`` texts of ``length`` different random tokens written ``repeats`` times, each copy in an order of its own if
    ``shuffled``, after the tokenizer's own beginning."""
    special = set() if model.tokenizer is None else set(model.tokenizer.all_special_ids)
    known = model.vocab_size if model.tokenizer is None else min(model.vocab_size, len(model.tokenizer))
    ids = [token for token in range(known) if token not in special]
    if len(ids) < length:
        raise InterpError(f"draw {length} different random tokens", f"the model has {len(ids)}", "use a smaller length")
    rng, rows = random.Random(seed), []
    for _ in range(n):
        drawn = rng.sample(ids, length)
        copies = [rng.sample(drawn, length) if shuffled and copy else drawn for copy in range(repeats)]
        rows.append([*begin(model.tokenizer), *(token for copy in copies for token in copy)])
    origin = {"version": 1, "seed": seed, "options": {"length": length, "repeats": repeats, "shuffled": shuffled}}
    return from_texts(model, rows, name="repeated random tokens", origin=origin)


def last_occurrence(block: Any) -> torch.Tensor:
    """The key after the latest earlier occurrence of the query's token [prompt, row, key]."""
    seen = induction(block)
    count = torch.arange(seen.shape[-1], device=seen.device)
    latest = torch.where(seen, count, -1).amax(-1, keepdim=True)
    return seen & (count == latest)

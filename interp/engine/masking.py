"""The masking curve: how often the model is right with the K heads of the highest scores masked, against K others."""

import random
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, Literal

import numpy as np

from interp.core.curves import MATCHED, RANDOM, TOP, MaskingCurve
from interp.core.errors import InterpError
from interp.core.head import Head
from interp.core.registry import unknown
from interp.core.scores import HeadScores
from interp.engine.answers import ENOUGH, first_right, recalls, stop_tokens
from interp.engine.intervention import AttendToFirst, Intervention, Uniform, Zero
from interp.engine.long_generation import generate_long

PUBLISHED_KS = (2, 5, 10, 15, 20, 30, 50, 100)
Mask = Literal["zero", "uniform", "first"]
Where = Literal["everywhere", "end"]
Heads = tuple[Head, ...]


def masking_curve(model: Any, batch: Any, scores: HeadScores, *, ks: Sequence[int] | None = None, mask: Mask = "zero",
                  where: Where = "everywhere", draws: int = 10, seed: int = 0, outside: Literal["largest", "k"] = "largest",
                  answer: str | None = None, new_tokens: int = 50, batch_size: int | None = None) -> MaskingCurve:
    """Accuracy on ``batch`` with the top K heads of ``scores`` masked, for each K, beside random heads.

    Two controls, ``draws`` random sets each: ``random``: K heads out of those outside the top; ``layer-matched``: as many in
    each layer as the top K have, out of that layer's others; where a layer has none left, out of the nearest layers
    (``unmatched`` of the curve says how many). The second answers the objection that any heads of these layers would do.

    Args:
        scores: of heads; ranked by their mean over prompts, ties to the earlier head. Prompts other than those they were
            computed on make the comparison fair.
        ks: None: the published 2, 5, 10, 15, 20, 30, 50, 100, as far as they leave half of the heads.
        mask: ``zero``: the head's output z is 0; ``uniform``: it attends equally to every token it can see, as in the
            released code of Wu et al. 2024 (where the query is set to 0); ``first``: it attends to the first token only.
        where: ``everywhere`` (as published: prompt and generated tokens), or ``end``: only at the tokens that a next one is
            predicted from, so that what the heads do for the reading of the prompt stays.
        outside: random heads are taken from outside the top ``largest`` K (as published: outside the top 100), or from
            outside the top ``k`` that they are compared with.
        answer: the name of the span whose words the model must generate (more than half of them, within ``new_tokens``
            tokens); None: its first token must be a right answer of the batch.
        batch_size: prompts worked on together; changes no number.

    Source: Wu et al. 2024, arXiv 2404.15574 (top against random); layer-matched heads are our addition.

    Raises:
        InterpError: more heads than there are, scores of other heads than the model's or with further axes; no masked head
            changes anything.
    """
    ranked = _ranked(model, scores)
    counts = _counts(ks, len(ranked))
    if draws < 1:
        raise InterpError(f"draw {draws} sets of random heads", "there is nothing to compare with", "draw at least 1")
    if mask not in ("zero", "uniform", "first"):
        raise unknown("way to mask a head", str(mask), ["zero", "uniform", "first"])
    if where not in ("everywhere", "end"):
        raise unknown("place to mask a head at", str(where), ["everywhere", "end"])
    if outside not in ("largest", "k"):
        raise unknown("rule for random heads", str(outside), ["largest", "k"])
    rng = random.Random(seed)
    sets: dict[str, list[list[Heads]]] = {TOP: [], RANDOM: [], MATCHED: []}
    unmatched = []
    for k in counts:
        others = ranked[(max(counts) if outside == "largest" else k):]
        sets[TOP].append([ranked[:k]])
        sets[RANDOM].append([_drawn(rng, others, k) for _ in range(draws)])
        matched = [layer_matched(rng, ranked[:k], others) for _ in range(draws)]
        sets[MATCHED].append([heads for heads, _ in matched])
        unmatched.append(matched[0][1])
    known: dict[frozenset[Head], np.ndarray] = {}

    def right(heads: Heads) -> np.ndarray:
        if (key := frozenset(heads)) not in known:
            known[key] = accuracy(model, batch, heads, mask, where, answer=answer, new_tokens=new_tokens,
                                  batch_size=batch_size)
        return known[key]

    untouched = accuracy(model, batch, (), mask, where, answer=answer, new_tokens=new_tokens, batch_size=batch_size)
    lines = {name: np.array([[right(heads) for heads in of_k] for of_k in line]) for name, line in sets.items()}
    return MaskingCurve(
        ks=counts, untouched=untouched, lines=lines, unmatched=tuple(unmatched),
        heads={name: tuple(tuple(tuple(map(str, heads)) for heads in of_k) for of_k in line) for name, line in sets.items()},
        facts={"model": model.provenance_dict(), "task": batch.provenance_dict(), "ranked by": scores.provenance.measure,
               "ranked on": scores.provenance.task, "mask": mask, "where": where, "draws": draws, "seed": seed,
               "outside": outside, "right": "first token" if answer is None else f"more than half of the words of {answer}"},
    )


def accuracy(model: Any, batch: Any, heads: Collection[Head], mask: Mask, where: Where = "everywhere", *,
             answer: str | None = None, new_tokens: int = 50, batch_size: int | None = None) -> np.ndarray:
    """1 or 0 per prompt: is the model right with these heads masked? [n]. Arguments as for ``masking_curve``.

    Raises ``InterpError`` where heads are masked and nothing changes on any prompt.
    """
    items = masking(heads, mask, where)
    steps = 1 if answer is None else new_tokens
    stop = stop_tokens(model.tokenizer) if answer is not None else ()
    generated = generate_long(model, batch, steps, items, stop=stop, batch_size=batch_size)
    if items and not bool(generated.acted.any()):
        raise InterpError(f"mask {', '.join(map(str, sorted(heads)))} ({mask})", "it changes nothing on any prompt",
                          "mask in another way: these heads do that already")
    if answer is None:
        return first_right(batch, generated)
    return (recalls(model, batch, generated, answer) > ENOUGH).astype(np.float64)


def masking(heads: Collection[Head], mask: Mask, where: Where = "everywhere") -> tuple[Intervention, ...]:
    """The interventions that mask these heads, one per layer."""
    at = None if where == "everywhere" else where
    what, value = {"zero": ("z", Zero()), "uniform": ("pattern", Uniform()), "first": ("pattern", AttendToFirst())}[mask]
    layers = sorted({head.layer for head in heads})
    return tuple(Intervention(what, layer, tuple(sorted(h.head for h in heads if h.layer == layer)), at, value)
                 for layer in layers)


def layer_matched(rng: random.Random, top: Sequence[Head], others: Sequence[Head]) -> tuple[Heads, int]:
    """Random heads of ``others`` with as many in each layer as ``top`` has, and how many had to come from another layer.

    Layers that lack heads are served last, each from the nearest layers that have any left (the side at random).
    """
    left: dict[int, list[Head]] = {}
    for head in others:
        left.setdefault(head.layer, []).append(head)
    chosen, missing = [], []
    for layer, count in sorted(Counter(head.layer for head in top).items()):
        own = left.get(layer, [])
        rng.shuffle(own)
        here = min(count, len(own))
        chosen += [own.pop() for _ in range(here)]
        missing += [layer] * (count - here)
    for layer in missing:
        near = min((near for near in left if left[near]), key=lambda near: (abs(near - layer), rng.random()), default=None)
        if near is None:
            raise InterpError(f"draw {len(top)} other heads", f"there are {len(others)}", "mask fewer heads")
        chosen.append(left[near].pop(rng.randrange(len(left[near]))))
    return tuple(sorted(chosen)), len(missing)


def _drawn(rng: random.Random, others: Sequence[Head], k: int) -> Heads:
    if k > len(others):
        raise InterpError(f"draw {k} other heads", f"there are {len(others)}", "mask fewer heads, or use outside='k'")
    return tuple(sorted(rng.sample(list(others), k)))


def _ranked(model: Any, scores: HeadScores) -> Heads:
    """Heads by mean score, highest first; those without a score are left out."""
    stack = model.stack("self")
    asked = f"rank the heads of {model.name} by {scores.provenance.measure}"
    if scores.values.ndim != 3:
        raise InterpError(asked, f"it has the further axes {', '.join(scores.dims[3:])}", "choose one label with .at(...)")
    if (scores.attention, scores.unit) != ("self", "head") or scores.values.shape[:2] != (stack.n_layers, stack.n_heads):
        raise InterpError(asked, f"they are scores of {scores.n_layers}x{scores.n_heads} {scores.attention} {scores.unit}s "
                          f"and the model has {stack.n_layers}x{stack.n_heads} heads", "use scores of this model's heads")
    mean = scores.mean().ravel()
    order = np.argsort(-np.where(np.isfinite(mean), mean, -np.inf), kind="stable")
    return tuple(scores.heads[i] for i in order if np.isfinite(mean[i]))


def _counts(ks: Sequence[int] | None, n: int) -> tuple[int, ...]:
    counts = tuple(sorted(set(ks))) if ks is not None else tuple(k for k in PUBLISHED_KS if k <= n // 2)
    if not counts or counts[0] < 1 or counts[-1] > n // 2:
        raise InterpError(f"mask {list(counts)} of {n} heads", "as many others are needed to compare with",
                          f"choose numbers from 1 to {n // 2}")
    return counts

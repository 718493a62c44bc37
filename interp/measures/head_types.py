"""Head types: one table that says what each head is, with the evidence, how far it can be relied on, or "unknown"."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.core.head_types import SINK, HeadTypes, Role, call_types
from interp.engine.streaming import Block, Fold, stream
from interp.measures.attends_to import attends_to, score, sums
from interp.measures.attention_rows import visible
from interp.measures.direct_logit_attribution import direct_logit_attribution
from interp.measures.prefix_matching import repeated_tokens
from interp.measures.retrieval_score import retrieval_score
from interp.measures.targets import Target, target_of
from interp.tasks.texts import plain_texts, random_texts

TOKENS = 24
"""Random tokens in a text, and in each copy of a repeated one."""
ONE_TOKEN = 0.5
"""Plain texts of which one token makes up a larger share are no texts to the model."""
WRITES = 0.01
"""A head moves something on a prompt where its direct contribution is at least this share of all heads' (magnitudes)."""
ATTENTION = ("previous token", "duplicate token", "induction", "self")
REPEATING = ("duplicate token", "induction")


def head_types(model: Any, texts: Mapping[str, Any] | None = None, *, at_least: float = 0.3, epsilon: float = 0.3,
               confidence: float = 0.95, in_texts: float = 0.5, needles: Any = None, retrieved: float = 0.1,
               task: Any = None, moved: str | None = None, n: int = 12, n_boot: int = 1000, seed: int = 0,
               attention: str | None = None, batch_size: int | None = None) -> HeadTypes:
    """What each head is: where it looks, whether it rests, and (asked with prompts that tell) what it retrieves and moves.

    Roles by attention, each measured on several kinds of texts, on the rows that have a target (``attends_to``):
    ``previous token``, ``duplicate token``, ``induction``, ``self``, ``delimiter`` (texts of words only). Strength is the
    share of attention on the target, less what attention spread evenly would give it, over what would be left:
    (s − e) / (1 − e); 0 is a head that knows nothing of it. ``first-token sink``: the share of rows, from the second on,
    that give the first token more than ``epsilon``, less the share by even attention, in the same way; the share of rows
    itself stands in the name.
    ``retrieval`` (with ``needles``): the retrieval score, teacher-forced. ``mover of X`` and ``negative mover of X`` (with
    ``task`` and ``moved="X"``): attention from the last token to the span X, counted on the prompts where the head's direct
    contribution to the answer is positive (negative) and not negligible.

    Texts: random tokens, repeated random tokens, repeated ones with each copy in another order, plain texts (where the
    model has a tokenizer that knows their words), and yours. Those that repeat nothing do not count for duplicates and
    induction.

    A role is called where its mean strength is ``at_least`` so much on more than the share ``in_texts`` of the texts that
    can tell, and in the share ``confidence`` of resamples of the prompts; ``unknown`` is every other head. A head with
    several is named by the strongest, and by the sink only if there is none.

    What it does not show: that a role matters (a head may write nothing, or nobody may read it: see the measures of
    effects), and what a head does on texts of other kinds. Types name what is looked at; an induction head by attention
    need not copy (``copying_score``).

    Args:
        texts: name -> further ``Texts`` or ``Batch``.
        needles: prompts with the spans ``needle`` and ``answer``. retrieved: the retrieval score asked for (published 0.1).
        task: a ``Batch`` with answers. moved: the span whose movers are looked for.
        n: prompts of each kind of texts. n_boot, seed: of the resamples; the seed also draws the texts.

    Cost: one forward pass over the texts (some n · 200 short tokens), and those of the measures asked for besides.
    """
    stack = model.stack(attention)
    if stack.attention in ("cross", "vision"):
        raise InterpError(f"type the heads of {stack.attention} attention", "their keys are no earlier tokens of one text",
                          "choose another attention, or use the measures themselves")
    if (task is None) != (moved is None):
        raise InterpError("find the heads that move a span", f"task is {task!r} and moved is {moved!r}", "give both or none")
    own, left_out = type_texts(model, n, seed)
    found: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    for name, batch in {**own, **(texts or {})}.items():
        artificial = name in own and name != "plain texts"
        for role, pair in _on(model, batch, stack, epsilon, artificial, attention, batch_size).items():
            if not (name == "random tokens" and role in REPEATING):
                found.setdefault(role, {})[name] = pair
    roles = {name: Role({text: pair[0] for text, pair in by.items()}, at_least, {text: pair[1] for text, pair in by.items()},
                        "share of rows" if name == SINK else "share of attention", name == SINK)
             for name, by in found.items()}
    if needles is not None:
        copied = retrieval_score(model, needles, mode="teacher_forced").values
        roles["retrieval"] = Role({"needles": copied}, retrieved, {"needles": copied}, "retrieval score")
    if task is not None:
        roles |= _movers(model, task, moved, at_least, attention)
    asked = {"epsilon": epsilon, "texts": [*own, *(texts or {})], "left_out": left_out, "prompts": n}
    return call_types(roles, attention=stack.attention, confidence=confidence, in_texts=in_texts, n_boot=n_boot, seed=seed,
                      asked=asked)


def _movers(model: Any, task: Any, moved: str, at_least: float, attention: str | None) -> dict[str, Role]:
    """Heads whose last token looks at the span and that write towards, or against, the answer."""
    looked = attends_to(model, task, target="span", span=moved, queries="end", attention=attention).values
    direct = direct_logit_attribution(model, task).values
    counted = np.abs(direct) >= WRITES * np.abs(direct).sum(axis=(0, 1), keepdims=True)
    roles = {}
    for name, sign in ((f"mover of {moved}", 1), (f"negative mover of {moved}", -1)):
        both = np.where(counted & (sign * direct > 0), looked, 0.0)
        roles[name] = Role({"task": both}, at_least, {"task": both}, "share of attention, where it writes so")
    return roles


def type_texts(model: Any, n: int, seed: int = 0) -> tuple[dict[str, Any], dict[str, str]]:
    """The texts that heads are typed on, and those that this model cannot have, with the reason."""
    context = model.context_length or 4 * TOKENS
    room = min(2 * TOKENS, context - 1)
    texts = {"random tokens": random_texts(model, n, room, seed, begin_token=True)}
    known = model.vocab_size if model.tokenizer is None else min(model.vocab_size, len(model.tokenizer)) - 1
    length = min(room // 2, known)
    for name, shuffled in (("repeated tokens", False), ("shuffled copies", True)):
        texts[name] = repeated_tokens(model, n, length, 2, shuffled=shuffled, seed=seed)
    try:
        plain = plain_texts(model, n, min(64, context), seed)
    except InterpError as refusal:
        return texts, {"plain texts": str(refusal)}
    tokens = Counter(token for row in plain.clean.rows() for token in row)
    token, most = tokens.most_common(1)[0]
    if most > ONE_TOKEN * tokens.total():
        share = f"{most / tokens.total():.0%}"
        return texts, {"plain texts": f"{share} of their tokens are one, {token}: the model does not know their words"}
    return texts | {"plain texts": plain}, {}


def _on(model: Any, batch: Any, stack: Any, epsilon: float, artificial: bool, attention: str | None,
        batch_size: int | None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """role -> (strength, raw), each [layer, head, prompt], on one kind of texts, in one pass."""
    words = () if artificial or model.tokenizer is None else ("delimiter",)
    targets: dict[str, Target] = {name: target_of(model, batch, stack, name) for name in (*ATTENTION, *words)}
    folds = {}
    for name, target in targets.items():
        folds[name] = sums(target)
        folds[f"even {name}"] = evenly(sums(target))
    folds[SINK] = resting(epsilon)
    folds[f"even {SINK}"] = evenly(resting(epsilon))
    read = stream(model, batch, folds, attention=attention, batch_size=batch_size)
    result = {}
    for name in (*targets, SINK):
        raw, even = (np.stack([_value(name, one) for one in read[key]], axis=2) for key in (name, f"even {name}"))
        with np.errstate(invalid="ignore", divide="ignore"):
            strength = np.where(even < 1, (raw - even) / (1 - even), np.nan)
        result[name] = strength, raw
    return result


def _value(name: str, kept: Tensor) -> np.ndarray:
    return kept.numpy() if name == SINK else score(kept)


def resting(epsilon: float) -> Fold:
    """The fold that keeps the share of rows, from the second on, that give the first token more than ``epsilon``."""
    def fold(kept: Tensor | None, block: Block) -> Tensor:
        rows = (block.rows > 0)[None, None]
        there = ((block.tensor[..., 0].float() > epsilon) & rows).double().sum(-1) / max(1, block.length - 1)
        return there if kept is None else kept + there

    return Fold("pattern", fold)


def evenly(fold: Fold) -> Fold:
    """The same of attention that is spread evenly over what each row may see."""
    def of(kept: Any, block: Block) -> Any:
        seen = visible(block).to(torch.float32)
        even = (seen / seen.sum(-1, keepdim=True)).expand_as(block.tensor)
        return fold.fold(kept, replace(block, tensor=even))

    return Fold(fold.what, of, fold.finish)

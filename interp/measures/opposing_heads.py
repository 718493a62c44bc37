"""Opposing heads: which heads push the learnt answer and which the context's, when one head's output is turned up or off."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd

from interp.core.errors import InterpError
from interp.core.provenance import check_comparable
from interp.core.scores import HeadScores
from interp.engine.forward import metric_values
from interp.engine.intervention import Intervention, Scale
from interp.engine.running import Running, running_of
from interp.engine.sweep import sweep
from interp.measures.measure import Measured, measure
from interp.tasks.metrics import METRICS

ANSWERS = ("memory", "context", "memory - context")


@measure(
    sense=(
        "larger = turning the head up makes that answer likelier; of 'memory - context': positive = a memory head on these "
        "prompts, negative = a context head"
    ),
    formula="mean over α of [ f(answer; the head's output times 1 + α) − f(answer) ] · sign(α), f = P or log P",
    source=(
        "head score of Li et al. 2025 (JuICE, arXiv 2503.10996, released code: α in 1, 3, 5, 10, 30; α in −1, −2, −5 for "
        "heads that harm); memory and context heads: Jin et al. 2024 (PH3, arXiv 2402.18154: pruned, α = −1)"
    ),
    does_not_show=(
        "That a head is a memory or a context head: half of the published ones change sign when the conflict is worded "
        "otherwise. Compare the three types of prompts of the task knowledge_conflict (sign_flips). Effects of several "
        "heads do not add up. Large α leave the range that the model was trained on; a saturated probability hides effects."
    ),
    cost="one forward pass per head and α, one for the baseline",
)
def opposing_heads(
    model: Any,
    batch: Any,
    *,
    alphas: tuple[float, ...] = (1.0, 3.0, 5.0, 10.0, 30.0),
    value: Literal["probability", "log-probability"] = "probability",
    batch_size: int | None = None,
    progress: Any = None,
    running: Running | None = None,
) -> Measured:
    """How turning one head's output z up (or off) moves the learnt answer and the context's, on each prompt.

    ``values[layer, head, prompt, answer]``, ``answer`` being ``memory`` (the prompt's answer), ``context`` (its wrong
    answer) and their difference; in units of probability or nats. On ``interp.tasks.knowledge_conflict`` the answer is the
    learnt capital. Where a head is turned down the sign is turned too, so that positive always means: the head's own output
    is for this answer. (In the released code the two directions are kept apart and not turned.)

    Args:
        alphas: what is added to z at all tokens, as multiples of the head's own clean output; (-1,) prunes the head.
        value: ``probability`` of the answer (published) or its logarithm (with several wrong answers: of their mean logit).
        batch_size, progress, running: as for ``ablation``.

    Raises:
        InterpError: no α, or one that is 0; a prompt without a wrong answer.
    """
    if not alphas or 0 in alphas:
        raise InterpError(f"turn heads up by {alphas}", "0 changes nothing", "give factors other than 0")
    stack = model.stack("self")
    how = running_of(running, batch_size, progress)
    metrics = [METRICS["answer_logprob"], METRICS["prob_diff" if value == "probability" else "logit_diff"]]
    base = _answers(np.stack([metric_values(model, batch, metric=metric, batch_size=how.batch_size) for metric in metrics]),
                    value)
    heads = [(layer, head) for layer in range(stack.n_layers) for head in range(stack.n_heads)]
    wanted = [(Intervention("z", layer, (head,), None, Scale(1 + alpha), stack.attention),)
              for alpha in alphas for layer, head in heads]
    found = _answers(sweep(model, batch, wanted, metric=metrics, running=how, title="opposing heads"), value)
    moved = (found - base[:, None]).reshape(3, len(alphas), stack.n_layers, stack.n_heads, batch.n)
    values = (moved * np.sign(alphas)[:, None, None, None]).mean(1)
    return Measured(values=np.moveaxis(values, 0, -1), attention=stack.attention, axes={"answer": ANSWERS},
                    baselines=dict(zip(ANSWERS, base, strict=True)), metric=value)


def _answers(measured: np.ndarray, value: str) -> np.ndarray:
    """Memory, context and their difference from the answer's log probability and its lead over the wrong answer."""
    memory = np.exp(measured[0]) if value == "probability" else measured[0]
    return np.stack([memory, memory - measured[1], measured[1]])



def sign_flips(by_type: Mapping[str, HeadScores], *, answer: str = "memory - context",
               without_context: tuple[str, ...] = ("clean",), confidence: float = 0.95, n_boot: int = 1000, seed: int = 0
               ) -> pd.DataFrame:
    """What each head is over several types of prompts: scores of the same heads, one set per type of prompt.

    Columns: head, layer, index; for each type its mean and interval (``clean``, ``clean low``, ``clean high``); ``verdict``:

    * ``memory``: the intervals of all types lie above zero (published, of the means: positive in all types);
    * ``context``: those of all types that state something lie below zero, and none of the others above;
    * ``flips``: one type's interval lies above zero and another's below; ``unknown``: anything else.

    ``total`` is the sum of the means, by which JuICE ranks. Largest total first.

    Args:
        without_context: the types whose prompts state nothing, so that a context head has nothing to read.

    Raises:
        InterpError: fewer than two types, or scores of different heads, options or measures.
    """
    if len(by_type) < 2:
        raise InterpError("look for heads that change sign", f"there are scores of {len(by_type)} types of prompts",
                          "give those of two or more")
    first, *others = by_type.values()
    for other in others:
        check_comparable(first.provenance, other.provenance, across=("task",))
        if other.values.shape[:2] != first.values.shape[:2]:
            raise InterpError("look for heads that change sign", "the scores are of different heads", "use one model")
    columns = {"head": [first.label(head) for head in first.heads], "layer": [head.layer for head in first.heads],
               "index": [head.head for head in first.heads]}
    means, lows, highs = [], [], []
    for name, scores in by_type.items():
        one = scores.at(answer=answer) if "answer" in scores.dims else scores
        low, high = one.interval(confidence, n_boot, seed)
        for kept, values in zip((means, lows, highs), (one.mean(), low, high), strict=True):
            kept.append(values.ravel())
        columns |= {name: means[-1], f"{name} low": lows[-1], f"{name} high": highs[-1]}
    above, below = np.stack(lows) > 0, np.stack(highs) < 0
    stating = np.array([name not in without_context for name in by_type])
    cases = [above.all(0), below[stating].all(0) & ~above.any(0) & stating.any(), above.any(0) & below.any(0)]
    frame = pd.DataFrame(columns | {"verdict": np.select(cases, ["memory", "context", "flips"], "unknown"),
                                    "total": np.stack(means).sum(0)})
    return frame.sort_values("total", ascending=False, kind="stable").reset_index(drop=True)

"""Activation patching: the metric when one head's activation is taken from the other run."""

from typing import Any, Literal

import numpy as np

from interp.engine.intervention import Intervention, Resample
from interp.engine.running import Running, running_of
from interp.measures.attribution_patching import attribution_patching
from interp.measures.each_head import metric_of_run
from interp.measures.head_effects import head_effects
from interp.measures.head_table import head_table
from interp.measures.measure import Measured, measure
from interp.tasks.metrics import Metric


@measure(
    sense="larger = matters more: noising, the metric falls; denoising, the metric comes back",
    formula=(
        "noising: metric(clean) − metric(clean, head ← corrupt); denoising: metric(corrupt, head ← clean) − metric(corrupt)"
    ),
    source=(
        "Vig et al. 2020 (causal mediation); Meng et al. 2022 (causal tracing); Wang et al. 2022; named as by Heimersheim "
        "and Nanda 2024"
    ),
    does_not_show=(
        "Noising shows that a head is needed given all others, and misses heads that back each other up (an OR); "
        "denoising shows that a head is enough, and misses heads that are needed jointly (an AND). Only what differs "
        "between the clean and corrupted prompts is seen, and effects through later heads count too: no path is singled "
        "out."
    ),
    cost=(
        "one forward pass per head (and position); two for the baselines. With top: two forwards, a backward and a small "
        "part of the passes; with certified precision: the passes in bfloat16 and a part of them in float32"
    ),
)
def activation_patching(
    model: Any,
    batch: Any,
    *,
    component: Literal["z", "q", "k", "v", "pattern"] = "z",
    direction: Literal["noising", "denoising"] = "noising",
    positions: str | tuple[str, ...] | None = None,
    attention: str | None = None,
    metric: str | Metric | None = None,
    top: int | None = None,
    confidence: float = 0.95,
    rank: Literal["mean", "magnitude"] = "mean",
    precision: Literal["float32", "bfloat16", "certified"] = "float32",
    sample: int | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    progress: Any = None,
    running: Running | None = None,
) -> Measured:
    """How much the metric changes when one head's activation is replaced by what it is in the other run.

    ``values[layer, head, prompt]`` in units of the metric:

    * ``direction="noising"``: metric(clean) − metric(clean with the head's activation from the corrupted run);
    * ``direction="denoising"``: metric(corrupt with the head's activation from the clean run) − metric(corrupt).

    Args:
        component: ``z`` (the head's output), ``q``, ``k``, ``v`` (after rotary embedding) or ``pattern`` (whole rows).
            Keys and values of grouped attention are shared: the scores then count key-value heads (``unit="kv_head"``),
            and each value is the effect through all query heads of the group.
        positions: None (all tokens at once); ``"each"`` (every token in turn: a further axis ``position`` counts real tokens
            from the prompt's first; NaN where a prompt is shorter); a named span; or several (a further axis ``position``).
            For patterns they are the rows of the querying tokens.
        attention: ``self``, ``encoder``, ``cross`` or ``vision``; None: the model's main attention.
        metric: None: the batch's.
        top: None: every head is patched on every prompt. k: certified screening. Only the k heads (or pairs of a head and a
            position) of the largest mean effect are looked for: gradients (``attribution_patching``) order the candidates,
            exact patching on a random sample and on those in the race decides. The values are exact where a candidate was
            patched on all prompts, which the top k always were, and NaN elsewhere; ``.certificate`` says how many
            evaluations were spent and what may have been missed (docs/certified.md).
        confidence: of the screening, and of ``precision="certified"``.
        rank: of the screening and of ``certified``: by the ``mean`` over prompts, or by its ``magnitude``.
        precision: ``float32``: in the precision in which the model was loaded, exact. ``bfloat16``: weights and activations
            rounded. ``certified``: swept with what is changed rounded to bfloat16, and redone in float32 wherever that could
            decide the first ``top`` (default 20), their order, or a head's significance; ``.certificate`` says how much
            that was.
        sample: of the two: how many candidates are drawn at random; None: about twice the square root of how many there
            are (for ``certified``: once). A larger one costs more and tightens what can be said without assumptions.
        seed: of that draw.
        batch_size: prompts per pass; changes no number. progress: shown while running.
        running: these two, and memory, store and workers of the sweep (``interp.engine.running``).

    Raises:
        InterpError: clean and corrupted prompts are not aligned where positions must correspond (for ``top``: at all, and
            the metric must be differentiable); unknown option; more heads asked for than there are.
    """
    stack, measured = model.stack(attention), metric_of_run(batch, metric)
    on, source = ("clean", "corrupt") if direction == "noising" else ("corrupt", "clean")
    how = running_of(running, batch_size, progress)

    def change(layer: int, head: int, at: Any) -> tuple[Intervention, ...]:
        return (Intervention(component, layer, (head,), at, Resample(source), stack.attention),)

    def estimate(model: Any) -> np.ndarray:
        return attribution_patching(model, batch, component=component, direction=direction, positions=positions,
                                    attention=attention, metric=metric, batch_size=how.batch_size).values

    table = head_table(model, batch, change, what=component, stack=stack, positions=positions, on=on,
                       sign=1 if direction == "noising" else -1, metric=measured, running=how, title="activation patching")
    return head_effects(table, precision=precision, top=top, confidence=confidence, rank=rank, sample=sample,
                        seed=seed, estimate=estimate)

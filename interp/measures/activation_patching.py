"""Activation patching: the metric when one head's activation is taken from the other run."""

from typing import Any, Literal

from interp.engine.intervention import Intervention, Resample
from interp.engine.running import Running, running_of
from interp.measures.each_head import baselines, each_head, metric_of_run, units
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
    cost="one forward pass per head (and position); two for the baselines",
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
        batch_size: prompts per pass; changes no number. progress: shown while running.
        running: these two, and memory, store and workers of the sweep (``interp.engine.running``).

    Raises:
        InterpError: clean and corrupted prompts are not aligned where positions must correspond; unknown option.
    """
    stack, measured = model.stack(attention), metric_of_run(batch, metric)
    on, source = ("clean", "corrupt") if direction == "noising" else ("corrupt", "clean")
    how = running_of(running, batch_size, progress)
    bases = baselines(model, batch, measured, how.batch_size)

    def change(layer: int, head: int, at: Any) -> tuple[Intervention, ...]:
        return (Intervention(component, layer, (head,), at, Resample(source), stack.attention),)

    axes, patched = each_head(
        model,
        batch,
        change,
        what=component,
        stack=stack,
        positions=positions,
        on=on,
        metric=measured,
        running=how,
        title="activation patching",
    )
    base = bases[on].reshape(-1, *[1] * len(axes))
    return Measured(
        values=base - patched if direction == "noising" else patched - base,
        axes=axes,
        baselines=bases,
        normalizer=bases["clean"] - bases["corrupt"],
        metric=measured.name,
        **units(stack, component),
    )

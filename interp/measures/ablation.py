"""Ablation: the metric when one head is knocked out, by a named kind of knock-out."""

from typing import Any, Literal

from interp.engine.intervention import AttendToFirst, Intervention, Mean, Resample, Uniform, Value, Zero
from interp.engine.running import Running, running_of
from interp.measures.each_head import metric_of_run
from interp.measures.head_effects import head_effects
from interp.measures.head_table import head_table
from interp.measures.measure import Measured, measure
from interp.tasks.batch import Batch
from interp.tasks.metrics import Metric


@measure(
    sense=(
        "larger = matters more: the metric falls when the head is knocked out; negative = the head works against the answer"
    ),
    formula="metric(clean) − metric(clean, head ablated)",
    source=(
        "zero: Michel et al. 2019; mean: Wang et al. 2022; resample: Chan et al. 2022 (causal scrubbing); uniform "
        "attention: the released code of Wu et al. 2024 (retrieval heads)"
    ),
    does_not_show=(
        "The value depends on the kind of knock-out: zero leaves the range the model was trained on, a mean keeps what "
        "all prompts share, resampling changes only what differs. Backup heads repair single knock-outs, so a small value "
        "does not show that a head is idle."
    ),
    cost="one forward pass per head (and position); two for the baselines",
)
def ablation(
    model: Any,
    batch: Any,
    *,
    kind: Literal["zero", "mean", "resample", "uniform", "first"] = "mean",
    mean_over: Literal["token", "position"] = "token",
    reference: Literal["clean", "corrupt"] | Batch = "clean",
    resample_from: Literal["corrupt", "other prompts"] = "corrupt",
    seed: int = 0,
    positions: str | tuple[str, ...] | None = None,
    attention: str | None = None,
    metric: str | Metric | None = None,
    precision: Literal["float32", "bfloat16", "certified"] = "float32",
    batch_size: int | None = None,
    progress: Any = None,
    running: Running | None = None,
) -> Measured:
    """How much the metric falls when one head's output z is knocked out of the clean run.

    ``values[layer, head, prompt]`` = metric(clean) − metric(clean with the head ablated), in units of the metric.

    Args:
        kind: what takes the place of z: ``zero``; ``mean`` (of ``reference``); ``resample`` (its value in another run); or
            z stays, but the head attends equally to every key it can see (``uniform``), or to the ``first`` of these alone.
        mean_over: of ``kind="mean"``: ``token``, one vector per head, the mean over all real tokens of all reference
            prompts; or ``position``, the mean over reference prompts at the same token (counted from the prompt's first,
            or within the same named span).
        reference: of ``kind="mean"``: the batch's own ``clean`` prompts (all of them, the ablated one included), its
            ``corrupt`` ones, or the clean prompts of another batch.
        resample_from: of ``kind="resample"``: the prompt's own corrupted counterpart (then the same as noising z by
            activation patching), or the clean run of another prompt of the batch, drawn with ``seed``.
        positions: None (all tokens at once), ``"each"`` (every token in turn: a further axis ``position``), a named span, or
            several in turn (a further axis ``position``).
        attention: ``self``, ``encoder``, ``cross`` or ``vision``; None: the model's main attention.
        metric: None: the batch's.
        precision: ``float32``: in the precision in which the model was loaded, exact. ``bfloat16``: weights and activations
            rounded. ``certified``: swept with what is changed rounded to bfloat16, and redone in float32 wherever that could
            decide the first 20, their order, or a head's significance; ``.certificate`` says how much that was
            (docs/certified.md).
        batch_size: prompts per pass; changes no number. progress: shown while running.
        running: these two, and memory, store and workers of the sweep (``interp.engine.running``).

    Raises:
        InterpError: unknown option; prompts that cannot be resampled from one another.
    """
    stack, measured = model.stack(attention), metric_of_run(batch, metric)
    what = "pattern" if kind in ("uniform", "first") else "z"
    value = _value(kind, mean_over, reference, resample_from, seed)
    how = running_of(running, batch_size, progress)

    def change(layer: int, head: int, at: Any) -> tuple[Intervention, ...]:
        return (Intervention(what, layer, (head,), at, value, stack.attention),)

    table = head_table(model, batch, change, what=what, stack=stack, positions=positions, on="clean", sign=1,
                       metric=measured, running=how, title=f"{kind} ablation")
    return head_effects(table, precision=precision, seed=seed)


def _value(kind: str, mean_over: str, reference: Any, resample_from: str, seed: int) -> Value:
    if kind == "mean":
        return Mean(reference, mode=mean_over)
    if kind == "resample":
        return Resample("corrupt") if resample_from == "corrupt" else Resample("clean", shuffle=seed)
    return {"zero": Zero(), "uniform": Uniform(), "first": AttendToFirst()}[kind]

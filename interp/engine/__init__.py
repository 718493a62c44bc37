"""Forward passes with interventions: capture, edit, sweep, differentiate, generate.

``Intervention`` says what is changed where; ``run`` and ``metric_values`` do it once, ``sweep`` many times, ``gradients``
differentiates a metric at sites, ``activations`` reads them, ``generate`` decodes greedily with interventions active.
An intervention that changes nothing is an error.

    from interp.engine import Intervention, Resample, sweep

    heads = [Intervention("z", layer, head, "end", Resample("corrupt")) for layer in range(12) for head in range(12)]
    sweep(model, batch, heads)                          # metric [intervention, prompt]: clean run, corrupted z (noising)
"""

from interp.engine.activations import activations, mean_activations
from interp.engine.baselines import Baselines, baselines
from interp.engine.forward import Result, metric_values, run
from interp.engine.generate import Generated, generate
from interp.engine.gradients import Gradients, gradients
from interp.engine.intervention import (
    Add,
    AttendToFirst,
    Intervention,
    Mean,
    Replace,
    Resample,
    RowEdit,
    Scale,
    Uniform,
    Zero,
)
from interp.engine.long_generation import LongGeneration, generate_long
from interp.engine.masking import masking_curve
from interp.engine.sweep import Sweep, sweep, sweep_record

__all__ = [
    "Add",
    "AttendToFirst",
    "Baselines",
    "Generated",
    "Gradients",
    "Intervention",
    "LongGeneration",
    "Mean",
    "Replace",
    "Resample",
    "Result",
    "RowEdit",
    "Scale",
    "Sweep",
    "Uniform",
    "Zero",
    "activations",
    "baselines",
    "generate",
    "generate_long",
    "gradients",
    "masking_curve",
    "mean_activations",
    "metric_values",
    "run",
    "sweep",
    "sweep_record",
]

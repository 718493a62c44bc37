"""Forward passes with interventions: capture, edit, sweep, differentiate, generate.

``Intervention`` says what is changed where; ``run`` and ``metric_values`` do it once, ``sweep`` many times, ``gradients``
differentiates a metric at sites, ``activations`` reads them, ``generate`` decodes greedily with interventions active.
``plan_sweep`` says what a sweep will cost before it starts; ``Running`` how it is computed (memory, store, workers).
An intervention that changes nothing is an error.

    from interp.engine import Intervention, Resample, sweep

    heads = [Intervention("z", layer, head, "end", Resample("corrupt")) for layer in range(12) for head in range(12)]
    sweep(model, batch, heads)                          # metric [intervention, prompt]: clean run, corrupted z (noising)
"""

from interp.engine.activations import activations, mean_activations
from interp.engine.baselines import Baselines, baselines
from interp.engine.circuit_mask import circuit_mask
from interp.engine.edge_lists import edge_interventions
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
from interp.engine.plan import Cost, Plan, Sweep, plan_sweep
from interp.engine.running import Running
from interp.engine.sweep import sweep, sweep_record

__all__ = [
    "Add",
    "AttendToFirst",
    "Baselines",
    "Cost",
    "Generated",
    "Gradients",
    "Intervention",
    "LongGeneration",
    "Mean",
    "Plan",
    "Replace",
    "Resample",
    "Result",
    "RowEdit",
    "Running",
    "Scale",
    "Sweep",
    "Uniform",
    "Zero",
    "activations",
    "baselines",
    "circuit_mask",
    "edge_interventions",
    "generate",
    "generate_long",
    "gradients",
    "masking_curve",
    "mean_activations",
    "metric_values",
    "plan_sweep",
    "run",
    "sweep",
    "sweep_record",
]

"""Forward passes with interventions: capture, edit, sweep, differentiate, generate.

``Intervention`` says what is changed where; ``run`` and ``metric_values`` do it once, ``sweep`` many times, ``gradients``
differentiates a metric at sites, ``activations`` reads them, ``generate`` decodes greedily with interventions active.
"""

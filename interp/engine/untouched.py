"""The metric of untouched runs, for which no more of the vocabulary is computed than the metric reads."""

from typing import Any

import numpy as np
import torch

from interp.engine.forward import answer_logits, measured, metric_values
from interp.engine.prompts import chunks, side, sides
from interp.tasks.answers import Answers


def untouched_values(model: Any, batch: Any, on: str, metric: Any, batch_size: int | None = None) -> np.ndarray:
    """The metric of each prompt of the side ``on`` without interventions: float64 [n], as ``metric_values`` gives it."""
    resuming = model.resuming
    if getattr(metric, "columns", "all") != "answers" or isinstance(resuming, str) or not resuming.columns:
        return metric_values(model, batch, (), on=on, metric=metric, batch_size=batch_size)
    prompts, answers, logits = side(sides(model, batch), on), Answers.of(batch), []
    with torch.no_grad(), resuming.reading(answers.columns):
        for rows in chunks(model, prompts, batch_size):
            part = prompts.take(rows)
            logits.append(answer_logits(model.run(part.inputs), part))
    return measured(torch.cat(logits), answers, metric)

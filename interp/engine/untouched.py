"""Runs of which no more of the vocabulary is computed than a metric reads."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from interp.engine.forward import answer_logits, measured
from interp.engine.prompts import chunks, side, sides
from interp.tasks.answers import Answers


def answers_suffice(model: Any, metrics: Iterable[Any]) -> bool:
    """Whether the metrics read no other logits than those of answers, and the network can be asked for single columns."""
    few = all(getattr(metric, "columns", "all") == "answers" for metric in metrics)
    return few and not isinstance(model.resuming, str) and model.resuming.columns


@contextmanager
def reading_answers(model: Any, batch: Any, metric: Any) -> Iterator[Any]:
    """Runs inside have logits of the batch's answers alone, where the metric reads nothing else and the network can be asked
    for single columns; yields what the metric then takes for the batch (the batch itself where all logits are there)."""
    if not answers_suffice(model, [metric]):
        yield batch
        return
    answers = Answers.of(batch)
    with model.resuming.reading(answers.columns):
        yield answers


def untouched_values(model: Any, batch: Any, on: str, metric: Any, batch_size: int | None = None) -> np.ndarray:
    """The metric of each prompt of the side ``on`` without interventions: float64 [n], as ``metric_values`` gives it."""
    prompts, logits = side(sides(model, batch), on), []
    with torch.no_grad(), reading_answers(model, batch, metric) as asked:
        for rows in chunks(model, prompts, batch_size):
            part = prompts.take(rows)
            logits.append(answer_logits(model.run(part.inputs), part))
    return measured(torch.cat(logits), asked, metric)

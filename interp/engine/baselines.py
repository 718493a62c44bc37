"""The untouched model on a batch: its metric on clean and corrupted prompts, and how often it answers right."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from interp.engine.forward import measured, run
from interp.tasks.metrics import accuracy, beats_wrong


@dataclass(frozen=True)
class Baselines:
    """The untouched model, per prompt.

    Attributes:
        clean: metric on the clean prompts, float64 [n].
        corrupt: metric on the corrupted prompts, with the answers of the clean ones, float64 [n].
        correct: whether the most likely token of the whole vocabulary is a right answer, on the clean prompts, bool [n].
        beats_wrong: whether the best right answer has a higher logit than every wrong one, on the clean prompts, bool [n].
        corrupt_correct: ``correct`` on the corrupted prompts: how often the clean answer survives the corruption, bool [n].
        corrupt_beats_wrong: ``beats_wrong`` on the corrupted prompts, bool [n].
    """

    clean: np.ndarray
    corrupt: np.ndarray
    correct: np.ndarray
    beats_wrong: np.ndarray
    corrupt_correct: np.ndarray
    corrupt_beats_wrong: np.ndarray

    @property
    def accuracy(self) -> float:
        """Share of clean prompts answered right, over the whole vocabulary."""
        return float(self.correct.mean())


def baselines(model: Any, batch: Any, *, metric: Any = None, batch_size: int | None = None) -> Baselines:
    """Metric and accuracy of the untouched model on both sides of a batch; ``metric`` None: the batch's own."""
    clean = run(model, batch, on="clean", batch_size=batch_size).logits
    corrupt = run(model, batch, on="corrupt", batch_size=batch_size).logits
    right = [measured(logits, batch, metric) > 0 for logits in (clean, corrupt) for metric in (accuracy, beats_wrong)]
    return Baselines(measured(clean, batch, metric), measured(corrupt, batch, metric), *right)

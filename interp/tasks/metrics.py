"""Metrics: logits at the answer position -> one number per prompt.

Each is a function of ``logits`` [prompt, vocab] and a batch, which holds ``answers`` and ``wrong`` [prompt, k] with their
masks, and returns [prompt]. All are larger for a better answer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from interp.core.registry import Registry

if TYPE_CHECKING:
    from interp.tasks.batch import Batch

MetricFunction = Callable[[Tensor, "Batch"], Tensor]


@dataclass(frozen=True)
class Metric:
    """A named metric.

    Attributes:
        name: e.g. ``logit_diff``.
        sense: what a larger value means.
        unit: of the value: ``logits``, ``nats``, ``probability`` or ``fraction``.
        fn: (logits [prompt, vocab], batch) -> [prompt].
        differentiable: whether it has a useful gradient.
        linear: whether it is a linear function of the logits, so that contributions of components add up to it.
        needs_wrong: whether every prompt must have a wrong answer.
        columns: which logits it reads: ``all`` of the vocabulary, or those of right and wrong ``answers`` alone. One that
            reads ``answers`` takes of the batch no more than ``interp.tasks.answers.Answers`` has.
    """

    name: str
    sense: str
    unit: str
    fn: MetricFunction
    differentiable: bool = True
    linear: bool = False
    needs_wrong: bool = True
    columns: str = "all"

    def __call__(self, logits: Tensor, batch: "Batch") -> Tensor:
        """The metric of each prompt, [prompt], in at least float32."""
        return self.fn(logits if logits.dtype == torch.float64 else logits.float(), batch)


def logit_diff(logits: Tensor, batch: "Batch") -> Tensor:
    """Logit of the answer (mean over several) minus the mean logit of the wrong answers."""
    columns, weights = logit_diff_weights(batch)
    columns, weights = columns.to(logits.device), weights.to(logits)
    return (logits.gather(1, columns) * weights).sum(1)


def logit_diff_weights(batch: "Batch") -> tuple[Tensor, Tensor]:
    """``logit_diff`` as a weighted sum: vocabulary columns [prompt, c] and their weights [prompt, c] (0 where padded)."""
    right, wrong = batch.answer_mask.double(), batch.wrong_mask.double()
    weights = torch.cat([right / right.sum(1, keepdim=True), -wrong / wrong.sum(1, keepdim=True).clamp(min=1)], dim=1)
    return torch.cat([batch.answers, batch.wrong], dim=1), weights


def logit_diff_max(logits: Tensor, batch: "Batch") -> Tensor:
    """Logit of the best right answer minus that of the best wrong one."""
    return _best(logits, batch.answers, batch.answer_mask) - _best(logits, batch.wrong, batch.wrong_mask)


def answer_logprob(logits: Tensor, batch: "Batch") -> Tensor:
    """Log probability (nats) that the next token is a right answer."""
    logprobs = logits.log_softmax(1).gather(1, batch.answers.to(logits.device))
    return logprobs.masked_fill(~batch.answer_mask.to(logits.device), -torch.inf).logsumexp(1)


def prob_diff(logits: Tensor, batch: "Batch") -> Tensor:
    """Probability of all right answers minus that of all wrong ones (Hanna et al. 2023 for greater-than)."""
    probs = logits.softmax(1)
    return _sum(probs, batch.answers, batch.answer_mask) - _sum(probs, batch.wrong, batch.wrong_mask)


def accuracy(logits: Tensor, batch: "Batch") -> Tensor:
    """1 where the most likely token of the whole vocabulary is a right answer, else 0."""
    answers, mask = batch.answers.to(logits.device), batch.answer_mask.to(logits.device)
    return ((logits.argmax(1, keepdim=True) == answers) & mask).any(1).to(logits)


def beats_wrong(logits: Tensor, batch: "Batch") -> Tensor:
    """1 where the best right answer has a higher logit than every wrong one, else 0."""
    return (logit_diff_max(logits, batch) > 0).to(logits)


def _best(logits: Tensor, columns: Tensor, mask: Tensor) -> Tensor:
    chosen = logits.gather(1, columns.to(logits.device))
    return chosen.masked_fill(~mask.to(logits.device), -torch.inf).amax(1)


def _sum(probs: Tensor, columns: Tensor, mask: Tensor) -> Tensor:
    return (probs.gather(1, columns.to(probs.device)) * mask.to(probs)).sum(1)


METRICS: Registry[Metric] = Registry("metric")
for _metric in (
    Metric("logit_diff", "the answer leads the wrong answers, on average, by more", "logits", logit_diff, linear=True,
           columns="answers"),
    Metric("logit_diff_max", "the answer leads the best wrong answer by more", "logits", logit_diff_max, columns="answers"),
    Metric("answer_logprob", "the answer is more likely", "nats", answer_logprob, needs_wrong=False),
    Metric("prob_diff", "right answers take more probability than wrong ones", "probability", prob_diff),
    Metric("accuracy", "the most likely token is a right answer", "fraction", accuracy, differentiable=False,
           needs_wrong=False),
    Metric("beats_wrong", "the answer outranks every wrong answer", "fraction", beats_wrong, differentiable=False,
           columns="answers"),
):
    METRICS.add(_metric.name, _metric)


def metric_of(metric: "str | Metric") -> Metric:
    """A metric by name, or itself; an unknown name is answered with the nearest ones."""
    return metric if isinstance(metric, Metric) else METRICS[metric]

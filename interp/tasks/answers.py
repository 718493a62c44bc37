"""The answers of some prompts, renumbered into few columns: all that most metrics read of a batch and of the vocabulary."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Answers:
    """Right and wrong answers of some prompts, as a metric reads them.

    Attributes:
        columns: vocabulary entries that they are among [c].
        answers, wrong: indices into ``columns`` [prompt, k]; ``answer_mask``, ``wrong_mask``: which of them are real.
    """

    columns: Tensor
    answers: Tensor
    answer_mask: Tensor
    wrong: Tensor
    wrong_mask: Tensor

    @classmethod
    def of(cls, batch: Any) -> "Answers":
        """Those of a batch."""
        columns = torch.cat([batch.answers[batch.answer_mask], batch.wrong[batch.wrong_mask]]).unique()

        def numbered(ids: Tensor, mask: Tensor) -> Tensor:
            return torch.searchsorted(columns, ids.contiguous()).masked_fill(~mask, 0)

        return cls(columns, numbered(batch.answers, batch.answer_mask), batch.answer_mask,
                   numbered(batch.wrong, batch.wrong_mask), batch.wrong_mask)

    def take(self, rows: Tensor) -> "Answers":
        """The answers of these prompts, in this order, any of them any number of times."""
        rows = rows.to(self.answers.device)
        return Answers(self.columns, *(x[rows] for x in (self.answers, self.answer_mask, self.wrong, self.wrong_mask)))

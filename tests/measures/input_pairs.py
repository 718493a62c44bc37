"""Pairs of inputs for networks that read more than one row of tokens: encoders, encoder-decoders, image encoders."""

from dataclasses import dataclass, replace

import torch

from interp.models.tiny import inputs
from interp.tasks.metrics import METRICS


@dataclass(frozen=True)
class Pairs:
    """What measures need of a batch."""

    clean: dict
    corrupt: dict
    answers: torch.Tensor
    wrong: torch.Tensor
    answer_position: torch.Tensor
    task: str = "random inputs"
    aligned: bool = True
    metric: object = METRICS["logit_diff"]

    @property
    def n(self):
        return len(self.answers)

    @property
    def spans(self):
        return {}

    @property
    def answer_mask(self):
        return torch.ones_like(self.answers, dtype=torch.bool)

    @property
    def wrong_mask(self):
        return torch.ones_like(self.wrong, dtype=torch.bool)

    def subset(self, rows):
        rows = torch.as_tensor(rows)
        sides = {side: {k: v[rows] for k, v in getattr(self, side).items()} for side in ("clean", "corrupt")}
        return replace(
            self, answers=self.answers[rows], wrong=self.wrong[rows], answer_position=self.answer_position[rows], **sides
        )

    def provenance_dict(self):
        return {"name": self.task, "version": 1, "seed": 0, "n": self.n, "options": {}, "tokens_sha256": None}


def pairs(architecture, n=3):
    clean, corrupt = inputs(architecture, n, seed=0), inputs(architecture, n, seed=1)
    length = next((clean[name].shape[1] for name in ("decoder_input_ids", "input_ids") if name in clean), 1)
    return Pairs(
        clean, corrupt, torch.tensor([[3], [4], [5]]), torch.tensor([[6, 7], [8, 9], [1, 2]]), torch.full((n,), length - 1)
    )

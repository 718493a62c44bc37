"""Where the right answer and another candidate stand in a prompt: the places that an oracle edit directs attention to.

The *other* candidate is one that the prompt offers too, of the wrong answers: the second name, the colour of another object,
the value of another key; where the corrupted prompt's answer is one of these, that.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.tasks.batch import Batch

OFFSETS = (0, 1, 2)
"""Heads read a candidate where it stands, or one or two tokens behind it, where heads that look back so far have put it."""
WHICH = ("right", "other")
COLORS = ("color_1", "color_2", "color_3")


@dataclass(frozen=True, eq=False)
class Candidates:
    """A batch whose prompts offer two answers, with the places of both.

    Attributes:
        batch: the prompts, with the spans ``right+0``, ``other+0`` and those one and two tokens behind, the same on both
            sides; the only wrong answer is the other candidate's, so that the metric, logit_diff, is right − other.
        on_both: whether both candidates stand at these places in the corrupted prompts too.
    """

    batch: Batch
    on_both: bool

    @property
    def answers(self) -> dict[str, Tensor]:
        """The token that each candidate is answered with, [n]."""
        return {"right": self.batch.answers[:, 0], "other": self.batch.wrong[:, 0]}


def place(which: str, offset: int) -> str:
    """The span of a candidate's place."""
    return f"{which}+{offset}"


def candidates(batch: Batch) -> Candidates:
    """The candidates of a batch: of names and of coloured objects by their spans, else where the answers' tokens stand.

    Raises:
        InterpError: a prompt in which an answer, or every wrong one, does not stand before the last token.
    """
    batch = replace(batch, clean=batch.clean.to("cpu"), corrupt=batch.corrupt.to("cpu"))      # where the spans are
    if {"IO", "S1"} <= set(batch.spans):
        at = {"right": batch.spans["IO"][:, 0], "other": batch.spans["S1"][:, 0]}
        token = batch.wrong[:, 0]
    elif {"color", *COLORS} <= set(batch.spans):
        at, token = _colors(batch)
    else:
        found = [_standing(batch, row) for row in range(batch.n)]
        at = {"right": torch.tensor([one[0] for one in found]), "other": torch.tensor([one[1] for one in found])}
        token = torch.tensor([one[2] for one in found])
    spans = {place(which, by): torch.stack([at[which] + by, at[which] + by + 1], dim=1) for which in WHICH for by in OFFSETS}
    rows = torch.arange(batch.n)
    same = all(torch.equal(batch.clean.ids[rows, x], batch.corrupt.ids[rows, x]) for x in at.values())
    placed = replace(batch, spans=dict(batch.spans) | spans, corrupt_spans=dict(batch.corrupt_spans) | spans,
                     wrong=token[:, None], wrong_mask=torch.ones(batch.n, 1, dtype=torch.bool)).with_metric("logit_diff")
    return Candidates(placed, batch.aligned and same)


def _colors(batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
    """The colour asked for in the clean prompt and that in the corrupted one; wrong answers are in the order of the list."""
    listed = torch.stack([batch.spans[name][:, 0] for name in COLORS], dim=1)
    at = {"right": batch.spans["color"][:, 0], "other": batch.corrupt_spans["color"][:, 0]}
    right, other = ((listed == at[which][:, None]).int().argmax(1) for which in WHICH)
    return at, batch.wrong.gather(1, (other - (other > right).long())[:, None])[:, 0]


def _standing(batch: Batch, row: int) -> tuple[int, int, int]:
    """Of one prompt: where the answer and where a wrong answer stands, and which wrong answer that is."""
    start, end = int(batch.clean.start[row]), int(batch.clean.last[row])
    ids, others = batch.clean.ids[row, start:end], batch.corrupt.ids[row, start:end]

    def first(token: int) -> int | None:
        here = (ids == token).nonzero().flatten().tolist()
        both = [at for at in here if batch.aligned and int(others[at]) == token]
        return start + (both or here)[0] if here else None

    right = first(int(batch.answers[row, 0]))
    wrong = [int(token) for token in batch.wrong[row][batch.wrong_mask[row]]]
    standing = [(at, token) for token in wrong if (at := first(token)) is not None]
    asked = f"direct attention to the answers of {batch.task}"
    if right is None:
        raise InterpError(asked, f"the answer of prompt {row} does not stand in it", "take a task whose answers are copied")
    if not standing:
        raise InterpError(asked, f"no wrong answer of prompt {row} stands in it",
                          "take a corruption that asks for something else in the same context, as key of key_value does")
    return right, *standing[0]

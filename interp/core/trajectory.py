"""``Trajectory``: the same head scores over the checkpoints of a training run, and when each head acquired its role."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from interp.core.errors import InterpError
from interp.core.intervals import Floats, check_confidence, resamples
from interp.core.provenance import check_comparable
from interp.core.scores import HeadScores


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Scores of one measure on the same prompts, at each of several checkpoints.

    Attributes:
        steps: training step of each checkpoint, ascending.
        scores: the scores at each, of the same heads and prompts.
    """

    steps: tuple[int, ...]
    scores: tuple[HeadScores, ...]

    def __post_init__(self) -> None:
        asked = "follow a measure over training"
        if len(self.steps) < 2 or len(self.steps) != len(self.scores):
            raise InterpError(asked, f"there are {len(self.steps)} steps and {len(self.scores)} sets of scores",
                              "give one set of scores for each of at least two steps")
        if list(self.steps) != sorted(set(self.steps)):
            raise InterpError(asked, f"the steps {list(self.steps)} do not ascend", "give each checkpoint once, in order")
        first = self.scores[0]
        for other in self.scores[1:]:
            check_comparable(first.provenance, other.provenance, across=("model",))
            if other.values.shape != first.values.shape or other.provenance.measure != first.provenance.measure:
                raise InterpError(asked, f"{first.provenance.measure} of shape {first.values.shape} and "
                                  f"{other.provenance.measure} of shape {other.values.shape} are not the same",
                                  "compute one measure with the same options at every checkpoint")

    def mean(self) -> Floats:
        """Mean over prompts, [step, layer, head, ...]."""
        return np.stack([scores.mean() for scores in self.scores])

    def interval(self, confidence: float = 0.95, n_boot: int = 2000, seed: int = 0) -> tuple[Floats, Floats]:
        """Bootstrap interval of the mean at each step: (low, high), each [step, layer, head, ...]."""
        ends = [scores.interval(confidence, n_boot, seed) for scores in self.scores]
        return np.stack([low for low, _ in ends]), np.stack([high for _, high in ends])

    def onset(self, threshold: float | None = None, *, share: float = 0.5, confidence: float = 0.95, n_boot: int = 1000,
              seed: int = 0) -> pd.DataFrame:
        """When each head acquired its role: the first step from which its mean stays at or above a threshold.

        Args:
            threshold: the value that counts as having the role, in the measure's units. None: ``share`` of the head's own
                mean at the last step, which tells when it came to what it is and not that it is anything.
            confidence: of the interval of the onset: the prompts are resampled, the same at all steps.

        Returns one row per head, the earliest first: head, layer, index, onset (NaN: never), low, high, final (mean at the
        last step), kept (share of resamples in which the head has the role at the end). An onset is known only to the
        spacing of the checkpoints: ``before`` is the last checkpoint without the role (NaN: it had it at the first).

        Raises InterpError for scores with further axes and for a share outside of 0 to 1.
        """
        first = self.scores[0]
        if first.values.ndim > 3:
            raise InterpError("say when heads acquire their role", f"the scores have the further axes {first.dims[3:]}",
                              "choose one of each: Trajectory(steps, [scores.at(position=...) for scores in ...])")
        if threshold is None and not 0 < share <= 1:
            raise InterpError(f"take {share} of the last score as threshold", "a share lies between 0 and 1", "use 0.5, say")
        check_confidence(confidence)
        values = np.stack([scores.values for scores in self.scores])        # [step, layer, head, prompt]
        if not np.isfinite(values).all():
            raise InterpError("say when heads acquire their role", "some heads have no value on some prompts",
                              "leave these prompts or heads out")
        found = self._onsets(values.mean(-1), threshold, share)
        draws = resamples(first.n_prompts, n_boot if first.n_prompts > 1 else 0, seed)
        drawn = self._onsets(values @ draws.T / first.n_prompts, threshold, share)      # [layer, head, resample]
        rows = []
        for head in first.heads:
            at, mine = found[head.layer, head.head], drawn[head.layer, head.head]
            had = mine[np.isfinite(mine)]
            tails = [(1 - confidence) / 2, (1 + confidence) / 2]
            ends = np.quantile(had, tails, method="nearest") if len(had) else [np.nan, np.nan]
            earlier = [step for step in self.steps if step < at]
            rows.append({"head": first.label(head), "layer": head.layer, "index": head.head, "onset": at, "low": ends[0],
                         "high": ends[1], "before": earlier[-1] if earlier else np.nan,
                         "final": values[-1, head.layer, head.head].mean(),
                         "kept": len(had) / len(mine) if len(mine) else np.nan})
        frame = pd.DataFrame(rows)
        return frame.sort_values(["onset", "final"], ascending=[True, False], kind="stable").reset_index(drop=True)

    def to_frame(self) -> pd.DataFrame:
        """The long table: step, head, layer, index, prompt, further axes, value."""
        frames = [scores.to_frame().assign(step=step) for step, scores in zip(self.steps, self.scores, strict=True)]
        frame = pd.concat(frames, ignore_index=True)
        return frame[["step", *(column for column in frame.columns if column != "step")]]

    def save(self, folder: str | Path) -> Path:
        """One parquet file per step in ``folder``, ``step_800.parquet``; each with its provenance."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for step, scores in zip(self.steps, self.scores, strict=True):
            scores.save(folder / f"step_{step}.parquet")
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> "Trajectory":
        """Read what ``save`` wrote."""
        found = {int(path.stem.removeprefix("step_")): path for path in Path(folder).glob("step_*.parquet")}
        if not found:
            raise InterpError(f"read a trajectory from {folder}", "there are no files step_*.parquet", "check the folder")
        steps = sorted(found)
        return cls(tuple(steps), tuple(HeadScores.load(found[step]) for step in steps))

    def _onsets(self, mean: Floats, threshold: Any, share: float) -> Floats:
        """First step from which the mean [step, ...] stays at or above the threshold; NaN where it does not."""
        level = share * mean[-1] if threshold is None else np.full(mean.shape[1:], threshold)
        has = (mean >= level) & ((mean[-1] > 0) if threshold is None else True)
        stays = np.flip(np.logical_and.accumulate(np.flip(has, 0), 0), 0)
        steps = np.asarray(self.steps, dtype=np.float64)
        return np.where(stays[-1], steps[stays.argmax(0)], np.nan)


def trajectory(found: Sequence[tuple[int, HeadScores]]) -> Trajectory:
    """A trajectory from (step, scores), in any order."""
    ordered = sorted(found, key=lambda pair: pair[0])
    return Trajectory(tuple(step for step, _ in ordered), tuple(scores for _, scores in ordered))

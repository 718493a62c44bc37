"""One forward pass of a batch with interventions: ``run`` and ``metric_values``. What did not act is an error."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.engine.edits import Edit, Record, check, edits
from interp.engine.intervention import Intervention
from interp.engine.prompts import Prompts, chunks, side, sides
from interp.engine.sources import References, captured, references, resampled, source_of
from interp.models.sites import Site

Interventions = Intervention | Sequence[Intervention]


@dataclass(frozen=True)
class Result:
    """What a forward pass with interventions gave.

    Attributes:
        logits: at the answer position (the last real token, for plain tokens) [n, vocab]; class logits of an image encoder.
        captured: site -> tensor over all prompts, after the interventions of that site.
        acted: whether each intervention changed something, per prompt: bool [n_interventions, n].
    """

    logits: Tensor
    captured: Mapping[Site, Tensor] = field(default_factory=dict)
    acted: Tensor | None = None


@dataclass(frozen=True)
class Prepared:
    """A batch and what a set of interventions needs of other runs, ready for any chunk of its prompts.

    Attributes:
        runs: side -> prompts.
        on: the side that the model is run on.
        found: means and partners that the interventions asked for.
    """

    runs: Mapping[str, Prompts]
    on: str
    found: References

    @property
    def prompts(self) -> Prompts:
        return side(self.runs, self.on)


def prepare(model: Any, batch: Any, interventions: Sequence[Intervention], on: str,
            batch_size: int | None = None) -> Prepared:
    """Check the interventions against model and batch and form the means they ask for."""
    return prepare_runs(model, sides(model, batch), interventions, on, batch_size)


def prepare_runs(model: Any, runs: Mapping[str, Prompts], interventions: Sequence[Intervention], on: str,
                 batch_size: int | None = None) -> Prepared:
    """``prepare`` for sides that are prompts already."""
    side(runs, on)
    check(model, interventions)
    return Prepared(runs, on, references(model, runs, on, interventions, batch_size))


@dataclass(frozen=True)
class Chunk:
    """Some prompts of a prepared batch and the activations that interventions take from their other runs."""

    prepared: Prepared
    rows: Tensor
    prompts: Prompts
    others: Mapping

    def edits(self, interventions: Sequence[Intervention], records: Sequence[Record]) -> dict[Site, Edit]:
        """The backend's edits for these interventions on these prompts."""
        sources = [source_of(item, self.prompts, self.prepared.found, self.rows, self.others) for item in interventions]
        return edits(self.prompts, interventions, sources, records)


def chunk(model: Any, prepared: Prepared, rows: Tensor, interventions: Sequence[Intervention]) -> Chunk:
    """The prompts ``rows``, with what ``interventions`` resample from captured once."""
    others = captured(model, prepared.runs, prepared.found, rows, interventions)
    return Chunk(prepared, rows, prepared.prompts.take(rows), others)


def answer_logits(run: Any, prompts: Prompts) -> Tensor:
    """Logits at the answer position [n, vocab]; class logits of a network without a vocabulary."""
    if run.logits is not None:
        return run.logits[torch.arange(prompts.n, device=run.logits.device), prompts.answer.to(run.logits.device)]
    if run.output is not None and run.output.dim() == 2:
        return run.output
    raise InterpError("read logits", "the model has no output over a vocabulary or classes", "capture sites instead")


def run(model: Any, batch: Any, interventions: Interventions = (), capture: Collection[Site] = (), *, on: str = "clean",
        batch_size: int | None = None, may_be_identity: bool = False, logits: bool = True) -> Result:
    """One forward pass over a batch (or Tokens, or a mapping of inputs) with interventions, capturing sites.

    Args:
        on: the side that is run: ``"clean"`` (resample from ``"corrupt"`` then is noising) or ``"corrupt"`` (denoising).
        batch_size: prompts per pass; the numbers do not depend on it. By default as many as a memory budget holds.
        may_be_identity: accept an intervention that changes nothing; ``acted`` says what did.
        logits: False for networks without logits, when only captured sites are wanted (``logits`` is then empty).

    Raises:
        InterpError: for an intervention that the model cannot have, that was never reached, or (unless ``may_be_identity``)
            that left its selected entries unchanged, up to rounding, on every prompt.
    """
    interventions = as_tuple(interventions)
    prepared = prepare(model, batch, interventions, on, batch_size)
    parts, acted = [], []
    for rows in chunks(model, prepared.prompts, batch_size, held=[*capture, *resampled(interventions)]):
        part = chunk(model, prepared, rows, interventions)
        records = [Record() for _ in interventions]
        with torch.no_grad():
            passed = model.run(part.prompts.inputs, part.edits(interventions, records), capture)
        parts.append((answer_logits(passed, part.prompts) if logits else torch.empty(len(rows), 0), passed.captured))
        acted.append(did_act(interventions, records, len(rows)))
    changed = torch.cat(acted, dim=1)
    if not may_be_identity:
        refuse_identity(interventions, changed, on)
    tensors = {site: torch.cat([part[1][site] for part in parts]) for site in capture}
    return Result(torch.cat([part[0] for part in parts]), tensors, changed)


def metric_values(model: Any, batch: Any, interventions: Interventions = (), on: str = "clean", *, metric: Any = None,
                  batch_size: int | None = None, may_be_identity: bool = False) -> np.ndarray:
    """The metric of each prompt with interventions active: float64 [n]. ``metric`` None: the batch's own.

    Answers and wrong answers are those of the clean prompt on either side. Arguments and errors as for ``run``.
    """
    result = run(model, batch, interventions, on=on, batch_size=batch_size, may_be_identity=may_be_identity)
    return measured(result.logits, batch, metric)


def measured(logits: Tensor, batch: Any, metric: Any = None) -> np.ndarray:
    """The metric of logits [n, vocab] on a batch, as float64 [n]."""
    return (batch.metric if metric is None else metric)(logits, batch).detach().cpu().double().numpy()


def did_act(interventions: Sequence[Intervention], records: Sequence[Record], n: int) -> Tensor:
    """Whether each intervention changed something, bool [n_interventions, n]; one that was never reached raises."""
    for item, record in zip(interventions, records, strict=True):
        if not record.reached:
            raise InterpError(str(item), f"the pass never reached {item.site}", "choose a site that this model uses")
    if not interventions:
        return torch.zeros(0, n, dtype=torch.bool)
    return torch.stack([record.changed for record in records]).cpu()


def refuse_identity(interventions: Sequence[Intervention], changed: Tensor, on: str) -> None:
    """Raise for the first intervention that changed no prompt, ``changed`` being bool [n_interventions, n]."""
    for item, row in zip(interventions, changed, strict=True):
        if not bool(row.any()):
            raise InterpError(str(item), f"it changes nothing in any of the {len(row)} prompts (run on {on})",
                              "check the source and the position, or pass may_be_identity=True")


def as_tuple(interventions: Interventions) -> tuple[Intervention, ...]:
    """One or several interventions as a tuple."""
    return (interventions,) if isinstance(interventions, Intervention) else tuple(interventions)

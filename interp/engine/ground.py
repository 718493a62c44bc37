"""``Ground``: some prompts of a batch, the untouched run that interventions start from, and what other runs contribute."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from interp.engine.edits import needs_visible, scores_of
from interp.engine.forward import Prepared
from interp.engine.intervention import Add, Intervention, Replace, Resample
from interp.engine.prompts import Prompts
from interp.engine.sources import Source, captured, source_of
from interp.models.sites import Site


@dataclass(frozen=True, eq=False)
class Ground:
    """Some prompts of a batch, run untouched.

    Attributes:
        rows: their indices in the batch.
        prompts: they themselves, without the columns that are padding in all of them.
        recording: the untouched run of them.
        logits: at each answer position, [n, vocab], or the columns that were asked for; class logits of a network without
            a vocabulary.
        everywhere: whether the output depends on all positions of the last residual stream.
        others: activations of the runs that interventions resample from.
        sources, kept: what has been worked out for interventions.
    """

    prepared: Prepared
    rows: Tensor
    prompts: Prompts
    recording: Any
    logits: Tensor
    everywhere: bool
    others: Any
    sources: dict[int, Source | None] = field(default_factory=dict, repr=False)
    kept: dict[tuple, Tensor] = field(default_factory=dict, repr=False)

    @property
    def n(self) -> int:
        """How many prompts."""
        return len(self.rows)

    @property
    def length(self) -> int:
        """Positions, padding included."""
        return self.recording.resid(0).shape[1]

    def source(self, item: Intervention) -> Source | None:
        """What the intervention takes from other runs, for these prompts."""
        if id(item) not in self.sources:
            self.sources[id(item)] = source_of(item, self.prompts, self.prepared.found, self.rows, self.others)
        return self.sources[id(item)]


def lay(model: Any, prepared: Prepared, rows: Tensor, interventions: Sequence[Intervention],
        columns: Tensor | None = None) -> Ground:
    """Run some prompts untouched, and what the interventions resample from.

    ``columns``: of the vocabulary that are read; None for all.

    Raises:
        InterpError: from the run, and for sources that do not fit.
    """
    interventions = list(interventions)
    narrow = not any(map(is_laid_out, interventions))
    prompts = prepared.prompts.take(rows)
    prompts = prompts.narrowed() if narrow else prompts
    model.check_padding(prompts.inputs.get("attention_mask"))
    with model.resuming.reading(torch.zeros(1, dtype=torch.long)):      # of these runs no logits are read
        others = captured(model, prepared.runs, prepared.found, rows, interventions, narrow)
    inputs = {name: x.to(model.dtype) if x.is_floating_point() else x for name, x in prompts.inputs.items()}
    recording = model.resuming.record(inputs, sites_of(interventions), columns)
    output, everywhere = recording.output, recording.output.dim() == 2
    logits = output if everywhere else output[torch.arange(prompts.n, device=output.device), prompts.answer]
    recording = replace(recording, output=logits)
    return Ground(prepared, rows, replace(prompts, inputs=inputs), recording, logits, everywhere, others)


def sites_of(interventions: Iterable[Intervention]) -> set[Site]:
    """The sites that must be known to say what the interventions change."""
    interventions = list(interventions)
    return {item.site for item in interventions} | {scores_of(item) for item in interventions
                                                    if item.what == "pattern" and needs_visible(item)}


def given(item: Intervention) -> Tensor | None:
    """The tensor that the intervention's value holds, None without one."""
    value = item.value
    held = value.vector if isinstance(value, Add) else value.tensor if isinstance(value, Replace) else \
        value.source if isinstance(value, Resample) else None
    return held if isinstance(held, Tensor) else None


def is_laid_out(item: Intervention) -> bool:
    """Whether its value is a tensor over the whole batch, with an axis of positions."""
    held = given(item)
    return held is not None and held.dim() > 2


def from_position(item: Intervention, source: Source | None, rows: Tensor, start: int
                  ) -> tuple[Intervention, Source | None]:
    """The intervention and its source for some of a ground's prompts, their positions (queries) counted from ``start``."""
    axis = item.site.position_axis
    if start and is_laid_out(item) and not isinstance(item.value, Resample):
        held = given(item)
        held = held.narrow(axis, start, held.shape[axis] - start)
        item = replace(item, value=type(item.value)(held))
    if source is None:
        return item, None
    tensor, index = source.tensor, source.index
    if not source.shared:
        tensor = tensor.index_select(0, rows)
        if index is None:
            tensor = tensor.narrow(axis, start, tensor.shape[axis] - start)
    index = None if index is None else index.index_select(0, rows)[:, start:]
    keys = None if source.key_index is None else source.key_index.index_select(0, rows)
    return item, Source(tensor, index, keys, source.shared)



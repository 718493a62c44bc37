"""The only loop over interventions: many lists of interventions on one batch, each giving the metric per prompt."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from interp.core.errors import InterpError
from interp.engine.edits import Record
from interp.engine.forward import Interventions, answer_logits, as_tuple, chunk, did_act, prepare
from interp.engine.prompts import chunks
from interp.engine.sources import resampled


@dataclass(frozen=True)
class Sweep:
    """What a sweep gave.

    Attributes:
        values: metric per list of interventions and prompt, float64 [n_lists, n_prompts] ([n_metrics, n_lists, n_prompts]
            where several metrics were asked for).
        acted: whether anything in the list changed something in that prompt, bool [n_lists, n_prompts]. Where it is False,
            the metric is that of the untouched run.
    """

    values: np.ndarray
    acted: np.ndarray


def sweep(model: Any, batch: Any, interventions: Sequence[Interventions], on: str = "clean", *, metric: Any = None,
          batch_size: int | None = None, progress: bool | None = None, title: str = "sweep") -> np.ndarray:
    """The metric per prompt for each of many lists of interventions, in their order: float64 [n_lists, n_prompts].

    Each entry is one intervention or several that are active together. What does not act is known to have no effect and is
    accepted (``sweep_record`` says where); a sweep in which nothing acts at all raises.

    Args:
        on: the side that is run, as for ``interp.engine.forward.run``.
        metric: None for the batch's own; a sequence of metrics gives one more leading axis.
        batch_size: prompts per pass; the numbers do not depend on it.
        progress: show a bar on stderr; None: where stderr is a terminal.
    """
    return sweep_record(model, batch, interventions, on, metric=metric, batch_size=batch_size, progress=progress,
                        title=title).values


def sweep_record(model: Any, batch: Any, interventions: Sequence[Interventions], on: str = "clean", *, metric: Any = None,
                 batch_size: int | None = None, progress: bool | None = None, title: str = "sweep") -> Sweep:
    """``sweep``, with the record of what acted where."""
    lists = [as_tuple(entry) for entry in interventions]
    if not lists:
        raise InterpError("sweep", "no interventions were given", "give at least one")
    every = list({id(item): item for entry in lists for item in entry}.values())
    prepared = prepare(model, batch, every, on, batch_size)
    metrics = list(metric) if isinstance(metric, (list, tuple)) else [metric or batch.metric]
    values = np.full((len(metrics), len(lists), prepared.prompts.n), np.nan)
    acted = np.zeros(values.shape[1:], dtype=bool)
    parts = list(chunks(model, prepared.prompts, batch_size, held=resampled(every)))
    with _bar(progress) as bar, torch.no_grad():
        task = bar.add_task(title, total=len(parts) * len(lists))
        for rows in parts:
            part = chunk(model, prepared, rows, every)
            asked = batch.subset(rows)
            for i, entry in enumerate(lists):
                records = [Record() for _ in entry]
                logits = answer_logits(model.run(part.prompts.inputs, part.edits(entry, records)), part.prompts)
                for m, fn in enumerate(metrics):
                    values[m, i, rows.numpy()] = fn(logits, asked).cpu().double().numpy()
                acted[i, rows.numpy()] = did_act(entry, records, len(rows)).any(dim=0).numpy()
                bar.advance(task)
    if not acted.any() and any(lists):
        raise InterpError(f"sweep over {len(lists)} interventions",
                          f"none of them changes anything in any prompt (run on {on})",
                          "check the source: clean and corrupted runs may not differ there")
    return Sweep(values if isinstance(metric, (list, tuple)) else values[0], acted)


def _bar(progress: bool | None) -> Progress:
    shown = sys.stderr.isatty() if progress is None else progress
    console = Console(stderr=True)
    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                    console=console, disable=not shown, transient=console.is_terminal)

"""From a model and tasks to results: the one place where a report runs anything."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from interp.core.errors import InterpError
from interp.core.head import Head
from interp.core.scores import HeadScores
from interp.engine.activations import activations
from interp.engine.baselines import baselines
from interp.engine.edits import NEVER
from interp.engine.forward import answer_logits
from interp.engine.prompts import side, sides
from interp.engine.running import Running, running_of
from interp.measures.measure import find
from interp.models.sites import Site
from interp.report.results import Example, Shown, TaskResult
from interp.tasks.batch import Batch
from interp.tasks.tokenise import token_text, token_texts

MEASURES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("activation_patching", {"component": "z", "direction": "noising"}),
    ("ablation", {"kind": "zero"}),
    ("ablation", {"kind": "mean"}),
    ("attribution_patching", {}),
    ("direct_logit_attribution", {}),
    ("head_importance", {}),
)
"""The measures of a report, with the options that are not left at their defaults."""

Say = Callable[[str], None]


def build(
    model: Any,
    tasks: Sequence[Any],
    n: int | None = None,
    seed: int = 0,
    *,
    measures: Sequence[tuple[str, dict[str, Any]]] = MEASURES,
    top: int = 3,
    prompts: int = 2,
    batch_size: int | None = None,
    progress: bool | None = None,
    running: Running | None = None,
    say: Say | None = None,
) -> tuple[TaskResult, ...]:
    """Score every head of ``model`` on every task, by every measure, and read the patterns of the top heads.

    Args:
        model: what ``interp.load`` returned.
        tasks: tasks (anything with ``.batch(model, n, seed)``: ``interp.tasks.ioi``, a prompt file) or batches.
        n, seed: prompts of each task; None: as many as the task says.
        measures: (name, options) pairs.
        top: how many heads have their attention shown, by mean rank over the measures; prompts: on how many prompts.
        batch_size: prompts per pass; changes no number. progress: bars on stderr (None: where it is a terminal).
        running: these two, and memory, store and workers of the sweeps (``interp.engine.running``).
        say: called with a line for each step.

    Raises:
        InterpError: as tasks and measures do.
    """
    say = say or (lambda line: None)
    how = running_of(running, batch_size, progress)
    if not tasks:
        raise InterpError("build a report", "no task was given", "give at least one")
    if not model.stacks:
        raise InterpError(f"report on the heads of {model.name}", "the model has no attention", "choose a transformer")
    batches = []
    for task in tasks:  # all prompts first, so that a bad one is refused before anything runs
        batches.append(task if isinstance(task, Batch) else task.batch(model, n, seed))
    results = []
    for task, batch in zip(tasks, batches, strict=True):
        scores = []
        for name, options in measures:
            say(
                f"{batch.task}: {name.replace('_', ' ')}{''.join(f' {value}' for value in options.values())}, "
                f"{batch.n} prompts"
            )
            scores.append(find(name)(model, batch, **options, running=how))
        results.append(_result(model, task, batch, tuple(scores), top, prompts))
    return tuple(results)


def _result(model: Any, task: Any, batch: Batch, scores: tuple[HeadScores, ...], top: int, prompts: int) -> TaskResult:
    known = _facts(batch.task)
    facts = known or task
    base = baselines(model, batch)
    shown = batch.subset(range(min(prompts, batch.n)))
    return TaskResult(
        name=batch.task,
        scores=scores,
        source=known.source if known else "",
        description=f"The model must {known.description}."
        if known
        else f"{facts.description[:1].upper()}{facts.description[1:]}."
        if hasattr(facts, "description")
        else "",
        correct=base.correct,
        beats_wrong=base.beats_wrong,
        dropped=tuple(batch.dropped),
        shown=_shown(model, shown, base),
        examples=_examples(model, shown, top_heads(scores, top), scores[0].attention),
    )


def _facts(name: str) -> Any:
    """The task of that name, for its description; None for prompts of one's own."""
    from interp import tasks

    return tasks.get(name) if name in tasks.names() else None


def top_heads(scores: Sequence[HeadScores], top: int) -> list[Head]:
    """The ``top`` heads by mean rank over the measures that count heads."""
    ranks = []
    for one in scores:
        if one.unit == "head" and one.values.ndim == 3:
            mean = one.mean().ravel()
            order = np.argsort(np.argsort(-np.where(np.isfinite(mean), mean, -np.inf), kind="stable"), kind="stable")
            ranks.append(np.where(np.isfinite(mean), order, np.inf))
    if not ranks:
        return []
    mean_rank = np.mean(ranks, axis=0)
    best = np.argsort(mean_rank, kind="stable")[:top]
    return [scores[0].heads[i] for i in best if np.isfinite(mean_rank[i])]


def _shown(model: Any, batch: Batch, base: Any) -> tuple[Shown, ...]:
    said = (
        answer_logits(model.run(side(sides(model, batch), "clean").inputs), side(sides(model, batch), "clean"))
        .argmax(-1)
        .tolist()
    )
    clean, corrupt = batch.clean.rows(), batch.corrupt.rows()
    rows = []
    for i in range(batch.n):
        right = [token_text(model.tokenizer, token) for token in batch.answers[i][batch.answer_mask[i].bool()].tolist()]
        wrong = [token_text(model.tokenizer, token) for token in batch.wrong[i][batch.wrong_mask[i].bool()].tolist()]
        rows.append(
            Shown(
                token_texts(model.tokenizer, clean[i]),
                token_texts(model.tokenizer, corrupt[i]),
                _spans(batch, i),
                right[0],
                tuple(wrong),
                float(base.clean[i]),
                float(base.corrupt[i]),
                token_text(model.tokenizer, said[i]),
            )
        )
    return tuple(rows)


def _examples(model: Any, batch: Batch, heads: Sequence[Head], attention: str) -> tuple[Example, ...]:
    """Patterns on the clean prompts; only of attention in which a prompt's tokens are both queries and keys."""
    if attention not in ("self", "encoder") or not heads:
        return ()
    examples = {}
    for layer in sorted({head.layer for head in heads}):
        pattern, scores = Site("pattern", layer, attention), Site("scores", layer, attention)
        for i in range(batch.n):
            read = activations(model, batch.subset([i]), (pattern, scores))
            seen = read[scores] > max(torch.finfo(read[scores].dtype).min / 2, NEVER)
            tokens = token_texts(model.tokenizer, batch.subset([i]).clean.rows()[0])
            for head in heads:
                if head.layer == layer:
                    examples[head, i] = Example(
                        head,
                        i,
                        tokens,
                        tokens,
                        read[pattern][0, head.head].double().cpu().numpy(),
                        seen[0, min(head.head, seen.shape[1] - 1)].cpu().numpy(),
                        _spans(batch, i),
                    )
    return tuple(examples[head, i] for head in heads for i in range(batch.n))


def _spans(batch: Batch, i: int) -> dict[str, tuple[int, int]]:
    """Named positions of prompt ``i``, counted from its first real token."""
    start = int(batch.clean.start[i])
    return {name: (int(span[i, 0]) - start, int(span[i, 1]) - start) for name, span in batch.spans.items()}

"""From a model and tasks to results: the one place where a report runs anything."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from interp.core.circuit import Circuit
from interp.core.errors import InterpError
from interp.core.head import Head
from interp.core.scores import HeadScores
from interp.engine.baselines import baselines
from interp.engine.forward import answer_logits
from interp.engine.prompts import side, sides
from interp.engine.running import Running, running_of
from interp.measures.measure import find
from interp.report.attention import patterns, spans_of
from interp.report.circuits import check_fit, shipped_circuits
from interp.report.results import Findings, Shown, TaskResult, Typed
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
    types: bool = True,
    circuits: Sequence[Circuit] = (),
    say: Say | None = None,
) -> Findings:
    """Score every head of ``model`` on every task, by every measure; type the heads; read attention patterns.

    Args:
        model: what ``interp.load`` returned.
        tasks: tasks (anything with ``.batch(model, n, seed)``: ``interp.tasks.ioi``, a prompt file) or batches.
        n, seed: prompts of each task; None: as many as the task says.
        measures: (name, options) pairs.
        top: how many heads have their attention shown, by mean rank over the measures; prompts: on how many prompts.
        batch_size: prompts per pass; changes no number. progress: bars on stderr (None: where it is a terminal).
        running: these two, and memory, store and workers of the sweeps (``interp.engine.running``).
        types: whether to say what each head is (``interp.measures.head_types``): once for the model, a few passes.
        circuits: circuits of these tasks in this model; of tasks for which none is given, those that ship with the project
            are taken where they were found in the very weights.
        say: called with a line for each step.

    Raises:
        InterpError: as tasks and measures do; a circuit of another model or task.
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
    names = [batch.task for batch in batches]
    known = model.provenance_dict()
    for circuit in circuits:
        check_fit(circuit, known, names, (model.stack(None).n_layers, model.stack(None).n_heads))
    shipped = [one for one in shipped_circuits(known) if one.task in names and one.task not in {c.task for c in circuits}]
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
    typed = _types(model, results[0].scores[0].attention, seed, say) if types else None
    ordered = sorted((*circuits, *shipped), key=lambda circuit: names.index(circuit.task))
    return Findings(tuple(results), typed, tuple(ordered))


def _types(model: Any, attention: str, seed: int, say: Say) -> Typed:
    """The types of the heads, or why they could not be called: the rest of the report stands without them."""
    from interp.measures.head_types import head_types

    say("types of the heads")
    begun = time.perf_counter()
    try:
        found = head_types(model, seed=seed, attention=attention)
    except InterpError as refusal:
        return Typed(None, str(refusal))
    return Typed(found, seconds=round(time.perf_counter() - begun, 2))


def _result(model: Any, task: Any, batch: Batch, scores: tuple[HeadScores, ...], top: int, prompts: int) -> TaskResult:
    known = _facts(batch.task)
    facts = known or task
    base = baselines(model, batch)
    shown = batch.subset(range(min(prompts, batch.n)))
    examples, every = patterns(model, shown, top_heads(scores, top), scores[0].attention)
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
        examples=examples,
        every_head=every,
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
                spans_of(batch, i),
                right[0],
                tuple(wrong),
                float(base.clean[i]),
                float(base.corrupt[i]),
                token_text(model.tokenizer, said[i]),
            )
        )
    return tuple(rows)

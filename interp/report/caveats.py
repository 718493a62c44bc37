"""What a report does not show, in plain words: general limits, what these numbers in particular give reason to doubt, and
what each measure says of itself."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from interp.measures.catalog import catalog
from interp.report.circuits import judged
from interp.report.panels import Panel
from interp.report.results import Findings, TaskResult
from interp.views.labels import number, percent, plural

FEW = 30
"""Below this many prompts an interval is called rough."""
MASTERED = 0.9
"""Below this share of right answers a task is called not mastered."""


def caveats(prepared: Sequence[tuple[TaskResult, tuple[Panel, ...]]], findings: Findings) -> dict[str, Any]:
    """``general``: sentences; ``here``: sentences for each task; ``measures``: what each says of itself."""
    entries, used = catalog(), dict.fromkeys(panel.scores.provenance.measure for _, drawn in prepared for panel in drawn)
    return {
        "general": _general(prepared) + _further(findings),
        "here": [{"task": result.name, "said": said} for result, drawn in prepared if (said := _here(result, drawn))],
        "measures": [
            {
                "name": name.replace("_", " "),
                "summary": entries[name].summary,
                "sense": entries[name].sense,
                "formula": entries[name].formula,
                "source": entries[name].source,
                "does_not_show": entries[name].does_not_show,
            }
            for name in used
            if name in entries
        ],
    }


def _general(prepared: Sequence[tuple[TaskResult, tuple[Panel, ...]]]) -> list[str]:
    tests = sum(int(np.isfinite(panel.q).sum()) for _, drawn in prepared for panel in drawn)
    grids = sum(len(drawn) for _, drawn in prepared)
    return [
        "The numbers hold for these prompts of these tasks. A head that does one thing here can do another elsewhere, "
        "and a head that is silent here "
        "is not shown to be idle.",
        "Every intervention puts the network into a state that it does not reach by itself. Zero ablation goes "
        "furthest; patching from the corrupted "
        "prompt stays closest.",
        "Heads are changed one at a time. Heads that stand in for each other look unimportant one by one, and heads "
        "that are only needed together "
        "look important one by one.",
        "Intervals are bootstrap intervals over prompts (95 %, bias-corrected and accelerated). They say how much "
        "another draw of prompts of the same task "
        "would move the number; they do not cover the choice of task, corruption, metric or model.",
        f"{tests} tests stand on this page ({plural(grids, 'grid')}). The false-discovery rate is held at 5 % within "
        f"each grid (Benjamini and Hochberg), "
        "not over the page: up to about one in twenty of the marked heads may be marked by chance.",
        "Attention patterns show where a head reads, on the prompts shown. They do not show what it writes, nor that "
        "it matters; the head grids do that.",
        "Measures are not independent witnesses: attribution patching estimates activation patching, and all share "
        "the same prompts and metric.",
    ]


def _further(findings: Findings) -> list[str]:
    said = []
    if findings.types is not None and findings.types.found is not None:
        said.append(
            "Types say where a head looks, on texts made for that. A typed head may do nothing in these tasks, and may do "
            "other things besides; \"unknown\" is no type: it says that none of those looked for was borne out."
        )
    if findings.circuits:
        said.append(
            "A circuit is a set of edges that a method chose; other sets may carry as much. What it carries by itself was "
            "measured when it was made, on prompts of its own and with everything outside it ablated, which is nothing that "
            "the model does by itself."
        )
        if any(judged(circuit) is None for circuit in findings.circuits):
            said.append("A circuit that was not judged is a proposal: nothing here says that it carries the behaviour.")
    if len(findings.circuits) > 1:
        said.append(
            "Circuits of one model share components that every task needs (the embedding's readers, the last MLPs). Chance "
            "matched by layer takes the sizes and layers of the circuits into account, not that."
        )
    return said


def _here(result: TaskResult, drawn: Sequence[Panel]) -> list[str]:
    said, n = [], drawn[0].scores.n_prompts
    if n < 2:
        said.append("With one prompt there are no intervals and no tests.")
    elif n < FEW:
        said.append(f"{n} prompts are few; take the intervals as rough.")
    if result.correct is not None and result.correct.mean() < MASTERED:
        said.append(
            f"The model gives the right answer on {percent(float(result.correct.mean()))} of the prompts only. Heads "
            f"that matter for the metric "
            "need not be heads that solve the task."
        )
    whole = drawn[0].scores.normalizer
    if whole is not None and whole.mean() < 0:
        said.append(
            f"The metric is smaller on the clean prompts than on the corrupted ones (by "
            f"{number(-float(whole.mean()))} {drawn[0].unit}). Fractions of "
            "such a whole effect have the opposite sign of the values."
        )
    for reason, names in _grouped((panel.refused, panel.label) for panel in drawn if panel.refused):
        said.append(f"No fractions of the whole effect by {names}: {reason}.")
    idle = [panel for panel in drawn if panel.signed and n > 1 and not panel.significant.any()]
    for tests, names in _grouped((str(int(np.isfinite(panel.q).sum())), panel.label) for panel in idle):
        said.append(f"No head differs from zero after correction for {tests} tests by {names}.")
    for missing, names in _grouped(
        (str(int(np.isnan(panel.mean).sum())), panel.label) for panel in drawn if np.isnan(panel.mean).any()
    ):
        said.append(f"{plural(int(missing), 'head')} without a value by {names}.")
    against = list(
        dict.fromkeys(
            panel.names[i][j]
            for panel in drawn
            for i, j in zip(*np.nonzero(panel.significant & (panel.mean < 0)), strict=True)
        )
    )
    if against:
        listed = ", ".join(against[:8]) + (f" and {len(against) - 8} more" if len(against) > 8 else "")
        said.append(
            f"By at least one measure {listed} work{'s' if len(against) == 1 else ''} against the answer (a value "
            f"below zero that passes the test). "
            "A ranking by the largest value puts such heads last."
        )
    if result.dropped:
        words = ", ".join(repr(word) for word in result.dropped[:12])
        said.append(
            f"{plural(len(result.dropped), 'word')} left out as no single token of this tokenizer: "
            f"{words}{' …' if len(result.dropped) > 12 else ''}."
        )
    return said


def _grouped(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """What is the same for several measures, said once: (reason, measures in words)."""
    groups: dict[str, list[str]] = {}
    for reason, label in pairs:
        groups.setdefault(reason, []).append(label[:1].lower() + label[1:])
    return [(reason, "; ".join(names)) for reason, names in groups.items()]

"""Sweeps in bfloat16 whose top and flags are certified to be those of float32, against float32 itself."""

from dataclasses import replace
from functools import partial

import numpy as np

from benchmarks.harness.machine import machine
from benchmarks.harness.result import Benchmark, Findings, Row, versus
from benchmarks.harness.shapes import Setting, model, pairs
from benchmarks.harness.timing import Contender, Timing, in_turn
from interp.core.scores import HeadScores
from interp.measures import activation_patching

BAR, TOP = 2.5, 20
PRECISIONS = ("float32", "certified", "bfloat16")
WEIGHTS = {False: "heads alike", True: "heads of unequal strength"}


def measure(setting: Setting) -> Findings:
    """All heads, all positions, denoising; on plain random weights, where heads are alike, and on uneven ones."""
    rows: list[Row] = []
    for uneven, words in WEIGHTS.items():
        rows += _rows(replace(setting, shape=replace(setting.shape, uneven=uneven)), words)
    return Findings(tuple(rows))


def _rows(setting: Setting, words: str) -> list[Row]:
    used, given = model(setting.shape), pairs(setting)
    batch = given.batch(used)
    times = in_turn([Contender(name, partial(activation_patching, used, batch, direction="denoising", precision=name))
                     for name in PRECISIONS], 2 * setting.repeats - 1)
    exact, certified, plain = (times[name] for name in PRECISIONS)
    right = order(exact.value)
    units = machine()["bfloat16_matrix_units"]
    bar = BAR if units else None
    note = "" if units else "this processor has no bfloat16 matrix units: no bar"
    same = order(certified.value) == right and np.array_equal(*(x.value.test().significant for x in (certified, exact)))
    what = f"certified precision, {words}"
    other = Row(what, rival="float32", bar=BAR, note=f"another top {TOP}, or other flags")
    found = _row(what, certified, exact, bar, note) if same else other
    common = len(set(order(plain.value)) & set(right))
    said = f"for comparison: {common} of the top {TOP} are right, {'in' if order(plain.value) == right else 'not in'} order"
    return [found, _row(f"bfloat16 uncertified, {words}", plain, exact, None, said)]


def _row(what: str, ours: Timing, exact: Timing, bar: float | None, note: str) -> Row:
    said = [] if ours.name == "bfloat16" else [f"same top {TOP}, same order, same flags"]
    return versus(what, ours, exact, bar, "; ".join(part for part in (*said, note, spent(ours.value)) if part))


def order(scores: HeadScores, k: int = TOP) -> list[int]:
    """The k entries of the largest mean effect, in order (flat indices); what was not measured is passed over."""
    mean = scores.mean().ravel()
    return np.argsort(-np.where(np.isfinite(mean), mean, -np.inf), kind="stable")[:k].tolist()


def spent(scores: HeadScores) -> str:
    """What the certificate says of how much was redone or evaluated exactly."""
    outcome = scores.provenance.outcome
    if "precision" in outcome:
        return "redone in float32: {redone} of {full}".format(**outcome["precision"])
    return "exact evaluations: {spent} of {full}".format(**outcome["screening"]) if "screening" in outcome else ""


BENCHMARK = Benchmark("Certified precision", measure, minutes=4.5, place=6)

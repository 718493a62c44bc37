"""Scores whose values are known by their place, over checkpoints and over a grid of needles, and contexts with copying."""

from dataclasses import replace

import numpy as np

from interp.core.head import Head
from interp.core.provenance import Provenance
from interp.core.scores import HeadScores
from interp.views.widgets.retrieval import NeedleRun, Retrieval

STEPS = (0, 100, 200, 800, 3000)
CONTEXT = ("<s>", *(f" w{i}" for i in range(1, 40)))
NEEDLE = (20, 25)


def scored(values: np.ndarray, measure: str = "prefix_matching", *, signed: bool = False, **more) -> HeadScores:
    """Head scores [layer, head, prompt] of a model that is named and no more."""
    made = Provenance(measure=measure, options={}, model={"name": "m"}, task={"name": "t"}, metric="logit_diff")
    return HeadScores(values, made, signed=signed, **more)


def over_steps(prompts: int = 8) -> dict[int, HeadScores]:
    """2 x 3 heads: L1H2 grows from 0 to 0.9 over the steps, L0H0 falls from 0.5, others are 0.1; the task's metric grows."""
    rng = np.random.default_rng(0)
    found = {}
    for i, step in enumerate(STEPS):
        mean = np.full((2, 3), 0.1)
        mean[1, 2], mean[0, 0] = 0.225 * i, 0.5 - 0.1 * i
        noise = rng.normal(0, 0.02, (2, 3, prompts))
        values = mean[:, :, None] + noise - noise.mean(-1, keepdims=True)
        found[step] = scored(values, baselines={"clean": np.linspace(0, 1, prompts) + i})
    return found


def needle_scores(measure: str = "retrieval_score") -> HeadScores:
    """2 x 3 heads on two lengths by three depths by two needles: L1H1 scores 1 where the needle was found, L0H2 0.25."""
    cells = [f"length {length}, depth {depth}, n{i}" for length in (40, 120) for depth in (0, 50, 100) for i in range(2)]
    found = np.array([0.0 if "120, depth 50" in cell else 1.0 for cell in cells])
    values = np.zeros((2, 3, len(cells)))
    values[1, 1], values[0, 2] = found, 0.25
    return scored(values, measure, coords={"prompt": tuple(cells)}, baselines={"answered": found, "recall": found})


def needle_run(tokens=CONTEXT, needle=NEEDLE, prompt: int = 2, answered: float = 1.0) -> NeedleRun:
    """L1H1 copies the needle's last three tokens in turn with 0.8, else looks at the first key; L0H2 looks at that."""
    stop = needle[1]
    said = (*tokens[stop - 3 : stop], "\n")
    copying, still = np.zeros((2, len(said), len(tokens) + len(said)))
    copying[:, 0], still[:, 0] = 0.2, 0.9
    still[:, 5] = 0.1
    for step in range(3):
        copying[step, stop - 3 + step] = 0.8
    copying[3, 3] = 0.8
    return NeedleRun(tokens, needle, said, {Head(1, 1): copying, Head(0, 2): still}, answered=answered,
                     cell="length 40, depth 50, n0", prompt=prompt, special=(0,))


def retrieval() -> Retrieval:
    """The scores, and two contexts of which the second was not answered."""
    other = needle_run((*CONTEXT, *CONTEXT[1:], *CONTEXT[1:]), (60, 64), prompt=8, answered=0.0)
    return Retrieval(needle_scores(), (needle_run(), replace(other, cell="length 120, depth 50, n0")))

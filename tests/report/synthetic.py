"""Results with known numbers, for tests of the page: a few planted heads over noise, patterns with a first-token sink."""

import numpy as np

from interp.core.head import Head
from interp.core.provenance import Provenance
from interp.core.scores import HeadScores
from interp.report.results import Example, Shown, TaskResult

HOSTILE = (
    "</script><script>window.hacked=1</script>",
    "<img src=x onerror=window.hacked=1>",
    "\u202egnp.exe",
    "\ud83d",
    "&lt;b&gt;",
    "{{ 7*7 }}",
    "\"quote'",
    " ",
    "\n",
    "",
    "العربية",
    "😀",
    "<|endoftext|>",
    "x" * 300,
    " the",
    "the",
)
WORDS = (
    "<s>",
    "When",
    " Mary",
    " and",
    " John",
    " went",
    " to",
    " the",
    " store",
    ",",
    " John",
    " gave",
    " a",
    " drink",
    " to",
)
SPANS = {"IO": (2, 3), "S1": (4, 5), "S2": (10, 11), "end": (14, 15)}
PLANTED = {
    "ioi": ((1, 2), (3, 5), (4, 0)),
    "colored_objects": ((1, 2), (4, 0), (2, 6)),
    "induction": ((1, 2), (2, 2), (5, 7)),
}
MEASURES = (
    ("activation_patching", {"component": "z", "positions": None}, "noising"),
    ("ablation", {"kind": "zero"}, None),
    ("ablation", {"kind": "mean"}, None),
    ("attribution_patching", {"component": "z"}, "noising"),
    ("direct_logit_attribution", {}, None),
    ("head_importance", {}, None),
)


def scores(task: str = "ioi", measure: int = 0, layers: int = 6, heads: int = 8, n: int = 48, seed: int = 0) -> HeadScores:
    """Noise around zero, and the task's planted heads large."""
    name, options, direction = MEASURES[measure]
    rng = np.random.default_rng([seed, measure, len(task)])
    values = rng.normal(0, 0.15, (layers, heads, 1)) * rng.random((layers, heads, 1)) + rng.normal(
        0, 0.25, (layers, heads, n)
    )
    for size, (layer, head) in zip((2.4, 1.6, 0.8), PLANTED[task], strict=True):
        if layer < layers and head < heads:
            values[layer, head] += size + rng.normal(0, 0.5, n)
    if layers > 4 and heads > 3:
        values[4, 3] -= 0.7
    clean, corrupt = rng.normal(4.6, 0.8, n), rng.normal(0.3, 0.9, n)
    if name == "head_importance":
        values = np.abs(values)
    provenance = Provenance(
        measure=name,
        options=options,
        direction=direction,
        metric="logit_diff",
        baselines={"clean": clean.mean(), "corrupt": corrupt.mean()},
        model={
            "name": "organism",
            "revision": None,
            "dtype": "float32",
            "backend": "transformers",
            "architecture": "LlamaForCausalLM",
            "weight_processing": "none",
            "weights_sha256": "5f0c" * 16,
        },
        task={
            "name": task,
            "version": 1,
            "seed": seed,
            "n": n,
            "options": {"corruption": "abc"},
            "tokens_sha256": task.encode().hex()[:8] * 8,
        },
        versions={"python": "3.11", "torch": "2.13.0"},
        device="cpu",
        date="2026-11-21T09:00:00+00:00",
        code={"revision": "0" * 40, "dirty": False},
    )
    return HeadScores(values, provenance, baselines={"clean": clean, "corrupt": corrupt}, normalizer=clean - corrupt,
                      signed=name != "head_importance")


def example(layer: int, head: int, tokens: tuple[str, ...] = WORDS, prompt: int = 0, seed: int = 0) -> Example:
    """A causal pattern with a first-token sink of about 0.6 and one strong key for each query."""
    size = len(tokens)
    rng = np.random.default_rng([seed, layer, head])
    visible = np.tril(np.ones((size, size), bool))
    score = rng.normal(0, 1, (size, size))
    score[:, 0] += 3
    score[np.arange(size), rng.integers(0, np.arange(size) + 1)] += 2.5
    score = np.where(visible, score, -np.inf)
    weight = np.exp(score - score.max(1, keepdims=True))
    spans = {name: span for name, span in SPANS.items() if span[1] <= size}
    return Example(Head(layer, head), prompt, tokens, tokens, weight / weight.sum(1, keepdims=True), visible, spans)


def result(task: str = "ioi", tokens: tuple[str, ...] = WORDS, measures: int = 6, **shape: int) -> TaskResult:
    """One task as ``build`` would return it."""
    n = shape.get("n", 48)
    corrupt = tuple(" Anna" if i == 10 else token for i, token in enumerate(tokens))
    correct = np.arange(n) != 3
    spans = {name: span for name, span in SPANS.items() if span[1] <= len(tokens)}
    shown = (Shown(tokens, corrupt, spans, " Mary", (" John",), 4.8, 0.2, " Mary"),)
    examples = tuple(example(layer, head, tokens, prompt) for layer, head in PLANTED[task] for prompt in range(2))
    return TaskResult(
        task,
        tuple(scores(task, i, **shape) for i in range(measures)),
        "A sentence names two people; the second clause repeats one of them. The answer is the other.",
        "Wang et al. 2022",
        correct,
        correct,
        shown,
        examples,
        ("Zebedee",),
    )

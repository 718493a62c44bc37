"""Results with known numbers, for tests of the page: a few planted heads over noise, patterns with a first-token sink, types
of three heads, and a circuit of each task."""

from typing import Any

import numpy as np

from interp.core.circuit import Circuit, Edge
from interp.core.head import Head
from interp.core.head_types import SINK, HeadTypes, Role, call_types
from interp.core.provenance import Provenance
from interp.core.scores import HeadScores
from interp.report.results import EveryHead, Example, Findings, Shown, TaskResult, Typed

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


def every_head(tokens: tuple[str, ...] = WORDS, layers: int = 6, heads: int = 8, prompt: int = 0) -> EveryHead:
    """All heads' patterns on one prompt."""
    made = [[example(layer, head, tokens, prompt) for head in range(heads)] for layer in range(layers)]
    pattern = np.stack([[one.pattern for one in row] for row in made])
    visible = np.stack([[row[0].visible] for row in made])
    return EveryHead(prompt, tokens, pattern, visible, (0,), spans=made[0][0].spans)


TYPED = {(1, 2): "induction", (3, 5): "previous token", (0, 1): SINK}


def types(layers: int = 6, heads: int = 8, prompts: int = 12) -> Typed:
    """Three heads of a type on both kinds of texts; one more, L2H2, on one of them alone, so unknown."""
    rng = np.random.default_rng(0)

    def values(at: dict[tuple[int, int], float]) -> np.ndarray:
        found = np.abs(rng.normal(0, 0.02, (layers, heads, prompts)))
        for (layer, head), size in at.items():
            found[layer, head] += size
        return found

    roles = {}
    for role in ("previous token", "induction", SINK):
        mine = {at: 0.8 for at, name in TYPED.items() if name == role and at[0] < layers and at[1] < heads}
        weak = {(2, 2): 0.7} if role == "induction" and layers > 2 and heads > 2 else {}
        texts = {"repeated tokens": values(mine | weak), "plain texts": values(mine)}
        roles[role] = Role(texts, 0.3, texts, resting=role == SINK)
    found: HeadTypes = call_types(roles, n_boot=200, asked={"texts": ["repeated tokens", "plain texts"], "prompts": prompts,
                                                            "epsilon": 0.3, "left_out": {}})
    return Typed(found, seconds=1.5)


EDGES = {
    "ioi": {"embed->L1H2.v": 1.5, "L1H2->L3H5.q": -0.4, "L1H2->L3H5.k": 0.1, "L3H5->L4H0.v": 0.8, "L4H0->logits.out": 2.0,
            "L3H5->mlp5.mlp": 0.2, "mlp5->logits.out": 0.3},
    "colored_objects": {"embed->L1H2.v": 1.1, "L1H2->L4H0.v": 0.7, "L4H0->logits.out": 1.9},
    "induction": {"embed->L1H2.k": 0.9, "L1H2->L2H2.k": 0.8, "L2H2->logits.out": 1.2},
}


def circuit(of: str = "ioi", *, judged: bool = True, **told: Any) -> Circuit:
    """A task's circuit, as a file in circuits/ would tell it."""
    provenance: dict[str, Any] = {
        "method": "mask_ig", "scores": EDGES[of], "shape": {"n_layers": 6, "n_heads": 8},
        "model": {"name": "organism", "weights_sha256": "5f0c" * 16},
        "task": {"name": of, "n": 16, "seed": 0, "options": {"corruption": "abc"}},
    }
    if judged:
        provenance["judged"] = {"faithfulness": 0.9612, "low": 0.91, "high": 0.9934, "completeness": 0.9, "n": 16,
                                "completeness_low": 0.8, "completeness_high": 0.95, "ablation": "resample", "warnings": []}
        provenance["random"] = [0.02, -0.01]
    return Circuit(edges=tuple(map(Edge.parse, EDGES[of])), name=f"{of} in the organism", model="organism", task=of,
                   citation="found by a method", provenance=provenance | told)


def findings(*tasks: str, n: int = 24, measures: int = 6) -> Findings:
    """Everything that a report can hold."""
    results = tuple(result(name, n=n, measures=measures, every=True) for name in tasks)
    return Findings(results, types(), tuple(map(circuit, tasks)))


def result(task: str = "ioi", tokens: tuple[str, ...] = WORDS, measures: int = 6, every: bool = False,
           **shape: int) -> TaskResult:
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
        (every_head(tokens),) if every else (),
    )

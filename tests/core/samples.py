"""Scores and provenance that the tests of the nouns are made with."""

import numpy as np

from interp.core.provenance import Provenance
from interp.core.scores import HeadScores


def provenance(**changes) -> Provenance:
    parts = {
        "measure": "zero_ablation", "options": {"component": "z", "positions": None},
        "model": {"name": "organism", "revision": None, "weight_processing": None, "weights_sha256": "aa"},
        "task": {"name": "ioi", "version": 1, "seed": 0, "n": 8, "options": {}, "tokens_sha256": "bb"},
        "metric": "logit_diff", "direction": "noising", "baselines": {"clean": 3.0}, "versions": {"torch": "2"},
        "device": "cpu", "date": "2026-01-01T00:00:00+00:00", "code": {"revision": "c", "dirty": False},
    }
    return Provenance(**parts | changes)


def scores(values, **parts) -> HeadScores:
    return HeadScores(np.asarray(values, dtype=float), parts.pop("provenance", provenance()), **parts)


def random_scores(layers=3, heads=4, prompts=20, seed=0, **parts) -> HeadScores:
    draw = np.random.default_rng(seed)
    size = draw.normal(size=(layers, heads, 1))
    parts.setdefault("normalizer", draw.normal(4, 1, size=prompts))
    return scores(size + draw.normal(size=(layers, heads, prompts)), **parts)

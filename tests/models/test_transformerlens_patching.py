"""TransformerLens' own patching functions against ``interp.measures.activation_patching`` with either backend.

TransformerLens patches the clean activation into the corrupted run (denoising) and returns the metric, averaged over
prompts; our scores are its change against the corrupted run, per prompt.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import interp
from interp.models.model import Model
from interp.models.tiny import VOCAB, tiny

N, LENGTH, LAYERS = 4, 7, 2
NETWORKS = ("gpt2", "llama")
BACKENDS = ("transformers", "transformer_lens")
COMPONENTS = {"z": "out", "q": "q", "k": "k", "v": "v", "pattern": "pattern"}


@cache
def model(name: str, backend: str) -> Model:
    return interp.load(tiny(name, num_hidden_layers=LAYERS), backend=backend)


@cache
def bridge(name: str) -> Any:
    return model(name, "transformers").bridge


def prompts() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Clean and corrupted tokens that differ in some places, an answer and a wrong answer per prompt."""
    g = torch.Generator().manual_seed(1)
    clean = torch.randint(3, VOCAB, (N, LENGTH), generator=g)
    corrupt = torch.where(torch.rand(N, LENGTH, generator=g) < 0.4, torch.randint(3, VOCAB, (N, LENGTH), generator=g), clean)
    corrupt[:, 1] = (clean[:, 1] - 2) % (VOCAB - 3) + 3
    answers = torch.stack([torch.randperm(VOCAB, generator=g)[:2] for _ in range(N)])
    return clean, corrupt, answers[:, 0], answers[:, 1]


def difference(logits: Tensor) -> Tensor:
    """Mean over prompts of the logit difference at the last position."""
    _, _, answer, wrong = prompts()
    rows = torch.arange(N)
    return (logits[rows, -1, answer] - logits[rows, -1, wrong]).mean()


def theirs(name: str, function: Callable[..., Any]) -> np.ndarray:
    """Metric of each patched run minus that of the corrupted run."""
    clean, corrupt, _, _ = prompts()
    with torch.no_grad():
        _, kept = bridge(name).run_with_cache(clean)
        patched = function(bridge(name), corrupt, kept, difference)
        return (patched - difference(bridge(name)(corrupt))).double().numpy()


def ours(name: str, backend: str, **options: Any) -> np.ndarray:
    used = model(name, backend)
    batch = interp.tasks.from_tokens(*prompts(), model=used)
    return interp.measures.activation_patching(used, batch, direction="denoising", **options).mean()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("name", NETWORKS)
def test_heads_at_all_positions(name: str, component: str, backend: str):
    from transformer_lens import patching

    expected = theirs(name, getattr(patching, f"get_act_patch_attn_head_{COMPONENTS[component]}_all_pos"))
    got = ours(name, backend, component=component)
    assert got.shape == expected.shape
    assert np.abs(expected).max() > 0.05
    np.testing.assert_allclose(got, expected, atol=2e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("component", ["z", "q", "v"])
@pytest.mark.parametrize("name", NETWORKS)
def test_heads_at_each_position(name: str, component: str, backend: str):
    from transformer_lens import patching

    function = getattr(patching, f"get_act_patch_attn_head_{COMPONENTS[component]}_by_pos")
    expected = theirs(name, function).transpose(0, 2, 1)    # layer, position, head -> layer, head, position
    got = ours(name, backend, component=component, positions="each")
    assert got.shape == expected.shape
    assert np.abs(expected).max() > 0.05
    np.testing.assert_allclose(got, expected, atol=2e-5)

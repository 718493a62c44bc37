"""The same scores from TransformerLens' bridge as from transformers, on the same weights."""

import numpy as np
import pytest
from random_batches import random_batch

import interp
from interp.models.load import load
from interp.models.tiny import tiny

MEASURED = (
    ("activation_patching", {"component": "z"}),
    ("activation_patching", {"component": "k", "positions": ("A", "B")}),
    ("ablation", {"kind": "uniform"}),
    ("attribution_patching", {"component": "q"}),
    ("attribution_patching", {"component": "k", "positions": "each"}),
    ("direct_logit_attribution", {}),
    ("head_importance", {}),
)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2", "gpt_neox", "gpt_oss"])
def test_same_scores(architecture):
    network, batch = tiny(architecture), random_batch()
    one, other = (load(network, backend=backend, verify=False) for backend in ("transformers", "transformer_lens"))
    for name, options in MEASURED:
        first, second = (getattr(interp.measures, name)(model, batch, **options) for model in (one, other))
        np.testing.assert_allclose(second.values, first.values, rtol=1e-3, atol=2e-5, err_msg=f"{name} {options}")
        assert np.nanmax(np.abs(first.values)) > 1e-2
        assert second.provenance.model["backend"] == "transformer_lens"
        assert second.provenance.model["weights_sha256"] == first.provenance.model["weights_sha256"]

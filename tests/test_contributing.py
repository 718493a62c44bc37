"""The example measure of CONTRIBUTING.md is a measure: it runs, and its value is what its formula says."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

import interp
from interp.measures.measure import MEASURES


@pytest.fixture(scope="module")
def write_norm(root: Path, tmp_path_factory):
    text = re.search(r"```python\n(.*?)```", (root / "CONTRIBUTING.md").read_text(), flags=re.S)[1]
    path = tmp_path_factory.mktemp("contributing") / "write_norm.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location("write_norm", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module.write_norm
    MEASURES._things.pop("write_norm")


def test_the_example_of_contributing_measures_what_it_says(write_norm):
    from interp.models.sites import Site
    from interp.models.tiny import tiny

    model = interp.load(tiny("llama"))
    vocabulary = range(3, 40)
    clean = [[i, i + 1, i + 2, 5] for i in vocabulary]
    corrupt = [[i, i + 2, i + 2, 5] for i in vocabulary]
    batch = interp.tasks.from_tokens(clean, corrupt, answer=[7] * len(clean), wrong=[9] * len(clean))
    scores = write_norm(model, batch)
    assert scores.provenance.measure == "write_norm"
    z = model.backend.run(batch.clean.inputs, capture=[Site("z", 1)]).captured[Site("z", 1)]
    W_O = model.backend.W_O(1)
    by_hand = [np.linalg.norm(z[:, 3, head].numpy() @ W_O[head].numpy(), axis=-1) for head in range(model.n_heads)]
    np.testing.assert_allclose(scores.values[1], by_hand, rtol=1e-4)

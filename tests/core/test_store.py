"""Results are found again by what was asked."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from samples import provenance, random_scores

from interp.core.errors import InterpError
from interp.core.store import Store


def test_found_by_request(tmp_path):
    store, made = Store(tmp_path / "results"), random_scores()
    assert store.get(made.provenance) is None
    assert store.all() == ()
    path = store.put(made)
    assert path.name.startswith("zero_ablation-")
    later = replace(made.provenance, date="tomorrow", device="cuda", versions={})
    np.testing.assert_array_equal(store.get(later).values, made.values)
    assert store.get(provenance(direction="denoising")) is None
    assert len(store.all()) == 1


def test_a_later_result_replaces_the_earlier(tmp_path):
    store = Store(tmp_path)
    store.put(random_scores(seed=1))
    store.put(random_scores(seed=2))
    np.testing.assert_array_equal(store.all()[0].values, random_scores(seed=2).values)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_under_the_wrong_name_is_not_taken_for_the_answer(tmp_path):
    store, other = Store(tmp_path), provenance(options={})
    shutil.copy(store.put(random_scores()), store.path(other))
    with pytest.raises(InterpError, match="another request"):
        store.get(other)

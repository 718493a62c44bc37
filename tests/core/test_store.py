"""Results are found again by what was asked."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from samples import provenance, random_scores

from interp.core.errors import InterpError
from interp.core.store import Store, file_name


def test_found_by_request(tmp_path):
    store, made = Store(tmp_path / "results"), random_scores()
    assert store.get(made.provenance) is None
    assert store.all() == ()
    path = store.put(made)
    assert path.name == file_name(made.provenance)
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


def test_the_name_of_a_file_says_what_is_in_it_and_differs_for_another_request(tmp_path):
    one = provenance(model={"name": "hub/gpt2"}, task={"name": "ioi", "n": 64, "seed": 3})
    name = file_name(one, "kind=zero mean/over")
    assert name == f"gpt2.ioi.n64.seed3.{one.measure}.kind=zero_mean_over.{one.key()[:8]}.parquet"
    changes = [{"metric": "prob_diff"}, {"options": {"kind": "mean"}}, {"model": {"name": "b/gpt2"}},
               {"task": {**one.task, "tokens_sha256": "0"}}, {"date": "tomorrow"}]
    others = [replace(one, **change) for change in changes]
    assert len({file_name(other) for other in others}) == 5
    assert file_name(others[-1]) == file_name(one)
    assert file_name(replace(one, task={"name": "pairs", "n": 2, "seed": None})).startswith("gpt2.pairs.n2.zero")

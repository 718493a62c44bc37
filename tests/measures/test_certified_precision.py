"""Sweeps in bfloat16 whose order and flags are those of float32, where bfloat16 alone gets them wrong."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from random_batches import random_batch, shallow

import interp
from interp.core.errors import InterpError
from interp.core.scores import HeadScores
from interp.engine.running import Running
from interp.measures import ablation, activation_patching, precision
from interp.models.load import load
from interp.models.tiny import tiny

MODELS = ("gpt2", "llama", "gpt_oss")


@pytest.fixture(scope="module")
def models():
    return {name: load(shallow(name), verify=False) for name in MODELS}


@pytest.fixture(scope="module")
def batch():
    return random_batch(n=6, lengths=(7, 9))


def order(scores, k=20):
    mean = np.nan_to_num(scores.mean(), nan=-np.inf).ravel()
    return np.argsort(-mean, kind="stable")[:k].tolist()


def same(certified, exact, k=20):
    return order(certified, k) == order(exact, k) and np.array_equal(certified.test().significant, exact.test().significant)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("positions", [None, "each"])
def test_order_and_flags_are_those_of_float32(name, positions, models, batch):
    exact = activation_patching(models[name], batch, positions=positions)
    certified = activation_patching(models[name], batch, positions=positions, precision="certified")
    assert same(certified, exact)
    np.testing.assert_array_equal(np.isnan(certified.values), np.isnan(exact.values))
    said = certified.provenance.outcome["precision"]
    assert np.nanmax(np.abs(certified.mean() - exact.mean())) <= said["bound"] + 1e-5
    assert 0 < said["sampled"] <= said["redone"] <= said["full"]
    assert certified.provenance.options["precision"] == "certified"


def test_where_bfloat16_alone_is_wrong_certified_is_right():
    """Many alike heads: bfloat16 puts them in another order; certified does not, and still keeps part of its values."""
    model = load(tiny("gpt2", n_layer=6, n_head=8, n_embd=64), verify=False)
    batch = random_batch(n=8, lengths=(8,), differ=(1, 2, 3, 4))
    exact = ablation(model, batch, kind="zero")
    rough = ablation(model, batch, kind="zero", precision="bfloat16")
    certified = ablation(model, batch, kind="zero", precision="certified")
    assert order(rough) != order(exact)
    assert np.abs(rough.values - exact.values).max() > 1e-4
    assert same(certified, exact)
    said = certified.provenance.outcome["precision"]
    assert said["redone"] < said["full"]
    assert (np.abs(certified.values - exact.values).max(2) < 1e-5).sum() >= said["redone"]


def test_on_the_organism():
    model = interp.load("organism")
    batch = interp.tasks.ioi.batch(model, n=12, seed=0)
    exact = ablation(model, batch)
    assert same(ablation(model, batch, precision="certified"), exact)


def test_the_certificate_and_the_file(models, batch, tmp_path):
    scores = activation_patching(models["gpt2"], batch, precision="certified", top=3, confidence=0.9)
    assert "Swept in bfloat16" in scores.certificate
    assert "redone in float32" in scores.certificate
    assert scores.provenance.outcome["precision"]["ranks"] == 3
    assert scores.provenance.model["dtype"] == "float32"
    assert HeadScores.load(scores.save(tmp_path / "scores.parquet")).certificate == scores.certificate
    again = activation_patching(models["gpt2"], batch, precision="certified", top=3, confidence=0.9)
    np.testing.assert_array_equal(again.values, scores.values)
    assert again.provenance.key() == scores.provenance.key()


def test_the_copy_is_rounded_checked_like_the_model_and_leaves_it_alone(models, batch):
    model = models["llama"]
    before = model.weights_sha256
    lowered = model.lowered
    assert lowered is model.lowered
    assert lowered.dtype == torch.bfloat16
    assert {p.dtype for p in lowered.weights.parameters()} == {torch.bfloat16}
    assert lowered.sites() == model.sites()
    assert lowered.weights_sha256 != before
    assert interp.models.model.hash_weights(model.weights) == before
    rough = activation_patching(model, batch, precision="bfloat16")
    np.testing.assert_array_equal(rough.values, activation_patching(lowered, batch).values)


@pytest.mark.parametrize("measure", [ablation, activation_patching])
def test_rounded_units_are_not_taken_for_exact_ones(measure, models, batch, tmp_path):
    """A folder of finished units that a certified sweep has filled, then one in float32 from the same folder; and back."""
    exact = measure(models["gpt2"], batch)
    running = Running(store=tmp_path / "one")
    first = measure(models["gpt2"], batch, precision="certified", running=running)
    np.testing.assert_array_equal(measure(models["gpt2"], batch, running=running).values, exact.values)
    running = Running(store=tmp_path / "other")
    measure(models["gpt2"], batch, running=running)
    again = measure(models["gpt2"], batch, precision="certified", running=running)
    assert again.provenance.outcome["precision"]["error_largest"] > 0
    np.testing.assert_array_equal(again.values, first.values)


def test_workers_that_are_sent_the_weights_sweep_all_in_bfloat16(models, monkeypatch):
    """Differences do not travel: what is said of such a sweep is what it is."""
    monkeypatch.setattr(precision, "rounded", lambda table: "all rounded")
    here, there = (SimpleNamespace(model=models["gpt2"], running=Running(workers=workers)) for workers in (None, 2))
    assert precision.roughly(there) == ("all rounded", "bfloat16")
    monkeypatch.setattr(precision, "replace", lambda table, model: model)
    assert precision.roughly(here) == (models["gpt2"].with_differences, precision.DIFFERENCES)


def test_what_is_refused(models, batch):
    with pytest.raises(InterpError, match="nothing finer"):
        ablation(models["llama"].lowered, batch, precision="certified")
    with pytest.raises(InterpError, match="ask for at least one"):
        activation_patching(models["gpt2"], batch, precision="certified", top=1000)
    with pytest.raises(InterpError, match="float16"):
        ablation(models["gpt2"], batch, precision="float16")

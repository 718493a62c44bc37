"""The top k without a full sweep: those of the full sweep, at a part of its cost, and honest about the rest."""

from dataclasses import fields

import numpy as np
import pytest
import torch
from random_batches import random_batch

import interp
from interp.core.errors import InterpError
from interp.core.scores import HeadScores
from interp.engine.intervention import Intervention, Resample
from interp.engine.running import Running
from interp.engine.sweep import DryRunError
from interp.measures import activation_patching, attribution_patching
from interp.measures.head_table import HeadTable, head_table
from interp.measures.screening import screened
from interp.models.load import load
from interp.models.tiny import tiny

ORGANISM = {"direction": "denoising", "positions": "each"}


@pytest.fixture(scope="module")
def gpt2():
    """Random weights, heads of unequal strength: few matter much, as in trained models."""
    network = tiny("gpt2", n_layer=4, n_head=8, n_embd=32)
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for block in network.transformer.h:
            strength = torch.from_numpy(np.exp(1.5 * rng.standard_normal(8))).float()
            block.attn.c_proj.weight.mul_(strength.repeat_interleave(4)[:, None])
    return load(network, verify=False)


@pytest.fixture(scope="module")
def batch():
    return random_batch(n=6, lengths=(9, 7), differ=(1, 3, 4, 5, 6))


@pytest.fixture(scope="module")
def swept(gpt2, batch):
    return activation_patching(gpt2, batch, positions="each")


@pytest.fixture(scope="module")
def found(gpt2, batch):
    return activation_patching(gpt2, batch, positions="each", top=5)


def ranked(scores, k):
    frame = scores.top(k, n_boot=10)
    return list(frame[["head", *scores.dims[3:]]].itertuples(index=False, name=None))


def test_the_top_by_position_is_that_of_the_full_sweep_at_a_part_of_its_cost(swept, found):
    assert ranked(found, 5) == ranked(swept, 5)
    said = found.provenance.outcome["screening"]
    known = np.isfinite(found.values)
    np.testing.assert_allclose(found.values[known], swept.values[known], atol=2e-5)
    assert said["spent"] < 0.7 * said["full"]
    assert said["spent"] <= known.sum() <= said["spent"] + said["free"]
    assert said["free"] > 0, "positions where the prompts agree are known to have no effect"
    assert (found.provenance.options["top"], found.provenance.options["confidence"]) == (5, 0.95)
    assert dict(found.baselines).keys() == {"clean", "corrupt"}
    np.testing.assert_allclose(found.normalizer, swept.normalizer, atol=1e-5)


def test_what_was_not_measured_has_no_number(swept, found):
    there = np.isfinite(found.values).any(2)
    missing = ~there & np.isfinite(swept.values).any(2)
    assert missing.sum() == found.provenance.outcome["screening"]["left"] > 0
    np.testing.assert_array_equal(np.isfinite(found.values).all(2) | ~there, np.isfinite(swept.values).all(2) | ~there)
    frame = found.top(None, n_boot=10)
    assert len(frame) == there.sum()
    largest_left = np.nanmean(swept.values, axis=2)[missing].max()
    assert largest_left <= found.provenance.outcome["screening"]["highest_left"]
    assert largest_left < frame["mean"].iloc[4]


def test_flags_count_what_was_left_out(swept, found):
    known = np.isfinite(found.values).any(2)
    full, part = swept.test(), found.test()
    np.testing.assert_allclose(part.p[known], full.p[known], atol=2e-2)
    assert (part.q[known] >= full.q[known] - 1e-2).all(), "a screening may not make anything more significant"
    assert not (part.significant & ~full.significant).any()
    assert (part.p[found.mean() == 0] == 1).all()
    assert (full.p[found.mean() == 0] == 1).all(), "what reaches no answer is zero exactly"


def test_the_certificate_says_what_was_done_and_survives_the_file(found, swept, tmp_path):
    said = found.provenance.outcome["screening"]
    for words in (f"{said['spent']:,} exact evaluations", f"{said['left']:,} candidates were left out", "95 %",
                  f"{said['sampled']} sampled at random", "(head, position) pairs"):
        assert words in found.certificate, words
    again = HeadScores.load(found.save(tmp_path / "top.parquet"))
    assert again.certificate == found.certificate
    assert swept.certificate == ""
    assert found.provenance.key() != swept.provenance.key()


def test_the_key_is_of_the_request_and_the_seed_draws_the_sample(gpt2, batch, found):
    again = activation_patching(gpt2, batch, positions="each", top=5, batch_size=4)
    assert again.provenance.key() == found.provenance.key()
    np.testing.assert_array_equal(np.isfinite(again.values), np.isfinite(found.values))
    other = activation_patching(gpt2, batch, positions="each", top=5, seed=1)
    assert ranked(other, 5) == ranked(found, 5)
    assert not np.array_equal(np.isfinite(other.values), np.isfinite(found.values))


@pytest.mark.parametrize("options", [{"component": "v", "direction": "denoising"}, {"rank": "magnitude"},
                                     {"component": "q", "positions": ("A", "B")}])
def test_for_other_components_directions_and_ranks(gpt2, batch, options):
    rank = options.get("rank", "mean")
    full = activation_patching(gpt2, batch, **{name: x for name, x in options.items() if name != "rank"})
    part = activation_patching(gpt2, batch, top=3, **options)
    means = [np.nan_to_num(np.abs(s.mean()) if rank == "magnitude" else s.mean(), nan=-np.inf).ravel() for s in (full, part)]
    np.testing.assert_array_equal(*[np.argsort(-m, kind="stable")[:3] for m in means])


def test_on_the_organism():
    model = interp.load("organism")
    batch = interp.tasks.ioi.batch(model, n=8, seed=0)
    full = activation_patching(model, batch, **ORGANISM)
    part = activation_patching(model, batch, **ORGANISM, top=5)
    assert ranked(part, 5) == ranked(full, 5)
    said = part.provenance.outcome["screening"]
    assert said["spent"] < said["full"]


class Known(HeadTable):
    """A table whose values are known already: reading costs nothing."""

    values = np.empty(0)

    def read(self, candidates, prompts):
        return self.values[np.ix_(candidates, prompts)]


def test_a_head_that_the_gradient_misses_is_found_or_covered_by_the_bound(gpt2, batch):
    """The estimate of the largest head is zero, as where the metric saturates; all others are as they are."""
    stack, runs, found, covered = gpt2.stack(), 60, 0, 0
    values = activation_patching(gpt2, batch)
    estimate = attribution_patching(gpt2, batch).values.copy()
    first = np.unravel_index(values.mean().argmax(), values.mean().shape)
    estimate[first] = 0.0
    made = head_table(gpt2, batch, lambda layer, head, at: (Intervention("z", layer, (head,), at, Resample("corrupt")),),
                      what="z", stack=stack, positions=None, on="clean", sign=1, metric=batch.metric, running=Running(),
                      title="")
    table = Known(**{field.name: getattr(made, field.name) for field in fields(made)})
    object.__setattr__(table, "values", made.table(values.values))
    for seed in range(runs):
        kept, outcome = screened(table, estimate, 5, 0.95, "mean", 24, seed)
        said = outcome["screening"]
        there = np.isfinite(kept).all(1)
        best = np.argsort(-table.values.mean(1))[:5]
        missing = int((~there[best]).sum())
        found += missing == 0
        covered += missing <= said["most_missed"]
        assert said["most_missed"] < 5
    assert found > runs / 4, "a sample of half of the heads meets it half of the time"
    assert covered >= 0.9 * runs


def test_what_is_refused(gpt2, batch):
    for options in ({"top": 0}, {"top": 33}, {"top": 3, "confidence": 1.0}):
        with pytest.raises(InterpError):
            activation_patching(gpt2, batch, **options)
    with pytest.raises(InterpError, match="change smoothly"):
        activation_patching(gpt2, batch, top=3, metric="accuracy")


def test_a_dry_run_says_what_the_full_sweep_would_cost(gpt2, batch):
    with pytest.raises(DryRunError) as told:
        activation_patching(gpt2, batch, top=3, running=Running(dry_run=True))
    assert told.value.cost.lists == 32

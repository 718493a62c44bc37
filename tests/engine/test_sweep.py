"""The loop over interventions: order, sharing of sources, several metrics, progress, interruption; and the baselines."""

import numpy as np
import pytest
import torch
from cases import CLEAN, CORRUPT, batch_of, equal_length_batch, model_of

from interp.core.errors import InterpError
from interp.engine.baselines import baselines
from interp.engine.forward import metric_values, run
from interp.engine.intervention import Intervention, Mean, Resample, Scale, Zero
from interp.engine.prompts import chunks, sides
from interp.engine.sweep import sweep
from interp.models.sites import Site
from interp.tasks.metrics import METRICS


@pytest.fixture(scope="module")
def model():
    return model_of("llama")


def heads(value, what="z", positions=None):
    return [Intervention(what, layer, head, positions, value) for layer in range(3) for head in range(2)]


@pytest.mark.parametrize("on", ["clean", "corrupt"])
@pytest.mark.parametrize("batch_size", [None, 3])
def test_equals_one_at_a_time(model, on, batch_size):
    batch = batch_of("left")
    other = "corrupt" if on == "clean" else "clean"
    lists = [*heads(Resample(other)), *heads(Mean(other, "token"), "v"), *heads(Zero(), "k", "phrase"),
             [*heads(Scale(0.5)), Intervention("pattern", 1, 3, "end", Resample(other))]]
    found = sweep(model, batch, lists, on, batch_size=batch_size)
    assert found.shape == (19, 4)
    assert found.dtype == np.float64
    for row, entry in zip(found, lists, strict=True):
        np.testing.assert_allclose(row, metric_values(model, batch, entry, on), atol=1e-5, rtol=1e-5)


def test_several_metrics(model):
    batch = batch_of()
    metrics = [METRICS["logit_diff"], METRICS["answer_logprob"], METRICS["accuracy"]]
    found = sweep(model, batch, heads(Zero()), metric=metrics)
    assert found.shape == (3, 6, 4)
    for rows, metric in zip(found, metrics, strict=True):
        np.testing.assert_allclose(rows, sweep(model, batch, heads(Zero()), metric=metric), atol=1e-5)


def test_sources_are_captured_once(model):
    """However many interventions there are, the runs that they take from are the same few."""
    passes = []

    class Counted:
        def __getattr__(self, name):
            return getattr(model, name)

        def run(self, *args, **options):
            passes.append(1)
            return model.run(*args, **options)

    sweep(Counted(), batch_of(), heads(Resample("corrupt"))[:1], batch_size=2)
    few = len(passes)
    sweep(Counted(), batch_of(), heads(Resample("corrupt")), batch_size=2)
    assert len(passes) == 2 * few


def test_small_memory(model, monkeypatch):
    """Where the budget holds fewer prompts they are run in parts; what is captured counts."""
    batch, items = equal_length_batch(n=12), heads(Resample("corrupt"), "pattern")
    want = sweep(model, batch, items)
    prompts = sides(model, batch)["clean"]
    assert [len(rows) for rows in chunks(model, prompts, None)] == [12]
    monkeypatch.setattr("interp.engine.prompts.MEMORY_BUDGET", 200_000)
    few = max(len(rows) for rows in chunks(model, prompts, None))
    fewer = max(len(rows) for rows in chunks(model, prompts, None, held=[Site("pattern", layer) for layer in range(3)] * 4))
    assert 1 <= fewer < few < 12
    np.testing.assert_allclose(sweep(model, batch, items), want, atol=1e-5, rtol=1e-5)


def test_progress_goes_to_stderr_and_only_when_wanted(model, capsys):
    sweep(model, batch_of(), heads(Zero()), progress=False)
    sweep(model, batch_of(), heads(Zero()))
    assert capsys.readouterr() == ("", "")
    sweep(model, batch_of(), heads(Zero()), progress=True, title="zero ablation")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "zero ablation" in shown.err


def test_interruption_leaves_nothing_behind(model):
    batch = batch_of()
    before = metric_values(model, batch)
    count = iter(range(100))

    def metric(logits, asked):
        if next(count) == 1:
            raise KeyboardInterrupt
        return batch.metric(logits, asked)

    with pytest.raises(KeyboardInterrupt):
        sweep(model, batch, heads(Zero()), metric=metric)
    assert torch.is_grad_enabled()
    np.testing.assert_array_equal(metric_values(model, batch), before)


def test_empty(model):
    with pytest.raises(InterpError, match="no interventions were given"):
        sweep(model, batch_of(), [])


def test_the_untouched_run_may_be_part_of_a_sweep(model):
    found = sweep(model, batch_of(), [[], heads(Zero())[0]])
    np.testing.assert_allclose(found[0], metric_values(model, batch_of()), atol=1e-5)


def test_baselines(model):
    """Against each prompt on its own: logits, arg-max over the whole vocabulary, answer against wrong answer."""
    batch = batch_of("left")
    found = baselines(model, batch, batch_size=3)
    for i in range(4):
        for prompts, metric, correct, beats in ((CLEAN, found.clean, found.correct, found.beats_wrong),
                                                (CORRUPT, found.corrupt, found.corrupt_correct, found.corrupt_beats_wrong)):
            logits = run(model, {"input_ids": torch.tensor([prompts[i]])}).logits[0]
            assert metric[i] == pytest.approx(float(logits[21 + i] - logits[31 + i]), abs=1e-5)
            assert correct[i] == (int(logits.argmax()) == 21 + i)
            assert beats[i] == (logits[21 + i] > logits[31 + i])
    assert found.accuracy == found.correct.mean()


def test_accuracy_of_a_model_that_answers_right(model):
    """Answers set to what the model says: all right; to what it says second: all wrong."""
    logits = run(model, equal_length_batch()).logits
    from interp.tasks.own import from_tokens

    best = logits.topk(2, dim=1).indices
    batch = equal_length_batch()
    for order, accuracy in ((best, 1.0), (best.flip(1), 0.0)):
        asked = from_tokens(batch.clean.ids, batch.corrupt.ids, order[:, 0], order[:, 1])
        assert baselines(model, asked).accuracy == accuracy
        assert baselines(model, asked).beats_wrong.mean() == accuracy

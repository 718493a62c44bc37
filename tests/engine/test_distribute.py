"""Sweeps on Ray actors: the numbers of the single process bit for bit, whatever dies on the way."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cases import batch_of, model_of

from interp.core.errors import InterpError
from interp.engine.distribute import crew
from interp.engine.intervention import Intervention, Mean, Resample, Zero
from interp.engine.plan import plan_sweep
from interp.engine.ray_crew import RayWorkers, workers_of
from interp.engine.units import UNIT_FLOPS
from interp.tasks.metrics import Metric

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'interp[ray]'")
pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def cluster():
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=2**27)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def model():
    return model_of("llama")


@pytest.fixture(scope="module")
def workers(cluster, model):
    """Two actors that hold the model."""
    with crew(model, 2) as opened:
        yield opened


@pytest.fixture(autouse=True)
def small_units(monkeypatch):
    """Units of a few lists each, as a large model has them."""
    monkeypatch.setitem(UNIT_FLOPS, "cpu", 5e5)


def plan_of(model, metric=None):
    single = [Intervention("z", layer, head, None, Resample("corrupt")) for layer in range(3) for head in range(4)]
    other = [Intervention("v", 1, 0, "S", Zero()), [single[0], single[5]],
             Intervention("q", 0, 2, "end", Mean(batch_of(rows=[0, 1])))]
    return plan_sweep(model, batch_of(), [*single, *other], metric=metric, batch_size=2)


def metric_that_kills(folder: Path, calls: set[int]) -> Metric:
    """The batch's own metric; the process that makes one of these ``calls``, counted over all processes, dies at once."""

    def metric(logits, batch):
        import itertools
        import os

        for n in itertools.count():
            try:
                os.close(os.open(folder / str(n), os.O_CREAT | os.O_EXCL))
                break
            except FileExistsError:
                continue
        if n in calls:
            os._exit(1)
        return batch.metric(logits, batch)

    return Metric("logit_diff", "", "", metric)


def test_the_numbers_are_those_of_one_process_bit_for_bit(model, workers):
    want = plan_of(model).run()
    found = plan_of(model).run(workers=workers)
    assert found.units > 5
    np.testing.assert_array_equal(found.values, want.values)
    np.testing.assert_array_equal(found.acted, want.acted)


def test_a_worker_that_is_killed_loses_nothing(model, workers, tmp_path):
    """One actor dies in its third list; a second one later; what they had is computed by others."""
    want = plan_of(model).run()
    found = plan_of(model, metric_that_kills(tmp_path, {5})).run(workers=workers)
    np.testing.assert_array_equal(found.values, want.values)
    np.testing.assert_array_equal(found.acted, want.acted)
    assert len(list(tmp_path.iterdir())) > found.values.size / 2      # the lists of the lost unit were counted twice


def test_what_a_unit_raises_is_raised_here_and_the_workers_live(model, workers):
    def refusing(logits, batch):
        from interp.core.errors import InterpError

        raise InterpError("measure", "of no reason", "do not")

    before = len(workers.free)
    with pytest.raises(InterpError, match=r"^Cannot measure: of no reason; do not\.$"):
        plan_of(model, refusing).run(workers=workers)
    assert workers.free
    assert len(workers.free) <= before


def test_finished_units_are_kept_and_taken(model, workers, tmp_path):
    plan = plan_of(model)
    results = plan.run(tmp_path, workers)
    again = plan_of(model).run(tmp_path, RayWorkers(address="nowhere"))      # nothing is left to do: nobody is called
    assert (results.taken, again.taken) == (0, len(plan.units))
    np.testing.assert_array_equal(again.values, results.values)


def test_workers_of_another_model_are_refused(workers):
    with pytest.raises(InterpError, match="another model"):
        plan_of(model_of("llama", seed=1)).run(workers=workers)


def test_a_unit_that_kills_every_worker_is_given_up(model, workers, tmp_path):
    plan, once = plan_of(model, metric_that_kills(tmp_path, set(range(10, 1000)))), replace(workers.workers, retries=0)
    with pytest.raises(InterpError, match=r"Cannot run a unit of .* on Ray actors: it died of it"):
        plan.run(workers=replace(workers, workers=once))


def test_what_workers_may_be():
    assert workers_of(3) == RayWorkers(n=3)
    for wrong in ("two", 2.5, True):
        with pytest.raises(InterpError, match="neither 'local', a number nor RayWorkers"):
            workers_of(wrong)
    with pytest.raises(InterpError, match="no actor at all"):
        RayWorkers(n=0)


def test_without_ray_one_sentence_says_how_to_install_it(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InterpError, match=r"Ray is not installed; install it: pip install 'interp\[ray\]'"):
        plan_of(model).run(workers=2)


def test_ray_is_imported_only_when_asked_for():
    code = "import sys, interp.engine, interp.engine.distribute; print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

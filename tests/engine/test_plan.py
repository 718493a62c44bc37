"""A sweep as a plan: its cost, its results, what is kept when it stops, and what is taken from what was kept."""

import errno
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import batch_of, equal_length_batch, model_of

from interp.core.circuit import Circuit, Node
from interp.core.errors import InterpError
from interp.engine.circuit_mask import circuit_mask
from interp.engine.edge_lists import edge_interventions
from interp.engine.edge_patching import edge_patching
from interp.engine.forward import metric_values
from interp.engine.intervention import Intervention, Mean, Replace, Resample, Scale, Zero
from interp.engine.passes import open_passes
from interp.engine.plan import duration, plan_sweep, read_some
from interp.engine.running import Running, running_of
from interp.engine.sweep import DryRunError, sweep, sweep_record
from interp.engine.unit_store import remove
from interp.engine.units import UNIT_FLOPS
from interp.tasks.metrics import METRICS, Metric


@pytest.fixture(scope="module")
def model():
    return model_of("llama")


@pytest.fixture(autouse=True)
def small_units(monkeypatch):
    """Units of a few lists each, as a large model has them."""
    monkeypatch.setitem(UNIT_FLOPS, "cpu", 5e5)


def lists_of(value=None):
    value = value or Resample("corrupt")
    single = [Intervention("z", layer, head, None, value) for layer in range(3) for head in range(4)]
    return [*single, Intervention("v", 1, 0, "S", Zero()), [single[0], Intervention("pattern", 2, 1, "end", Scale(0.5))],
            Intervention("q", 0, 2, "end", Mean("corrupt"))]


def plan_of(model, **options):
    return plan_sweep(model, batch_of(), lists_of(), **({"batch_size": 2} | options))


@pytest.mark.parametrize("resume", [True, False])
def test_an_open_plan_is_read_in_parts(model, resume):
    """Any lists on any prompts, in any order, again and again: the values of the whole."""
    plan = plan_of(model)
    passes = open_passes(model, plan.batch, plan.lists, metrics=plan.metrics, batch_size=2, resume=resume)
    plan, values = replace(plan, passes=passes), plan.run().values
    for lists, prompts in (([7, 0, 13], [3, 1]), ([2], [0]), ([14, 2], [2, 0, 3])):
        np.testing.assert_allclose(read_some(plan, np.array(lists), np.array(prompts)), values[np.ix_(lists, prompts)],
                                   atol=1e-5)


class StopError(Exception):
    """What stops a run on the way."""


def stop_after(monkeypatch, n, error=StopError):
    """Let the unit after the first ``n`` fail."""
    from interp.engine.passes import Passes

    left, run = iter(range(n)), Passes.run

    def stopping(self, unit):
        if next(left, None) is None:
            raise error
        return run(self, unit)

    monkeypatch.setattr(Passes, "run", stopping)


def counted(monkeypatch):
    """The units that are run from now on."""
    from interp.engine.passes import Passes

    ran, run = [], Passes.run

    def counting(self, unit):
        ran.append(unit)
        return run(self, unit)

    monkeypatch.setattr(Passes, "run", counting)
    return ran


def units_of(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


# ---- the plan and its cost

def test_units_hold_every_list_on_every_prompt_once(model):
    plan = plan_of(model)
    pairs = [(i, row) for unit in plan.units for i in unit.lists for row in unit.rows]
    assert len(plan.units) > 5
    assert sorted(pairs) == [(i, row) for i in range(15) for row in range(4)]


def test_results_are_those_of_one_at_a_time_in_the_order_of_the_lists(model):
    found = plan_of(model).run()
    assert found.values.shape == found.acted.shape == (15, 4)
    for row, entry in zip(found.values, lists_of(), strict=True):
        np.testing.assert_allclose(row, metric_values(model, batch_of(), entry), atol=1e-5, rtol=1e-5)


def test_whatever_is_asked_for_comes_back_in_its_order(model):
    """Heads, head sets, positions, q, k, v, z, pattern, an edge, a circuit in one list, against each by itself."""
    batch, edge = equal_length_batch(), "L0H1->L2KV1.k"
    resample = Resample("corrupt")
    mixed = [Intervention("z", 2, 1, None, resample), Intervention("z", 0, (0, 3), "S", resample),
             *(Intervention(what, 1, 1, "end", resample) for what in ("q", "k", "v", "z", "pattern")),
             *edge_interventions(model, batch, [edge, "L1H0->logits.out"]),
             circuit_mask(Circuit((Node.parse("L1H2"), Node.parse("L0H3"))), model, resample), ()]
    order = np.random.default_rng(0).permutation(len(mixed))
    found = sweep(model, batch, [mixed[i] for i in order])
    clean = metric_values(model, batch)
    for row, i in zip(found, order, strict=True):
        want = metric_values(model, batch, mixed[i]) if mixed[i] else clean
        np.testing.assert_allclose(row, want, atol=1e-5, rtol=1e-5)
    exact = edge_patching(model, batch, [edge])
    by_edges = exact.values[exact.edges.index(edge)]
    np.testing.assert_allclose(clean - found[order.argsort()[7]], by_edges, atol=1e-5)
    assert np.abs(by_edges).max() > 1e-4


def test_cost_without_time_runs_nothing(model, monkeypatch):
    plan = plan_of(model)
    ran = counted(monkeypatch)
    cost = plan.cost(time=False)
    assert ran == []
    assert (cost.lists, cost.prompts, cost.units, cost.seconds) == (15, 4, len(plan.units), None)
    assert cost.flops == sum(unit.flops for unit in plan.units) > 0
    assert cost.tokens == sum(unit.tokens for unit in plan.units) / 3 <= 15 * 4 * 9
    assert str(cost).startswith(f"15 lists of interventions on 4 prompts: {cost.units} units of work, ")
    assert "on this machine" not in str(cost)


def test_the_estimate_is_made_of_measured_units(model, monkeypatch):
    """Units that take a known time: the estimate is their arithmetic over the measured rate."""
    clock = [0.0]
    plan = plan_of(model)
    monkeypatch.setattr("interp.engine.plan.time.perf_counter", lambda: clock[0])

    def run(self, unit):
        clock[0] += unit.flops * 1e-6

    monkeypatch.setattr("interp.engine.passes.Passes.run", run)
    cost = plan.cost()
    assert cost.seconds == pytest.approx(cost.flops * 1e-6)
    assert f"about {duration(cost.seconds)} on this machine (an estimate" in str(cost)


def test_durations():
    assert [duration(s) for s in (0.034, 4.56, 45.2, 99, 100, 5000, 6000, 90000)] == [
        "0.034 s", "4.6 s", "45 s", "99 s", "2 min", "83 min", "1.7 h", "25.0 h"]


def test_a_dry_run_runs_no_sweep_and_has_the_cost(model):
    with pytest.raises(DryRunError) as refused:
        sweep(model, batch_of(), lists_of(), running=Running(dry_run=True))
    assert refused.value.cost.lists == 15


def test_running_and_the_older_options_may_not_contradict():
    assert running_of(None, 4, False) == Running(4, False)
    assert running_of(Running(memory=9), 4) == Running(4, memory=9)
    with pytest.raises(InterpError, match="batch_size=4 and Running\\(batch_size=3\\)"):
        running_of(Running(3), 4)


# ---- the store

def test_what_was_finished_is_taken_and_the_rest_is_computed(model, tmp_path, monkeypatch):
    want = plan_of(model).run()
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(StopError):
            plan_of(model).run(tmp_path)
    assert len(units_of(tmp_path)) == 3
    ran, said = counted(monkeypatch), []
    plan = plan_of(model)
    found = plan.run(tmp_path, say=said.append, title="heads")
    assert (found.taken, found.units, len(ran)) == (3, len(plan.units), len(plan.units) - 3)
    assert said == [f"heads: took 3 of {len(plan.units)} units from an interrupted run"]
    np.testing.assert_array_equal(found.values, want.values)
    np.testing.assert_array_equal(found.acted, want.acted)
    again = plan_of(model).run(tmp_path)
    assert (again.taken, len(ran)) == (len(plan.units), len(plan.units) - 3)
    np.testing.assert_array_equal(again.values, want.values)


def test_several_metrics_are_kept_together(model, tmp_path, monkeypatch):
    metrics = [METRICS["logit_diff"], METRICS["answer_logprob"]]
    want = plan_of(model, metric=metrics).run(tmp_path)
    assert want.values.shape == (2, 15, 4)
    ran = counted(monkeypatch)
    np.testing.assert_array_equal(plan_of(model, metric=metrics).run(tmp_path).values, want.values)
    assert ran == []
    plan_of(model, metric=metrics[::-1]).run(tmp_path)
    assert ran


def test_another_cut_into_units_takes_what_it_can(model, tmp_path, monkeypatch):
    want = plan_of(model, batch_size=1).run(tmp_path)
    assert want.taken == 0
    ran = counted(monkeypatch)
    found = plan_of(model, batch_size=4).run(tmp_path)
    assert ran == []
    np.testing.assert_array_equal(found.values, want.values)


def test_ctrl_c_keeps_what_is_done_and_says_where(model, tmp_path, monkeypatch):
    said = []
    stop_after(monkeypatch, 2, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        plan_of(model).run(tmp_path, say=said.append)
    assert len(units_of(tmp_path)) == 2
    assert "interrupted; 2 of" in said[0]
    assert str(tmp_path) in said[0]
    assert torch.is_grad_enabled()


def damage_end(path):
    path.write_bytes(path.read_bytes()[:-9])


def damage_number(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 0x40      # a bit of the last number
    path.write_bytes(bytes(content))


def damage_all(path):
    path.write_bytes(b"")


def damage_head(path):
    path.write_bytes(b"\xff" * 64)


@pytest.mark.parametrize("damage", [damage_end, damage_number, damage_all, damage_head])
def test_a_damaged_unit_is_computed_again_and_named(model, tmp_path, monkeypatch, damage):
    want = plan_of(model).run(tmp_path)
    chosen = units_of(tmp_path)[2]
    damage(chosen)
    ran, said = counted(monkeypatch), []
    found = plan_of(model).run(tmp_path, say=said.append)
    assert len(ran) == 1
    assert said[0] == f"a stored unit is not used and computed again: {chosen}: it is damaged"
    np.testing.assert_array_equal(found.values, want.values)
    assert plan_of(model).run(tmp_path, say=said.append).taken == found.units
    assert len(ran) == 1


def test_a_damaged_unit_is_warned_of_where_nobody_listens(model, tmp_path):
    plan_of(model).run(tmp_path)
    damage_end(units_of(tmp_path)[0])
    with pytest.warns(UserWarning, match="it is damaged"):
        plan_of(model).run(tmp_path)


def test_a_unit_of_another_plan_is_never_used(model, tmp_path, monkeypatch):
    """Its file lies where this plan's would, even so."""
    plan, other = plan_of(model), plan_sweep(model, batch_of(), lists_of(Zero()), batch_size=2)
    other.run(tmp_path)
    (folder,) = tmp_path.iterdir()
    folder.rename(tmp_path / plan.key()[:20])
    ran, said = counted(monkeypatch), []
    found = plan.run(tmp_path, say=said.append)
    assert len(ran) == len(plan.units)
    assert len(said) == len(other.units)
    assert said[0].endswith("it belongs to another sweep")
    np.testing.assert_array_equal(found.values, plan_of(model).run().values)


def test_a_full_disk_leaves_nothing_half_written(model, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("interp.core.files.os.replace", full)
        with pytest.raises(InterpError, match="no space left on device"):
            plan_of(model).run(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert plan_of(model).run(tmp_path).taken == 0


def test_removing_leaves_what_no_sweep_wrote(model, tmp_path):
    store = tmp_path / "store"
    plan_of(model).run(store)
    (folder,) = store.iterdir()
    (folder / ("." + "0" * 20 + ".safetensors." + "0" * 16)).write_text("of a killed process")
    (folder / "notes.txt").write_text("mine")
    (store / "mine").mkdir()
    remove(store)
    assert sorted(path.name for path in store.rglob("*")) == sorted([folder.name, "mine", "notes.txt"])
    (folder / "notes.txt").unlink()
    (store / "mine").rmdir()
    remove(store)
    assert not store.exists()


# ---- the key

def test_the_key_is_of_content(model):
    assert plan_of(model).key() == plan_of(model_of("llama"), batch_size=3).key()


BATCHES = {
    "answers": lambda: replace(batch_of(), answers=batch_of().answers + 1),
    "tokens": lambda: batch_of(rows=[1, 0, 2, 3]),
    "spans": lambda: replace(batch_of(), spans={**batch_of().spans, "S": batch_of().spans["S"] + 1}),
    "metric": lambda: batch_of().with_metric("answer_logprob"),
}


@pytest.mark.parametrize("what", BATCHES)
def test_another_batch_is_another_key(model, what):
    plan = plan_of(model)
    assert plan_sweep(model, BATCHES[what](), lists_of(), batch_size=2).key() != plan.key()


def replaced(number):
    return [Intervention("z", 0, 0, None, Replace(torch.full((8,), number)))]


@pytest.mark.parametrize(("one", "other"), [
    (lists_of(), lists_of()[::-1]),
    (lists_of(), lists_of()[:-1]),
    ([lists_of()[0], lists_of()[1]], [[lists_of()[0], lists_of()[1]]]),
    (replaced(0.25), replaced(0.5)),
    ([Intervention("z", 0, 0, None, Scale(0.1 + 0.2))], [Intervention("z", 0, 0, None, Scale(0.3))]),
    ([Intervention("z", 0, 0, None, Resample("clean", 1))], [Intervention("z", 0, 0, None, Resample("clean", 2))]),
    ([Intervention("z", 0, 0, None, Mean(batch_of()))], [Intervention("z", 0, 0, None, Mean(batch_of(rows=[0, 1])))]),
    ([Intervention("z", 0, 0, None, Mean(batch_of()))], [Intervention("z", 0, 0, None, Mean(batch_of(), on="corrupt"))]),
    ([Intervention("z", 0, 0, None, Mean(batch_of().clean))], [Intervention("z", 0, 0, None, Mean(batch_of().corrupt))]),
    ([Intervention("z", 0, 0, "S", Zero())], [Intervention("z", 0, 0, "end", Zero())]),
])
def test_other_interventions_are_another_key(model, one, other):
    def key(lists):
        return plan_sweep(model, equal_or(lists), lists).key()

    def equal_or(lists):
        return equal_length_batch() if any(_shuffled(item) for item in lists) else batch_of()

    assert key(one) != key(other)
    assert key(one) == key(list(one))


def _shuffled(entry):
    return isinstance(entry, Intervention) and isinstance(entry.value, Resample) and entry.value.shuffle is not None


def test_other_weights_and_another_side_are_another_key(model):
    key = plan_of(model).key()
    assert plan_of(model, on="corrupt", metric=None).key() != key
    assert plan_of(model_of("llama", seed=1)).key() != key
    edited = model_of("llama")
    assert plan_of(edited).key() == key
    with torch.no_grad():
        edited.weights.model.layers[1].self_attn.o_proj.weight[0, 0] += 1e-3      # in place, after its hash was taken
    assert plan_of(edited).key() != key


def test_a_metric_of_ones_own_cannot_be_told_from_another(model, tmp_path):
    mine = Metric("mine", "", "", lambda logits, batch: logits[:, 0])
    with pytest.raises(InterpError, match=r"'mine'.*METRICS\.add"):
        plan_of(model, metric=mine).run(tmp_path)
    assert plan_of(model, metric=mine).run().values.shape == (15, 4)
    assert list(tmp_path.iterdir()) == []


def test_a_plain_function_is_a_metric(model):
    found = plan_of(model, metric=lambda logits, batch: logits[:, 7]).run()
    assert found.values.shape == (15, 4)


def test_sweep_takes_the_store(model, tmp_path):
    one = sweep_record(model, batch_of(), lists_of(), batch_size=2, running=Running(store=tmp_path))
    other = sweep_record(model, batch_of(), lists_of(), running=Running(batch_size=2, store=tmp_path))
    assert (one.taken, other.taken) == (0, other.units)
    np.testing.assert_array_equal(one.values, other.values)

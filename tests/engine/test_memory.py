"""Memory: what a pass takes is measured and held under the budget; where it does not suffice, half is tried."""

from itertools import chain, pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cases import batch_of, equal_length_batch, model_of

from interp.engine import resumed, whole
from interp.engine.intervention import Intervention, Resample
from interp.engine.memory import DEFAULT, SCRATCH, Halving, Line, budget, is_out_of_memory, measured
from interp.engine.passes import open_passes
from interp.engine.units import buckets
from interp.tasks.own import from_tokens

CPU = torch.device("cpu")
LISTS = [[Intervention(what, layer, head, None, Resample("corrupt"))] for what in ("z", "pattern") for layer in range(3)
         for head in range(4)]
ALLOCATOR = RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you "
                         "tried to allocate 4096 bytes. Error code 12 (Cannot allocate memory)")


@pytest.fixture(scope="module")
def model():
    return model_of("llama")


def values_of(passes):
    values = np.full((len(passes.lists), passes.batch.n), np.nan)
    for unit in passes.units:
        values[np.ix_(unit.lists, unit.rows)] = passes.run(unit)[0][0]
    return values


# ---- measuring

def test_what_lives_at_once_is_counted():
    """By hand: float32 tensors of 1000 bytes; views and what was there before are nothing new."""
    before = torch.zeros(250)
    with measured(CPU) as peak:
        a = before + 1
        b = a.view(10, 25).T
        c = a * 2
        del a, b
        d = c + 1
        before.add_(1)
    assert (peak.most, peak.left) == (2000, 2000)
    del c
    assert d.numel() == 250


def test_on_cuda_its_allocator_is_asked(monkeypatch):
    """A device that is not there: what is allocated goes from 100 by way of 900 to 250."""
    asked = []
    fake = {"reset_peak_memory_stats": asked.append, "memory_allocated": lambda device: 100 if len(asked) < 2 else 250,
            "max_memory_allocated": lambda device: 900,
            "get_device_properties": lambda device: SimpleNamespace(total_memory=80_000)}
    for name, function in fake.items():
        monkeypatch.setattr(torch.cuda, name, function)
    device = torch.device("cuda", 0)
    with measured(device) as peak:
        asked.append("work")
    assert asked == [device, "work"]
    assert (peak.most, peak.left) == (800, 150)
    assert budget(None, device) == 40_000
    assert budget(7, device) == 7
    assert budget(None, CPU) == DEFAULT
    assert budget(2**27, CPU) == 2**27 - SCRATCH      # operations' own space is not measured
    assert budget(8, CPU) == 4


def test_a_line_says_how_many_fit():
    line = Line.through(1, 150, 3, 350)
    assert (line.fixed, line.each) == (50, 100)
    assert line.fit(1.1 * 1050) == 10
    assert line.fit(0) == 1
    assert Line.through(1, 400, 4, 400) == Line(300, 100)        # less than nothing per row cannot be


# ---- the budget

def test_passes_stay_within_the_budget(model):
    batch = equal_length_batch(n=8)
    want, sizes = values_of(open_passes(model, batch, LISTS)), []
    for memory in (10**6, 4 * 10**5, 2 * 10**5):
        passes = open_passes(model, batch, LISTS, memory=memory)
        rows = []
        for unit in passes.units:
            (part,) = [part for part in passes.resumed.parts if int(part.rows[0]) == unit.rows[0]]
            passes.resumed._ground([int(p.rows[0]) for p in passes.resumed.parts].index(unit.rows[0]))
            with measured(CPU) as peak:
                passes.run(unit)
            assert part.held + peak.most <= memory
            rows.append(len(part.rows))
        sizes.append(max(rows))
        np.testing.assert_allclose(values_of(passes), want, atol=1e-5, rtol=1e-5)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 8


def test_whole_passes_stay_within_it_too(model):
    batch = equal_length_batch(n=8)
    want = values_of(open_passes(model, batch, LISTS))
    most = []
    for memory in (10**8, 5 * 10**5, 2 * 10**5):
        passes = open_passes(model, batch, LISTS, memory=memory, resume=False)
        with measured(CPU) as peak:
            found = values_of(passes)
        np.testing.assert_allclose(found, want, atol=1e-5, rtol=1e-5)
        assert peak.most <= memory
        most.append(passes.way.most)
    assert most == sorted(most, reverse=True)
    assert len(set(most)) == 3


# ---- where it does not suffice

def failing(monkeypatch, module, name, error, times=None, above=None):
    """Let calls fail: the first ``times`` of them, or those of more rows than ``above``."""
    work, sizes = getattr(module, name), []

    def refused(*args, **options):
        size = next(len(x.lists) if hasattr(x, "lists") else len(x) for x in args if hasattr(x, "layer")) if above else 0
        if (times is not None and len(sizes) < times) or (above and size > above):
            sizes.append(-size)
            raise error
        sizes.append(size)
        return work(*args, **options)

    monkeypatch.setattr(module, name, refused)
    return sizes


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), ALLOCATOR,
                                   MemoryError()], ids=["accelerator", "processor", "python"])
def test_out_of_memory_halves_the_rows_and_goes_on(model, monkeypatch, error):
    batch = equal_length_batch()
    want, passes = values_of(open_passes(model, batch, LISTS)), open_passes(model, batch, LISTS)
    sizes = failing(monkeypatch, resumed, "cascade", error, above=7)
    np.testing.assert_allclose(values_of(passes), want, atol=1e-5, rtol=1e-5)
    refused = [-size for size in sizes if size < 0]
    assert refused
    assert max(sizes) <= 7
    assert all(later <= (earlier + 1) // 2 for earlier, later in pairwise(refused))
    assert len(refused) < 6        # what proved too many is not tried again


@pytest.mark.parametrize("resume", [True, False])
def test_one_failure_on_the_way_loses_nothing(model, monkeypatch, resume):
    batch = equal_length_batch()
    want, passes = values_of(open_passes(model, batch, LISTS)), open_passes(model, batch, LISTS, resume=resume)
    sizes = failing(monkeypatch, resumed if resume else whole, "cascade" if resume else "answer_logits", ALLOCATOR, times=1)
    np.testing.assert_allclose(values_of(passes), want, atol=1e-5, rtol=1e-5)
    assert len(sizes) > 2


def test_so_does_laying_the_ground(model, monkeypatch):
    batch = equal_length_batch()
    want = values_of(open_passes(model, batch, LISTS))
    lay = resumed.lay

    def refused(model, prepared, rows, *others):
        if len(rows) > 2:
            raise ALLOCATOR
        return lay(model, prepared, rows, *others)

    monkeypatch.setattr(resumed, "lay", refused)
    passes = open_passes(model, batch, LISTS)
    assert [len(part.rows) for part in passes.resumed.parts] == [2, 2]
    np.testing.assert_allclose(values_of(passes), want, atol=1e-5, rtol=1e-5)


def test_other_errors_and_a_single_row_are_not_tried_again(model, monkeypatch):
    batch, other = equal_length_batch(), RuntimeError("shapes cannot be multiplied")
    assert not is_out_of_memory(other)
    passes = open_passes(model, batch, LISTS)
    sizes = failing(monkeypatch, resumed, "cascade", other, times=1)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        values_of(passes)
    assert len(sizes) == 1

    def never(entries):
        raise ALLOCATOR

    with pytest.raises(RuntimeError, match="can't allocate"):
        Halving().run(np.arange(4), never)


def test_halves():
    done, halving = [], Halving()

    def work(some):
        if len(some) > 3:
            raise MemoryError
        done.append(list(some))

    halving.run(list(range(10)), work)
    assert ([*chain(*done)], halving.most) == (list(range(10)), 3)
    assert [len(some) for some in done] == [3, 3, 3, 1]


# ---- prompts of unequal length

def test_buckets():
    lengths = torch.tensor([9, 20, 8, 21, 9, 40, 8])
    order = lengths.argsort(stable=True)
    assert [rows.tolist() for rows in buckets(order, lengths, 64)] == [[2, 6, 0, 4], [1, 3], [5]]
    assert [rows.tolist() for rows in buckets(order, lengths, 3)] == [[2, 6, 0], [4], [1, 3], [5]]


def test_short_prompts_are_not_padded_to_the_longest(model):
    """Four prompts of 7 to 9 tokens and two of 30: in parts of their own, at their own length; the numbers are those of each
    alone."""
    long = [[5, *range(10 + i, 39 + i)] for i in range(2)]
    short = batch_of()
    ids = [row[mask].tolist() for row, mask in zip(short.clean.ids, short.clean.mask.bool(), strict=True)]
    other = [row[mask].tolist() for row, mask in zip(short.corrupt.ids, short.corrupt.mask.bool(), strict=True)]
    for side in ("right", "left"):
        corrupt = [[5, 3, *row[2:]] for row in long]
        batch = from_tokens([long[0], *ids, long[1]], [corrupt[0], *other, corrupt[1]],
                            [21, 22, 23, 24, 25, 26], [31, 32, 33, 34, 35, 36], padding_side=side)
        passes = open_passes(model, batch, LISTS[:12])
        assert [(sorted(part.rows.tolist()), part.length) for part in passes.resumed.parts] == [
            ([1, 4], 7), ([2, 3], 9), ([0, 5], 30)]
        alone = [values_of(open_passes(model, batch.subset([i]), LISTS[:12], resume=False))[:, 0] for i in range(6)]
        np.testing.assert_allclose(values_of(passes), np.stack(alone, 1), atol=1e-5, rtol=1e-5)

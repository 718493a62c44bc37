"""Which entries an intervention touches: heads, key-value heads, positions, keys, partners; and what is refused."""

import pytest
import torch
from cases import batch_of, equal_length_batch, model_of

from interp.core.errors import InterpError
from interp.engine.activations import activations, mean_activations
from interp.engine.forward import metric_values, run
from interp.engine.intervention import (
    Add,
    AttendToFirst,
    Intervention,
    Mean,
    Replace,
    Resample,
    RowEdit,
    Scale,
    Uniform,
    Zero,
)
from interp.models.sites import Site
from interp.tasks.own import from_tokens


@pytest.fixture(scope="module")
def model():
    return model_of("llama")


def changed(model, batch, item, on="clean"):
    """Which entries of its site an intervention changes, and the tensors before and after."""
    before = activations(model, batch, [item.site], on)[item.site]
    after = activations(model, batch, [item.site], on, interventions=item)[item.site]
    return before != after, before, after


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(("positions", "tokens"), [
    (None, [range(7), range(9), range(9), range(7)]),
    ("end", [[6], [8], [8], [6]]),
    ("S", [[2], [3], [2], [3]]),
    ("phrase", [[3, 4], [4, 5, 6], [3, 4, 5], [1, 2]]),
    (0, [[0], [0], [0], [0]]),
    (-2, [[5], [7], [7], [5]]),
    (8, [[], [8], [8], []]),
    (-9, [[], [0], [0], []]),
    (("S", "end", 0), [[0, 2, 6], [0, 3, 8], [0, 2, 8], [0, 3, 6]]),
])
def test_positions(model, side, positions, tokens):
    batch = batch_of(side)
    where, _, _ = changed(model, batch, Intervention("z", 1, (1, 3), positions, Add(1.0)))
    want = torch.zeros_like(where)
    for i, chosen in enumerate(tokens):
        for t in chosen:
            want[i, int(batch.clean.start[i]) + t, [1, 3]] = True
    assert where.equal(want)


@pytest.mark.parametrize("side", ["right", "left"])
def test_keys(model, side):
    batch = batch_of(side)
    start = batch.clean.start.tolist()
    where, _, after = changed(model, batch, Intervention("pattern", 1, 2, "end", Zero(), keys=("S", 0)))
    want = torch.zeros_like(where)
    for i, (s, last) in enumerate([(2, 6), (3, 8), (2, 8), (3, 6)]):
        want[i, 2, start[i] + last, [start[i], start[i] + s]] = True
    assert where.equal(want)
    assert (after[want] == 0).all()


@pytest.mark.parametrize("what", ["scores", "pattern"])
@pytest.mark.parametrize("value", [Add(0.25), Replace(0.25), Uniform(), AttendToFirst()], ids=lambda v: type(v).__name__)
def test_masked_keys_stay_masked(value, what):
    """A query gets no key that it cannot see: none behind it, none beyond its window of four, no padding."""
    if what == "scores" and isinstance(value, (Uniform, AttendToFirst)):
        pytest.skip("rows of a pattern only")
    model, batch = model_of("mistral"), batch_of("left")
    site = Site("pattern", 1)
    before = activations(model, batch, [site])[site]
    after = activations(model, batch, [site], interventions=Intervention(what, 1, None, None, value))[site]
    real = batch.clean.mask.bool()[:, None, :, None].expand_as(before)
    assert (after[real & (before == 0)] == 0).all()
    assert (after[~real] == before[~real]).all()
    if isinstance(value, Uniform):
        rows = after[real].unique()
        torch.testing.assert_close(rows, torch.tensor([0, 1 / 4, 1 / 3, 1 / 2, 1]))
    if isinstance(value, AttendToFirst):
        assert after[real].unique().tolist() == [0, 1]
        assert (after.sum(dim=-1)[real[..., 0]] == 1).all()


@pytest.mark.parametrize("rest", ["zero", "keep", "rescale"])
def test_row_edits(model, rest):
    batch = batch_of("left")
    item = Intervention("pattern", 1, 2, "end", RowEdit({"phrase": 0.5, -2: 0.2}, rest=rest))
    _, before, after = changed(model, batch, item)
    for i, (first, stop) in enumerate([(3, 5), (4, 7), (3, 6), (1, 3)]):
        start, row, old = int(batch.clean.start[i]), after[i, 2, -1], before[i, 2, -1]
        want = {"zero": torch.zeros_like(old), "keep": old.clone(), "rescale": old.clone()}[rest]
        named = [*range(start + first, start + stop), len(old) - 2]
        others = [k for k in range(start, len(old)) if k not in named]
        if rest == "rescale":
            want[others] = old[others] / old[others].sum() * 0.3
        want[named] = torch.tensor([0.5 / (stop - first)] * (stop - first) + [0.2])
        torch.testing.assert_close(row, want)


def test_kv_heads_serve_a_group(model):
    """Zeroing the value of kv head 1 zeroes z of query heads 2 and 3, and of no other."""
    where, _, after = changed(model, batch_of(), Intervention("v", 1, 1, None, Zero(), unit="kv_head"))
    assert where[:, :, 0].sum() == 0
    assert after[:, :, 1][batch_of().clean.mask.bool()].abs().max() == 0
    z = activations(model, batch_of(), [Site("z", 1)], interventions=Intervention("v", 1, 1, None, Zero()))[Site("z", 1)]
    assert z[batch_of().clean.mask.bool()].abs().amax(dim=(0, 2)).gt(0).tolist() == [True, True, False, False]


@pytest.mark.parametrize(("item", "says"), [
    (Intervention("k", 1, 2, None, Zero()), "query head 2 reads kv head 1, which serves a group of 2 query heads"),
    (Intervention("v", 1, 1, None, Zero(), unit="head"), "query head 1 reads kv head 0"),
    (Intervention("v", 1, 9, None, Zero()), "v has 2 kv heads and each kv head serves a group of 2"),
    (Intervention("z", 1, 0, None, Zero(), unit="kv_head"), "z has one part per query head"),
    (Intervention("z", 1, 4, None, Zero()), "layer 1 has 4 heads; name heads 0 to 3"),
    (Intervention("z", 3, 0, None, Zero()), "layers go from 0 to 2"),
    (Intervention("z", 0, 0, None, Zero(), "cross"), "the model has no cross attention"),
    (Intervention("z", 0, 0, "S3", Zero()), "did you mean 'S'"),
    (Intervention("z", 0, 0, 9, Zero()), "no prompt has more than 9 tokens"),
    (Intervention("pattern", 0, 0, None, RowEdit({"S": 1.0})), "cannot see the key"),
    (Intervention("pattern", 0, 0, "end", RowEdit({8: 1.0})), "prompt 0 has no key 8"),
    (Intervention("z", 0, 0, None, Add(torch.zeros(5))), "does not fit the site"),
    (Intervention("z", 0, (0, 1), None, Replace(torch.zeros(3, 8))), "does not fit the site"),
    (Intervention("z", 0, 0, None, Replace(torch.zeros(3, 9, 1, 8))), "does not fit the site"),
    (Intervention("z", 0, 0, None, Resample(torch.zeros(4, 3, 4, 8))), "the source has shape"),
], ids=str)
def test_refuses(model, item, says):
    with pytest.raises(InterpError, match=says):
        run(model, batch_of(), item)


def test_a_prompt_without_partner(model):
    for item in (Intervention("pattern", 0, 0, "end", Resample("clean", shuffle=0)),
                 Intervention("z", 0, 0, None, Resample("corrupt", shuffle=0))):
        with pytest.raises(InterpError, match="prompt 1 is the only one with 9 such tokens"):
            run(model, batch_of(rows=[0, 1, 3]), item)
    assert run(model, batch_of(rows=[0, 1, 3]), Intervention("z", 0, 0, "end", Resample("clean", shuffle=0))).acted.all()


def test_parallel_blocks_have_no_resid_mid():
    with pytest.raises(InterpError, match=r"the model has no resid_mid of layer 0; choose one of attn_out"):
        run(model_of("gpt_neox"), batch_of(), Intervention("resid_mid", 0, None, None, Zero()))


def test_side_must_exist(model):
    with pytest.raises(InterpError, match="did you mean 'clean'"):
        run(model, batch_of(), on="cleen")
    with pytest.raises(InterpError, match="plain tokens have no clean and corrupted side"):
        run(model, batch_of().clean, Intervention("z", 0, 0, None, Resample()))
    with pytest.raises(InterpError, match="run in batches of 0"):
        run(model, batch_of(), batch_size=0)


def test_plain_tokens(model):
    batch = batch_of("left")
    item = Intervention("z", 0, 0, "end", Zero())
    torch.testing.assert_close(run(model, batch.clean, item).logits, run(model, batch, item).logits)
    torch.testing.assert_close(run(model, batch.corrupt.inputs, item).logits, run(model, batch, item, on="corrupt").logits)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("batch_size", [None, 2])
def test_shuffled_partners(model, seed, batch_size):
    """Every prompt takes from another one of its length, the same one at every head; the seed decides, nothing else."""
    batch = batch_of("left", rows=[0, 1, 2, 3])
    source = activations(model, batch, [Site("z", 1)], "corrupt")[Site("z", 1)]
    item = Intervention("z", 1, (0, 2), None, Resample("corrupt", shuffle=seed))
    after = activations(model, batch, [Site("z", 1)], interventions=item, batch_size=batch_size)[Site("z", 1)]
    for i, partner in enumerate([3, 2, 1, 0]):
        start = int(batch.clean.start[i])
        torch.testing.assert_close(after[i, start:, [0, 2]], source[partner, start:, [0, 2]], atol=1e-5, rtol=1e-5)


def test_shuffle_is_one_cycle(model):
    batch = equal_length_batch(n=9)
    source = activations(model, batch, [Site("z", 0)], "clean")[Site("z", 0)]
    found = set()
    for seed in (0, 1, 2):
        item = Intervention("z", 0, 1, "end", Resample("clean", shuffle=seed))
        after = activations(model, batch, [Site("z", 0)], interventions=item)[Site("z", 0)]
        partners = [int((source[:, -1, 1] - after[i, -1, 1]).abs().sum(dim=1).argmin()) for i in range(9)]
        at, seen = 0, []
        for _ in range(9):
            seen.append(at)
            at = partners[at]
        assert sorted(seen) == list(range(9))
        assert at == 0
        found.add(tuple(partners))
    assert len(found) == 3


def test_given_tensors(model):
    """Per head, per prompt and position of the selected heads, and of all heads, mean the same entries."""
    batch = equal_length_batch()
    whole = torch.randn(4, 8, 4, 8, generator=torch.Generator().manual_seed(0))
    heads = (3, 1)
    by_head = Intervention("z", 1, heads, "S", Replace(whole[0, 2, list(heads)]))
    after = activations(model, batch, [Site("z", 1)], interventions=by_head)[Site("z", 1)]
    for h in heads:
        assert after[:, 2, h].equal(whole[0, 2, h].expand(4, -1))
    some, all_, taken = (Intervention("z", 1, heads, "S", value) for value in (
        Replace(whole[:, :, list(heads)]), Replace(whole), Resample(whole)))
    one = run(model, batch, some).logits
    assert run(model, batch, all_).logits.equal(one)
    assert run(model, batch, taken).logits.equal(one)
    torch.testing.assert_close(run(model, batch, all_, batch_size=3).logits, one, atol=1e-5, rtol=1e-5)


def unaligned():
    clean = [[5, 11, 42, 8, 19], [5, 23, 8, 61, 17, 33]]
    corrupt = [[5, 11, 42, 8, 19, 50], [5, 23, 9, 61, 17, 33, 40]]
    return from_tokens(clean, corrupt, 21, 31)


def test_prompts_that_are_not_aligned(model):
    batch = unaligned()
    assert not batch.aligned
    source = activations(model, batch, [Site("z", 1)], "corrupt")[Site("z", 1)]
    after = activations(model, batch, [Site("z", 1)],
                        interventions=Intervention("z", 1, 1, "end", Resample()))[Site("z", 1)]
    for i in range(2):
        torch.testing.assert_close(after[i, int(batch.clean.last[i]), 1], source[i, int(batch.corrupt.last[i]), 1])
    assert metric_values(model, batch, Intervention("z", 1, 1, None, Zero()), "corrupt").shape == (2,)
    for positions, says in ((2, "do not correspond"), (None, "prompt 0 has 5 selected tokens, its source 6")):
        with pytest.raises(InterpError, match=says):
            run(model, batch, Intervention("z", 1, 1, positions, Resample()))
    with pytest.raises(InterpError, match="prompt 0 has 5 keys, its source 6"):
        run(model, batch, Intervention("pattern", 1, 1, "end", Resample()))


def test_mean_over_shorter_prompts_is_refused(model):
    short = batch_of(rows=[0, 3])
    with pytest.raises(InterpError, match="no reference prompt has more than 7 such tokens"):
        run(model, batch_of(), Intervention("z", 1, 1, None, Mean(short)))
    with pytest.raises(InterpError, match="a prompt has 9 keys and the longest reference prompt 7"):
        run(model, batch_of(), Intervention("pattern", 1, 1, "end", Mean(short)))
    with pytest.raises(InterpError, match="did you mean 'token'"):
        mean_activations(model, short, [Site("z", 1)], mode="tokens")


def test_two_values_in_order(model):
    z = Site("z", 1)
    batch = batch_of()
    order = [Intervention("z", 1, 1, None, Add(1.0)), Intervention("z", 1, 1, None, Scale(2.0))]
    before = activations(model, batch, [z])[z]
    real = batch.clean.mask.bool()
    one = activations(model, batch, [z], interventions=order)[z][:, :, 1][real]
    other = activations(model, batch, [z], interventions=order[::-1])[z][:, :, 1][real]
    torch.testing.assert_close(one, 2 * (before[:, :, 1][real] + 1))
    torch.testing.assert_close(other, 2 * before[:, :, 1][real] + 1)

"""``HeadScores``: numbers by hand, refusals, and a file that is whole or not there."""

import errno
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from samples import provenance, random_scores, scores

from interp.core.errors import InterpError
from interp.core.head import Head
from interp.core.scores import HeadScores


def test_mean_and_heads_by_hand():
    made = scores([[[1, 3], [2, 2]], [[0, 0], [np.nan, 4]]])
    np.testing.assert_array_equal(made.mean(), [[2, 2], [0, 4]])
    assert made.heads == (Head(0, 0), Head(0, 1), Head(1, 0), Head(1, 1))
    assert (made.n_layers, made.n_heads, made.n_prompts) == (2, 2, 2)


def test_key_value_heads_are_named_so():
    made = scores([[[1.0, 2.0]]], unit="kv_head", group=4, attention="cross")
    assert made.top(1)["head"].tolist() == ["cross.L0KV0"]


def test_normalised_is_a_ratio_of_means():
    made = scores([[[1, 1, 1, 4]]], normalizer=[1, 2, 1, 10])
    assert made.normalized().values[0, 0] == 7 / 14                     # the mean of ratios would be 0.725
    exact = scores([[[0.5, 1, 0.5, 5]]], normalizer=[1, 2, 1, 10]).normalized()
    np.testing.assert_allclose([exact.values, exact.low, exact.high], 0.5)    # resampled together: no spread is left
    assert exact.denominator == 3.5


def test_normalised_leaves_out_what_is_missing():
    made = scores([[[1, 1, np.nan, 1], [np.nan] * 4]], normalizer=[2, 2, 100, 2])
    found = made.normalized()
    assert found.values[0, 0] == 0.5
    assert np.isnan(found.values[0, 1])


@pytest.mark.parametrize(("normalizer", "said"), [
    (None, "no whole effect"),
    ([1e-9, 2e-9, 1e-9, 1e-9], "vanishes"),
    ([0, 0, 0, 0], "vanishes"),
    ([5, -4, 6, -5], "cannot be told from zero"),
    ([np.nan] * 4, "vanishes"),
])
def test_normalising_by_nothing_is_refused(normalizer, said):
    made = scores([[[1, 2, 3, 4]]], normalizer=normalizer)
    with pytest.raises(InterpError, match=said):
        made.normalized()
    top = made.top()
    assert np.isnan(top["normalized"]).all()
    assert said in top.attrs["normalized"]
    assert top["mean"].tolist() == [2.5]


def test_normalised_may_be_of_a_negative_effect():
    assert scores([[[-1, -2, -1]]], normalizer=[-2, -4, -2.0]).normalized().values[0, 0] == 0.5


def test_one_prompt_has_a_value_and_no_interval():
    made = scores([[[2.0]]], normalizer=[4.0])
    low, high = made.interval()
    assert np.isnan(low[0, 0])
    assert np.isnan(high[0, 0])
    row = made.top().iloc[0]
    assert (row["mean"], row["significant"]) == (2.0, False)
    assert np.isnan(row["normalized"])  # a fraction without an interval is not shown
    assert np.isnan([row["low"], row["p"], row["normalized_low"]]).all()


def test_top_is_sorted_and_leaves_out_missing_heads():
    made = scores([[[1, 1], [np.nan, np.nan]], [[3, 3.5], [-9, -9]]])
    top = made.top()
    assert top["head"].tolist() == ["L1H0", "L0H0", "L1H1"]
    assert made.top(1)["mean"].tolist() == [3.25]
    assert list(top.columns) == ["head", "layer", "index", "mean", "low", "high", "p", "q", "significant", "normalized",
                                 "normalized_low", "normalized_high"]


def test_further_axes():
    values = np.arange(12.0).reshape(1, 2, 3, 2)
    made = scores(values, dims=("layer", "head", "prompt", "position"), coords={"position": ("S2", "end")})
    assert made.mean().shape == (1, 2, 2)
    top = made.top(2)
    assert top[["head", "position"]].to_numpy().tolist() == [["L0H1", "end"], ["L0H1", "S2"]]
    frame = made.to_frame()
    assert frame.loc[5].tolist() == ["L0H0", 0, 0, 2, "end", 5.0]
    one = made.at(position="end")
    np.testing.assert_array_equal(one.values, values[..., 1])
    assert one.dims == ("layer", "head", "prompt")
    with pytest.raises(InterpError, match="did you mean 'S2'"):
        made.at(position="S1")
    with pytest.raises(InterpError, match="position"):
        made.at(positions="S2")


def test_the_arrays_cannot_be_changed():
    values = np.ones((1, 1, 2))
    made = scores(values, normalizer=[1.0, 2.0])
    values[:] = 7
    assert made.mean()[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        made.values[0] = 3


@pytest.mark.parametrize("parts", [
    {"dims": ("layer", "prompt", "head")},
    {"dims": ("layer", "head", "prompt", "position")},
    {"normalizer": [1.0]},
    {"baselines": {"clean": [1.0, 2.0, 3.0]}},
    {"coords": {"prompt": ("a",)}},
    {"attention": "selfish"},
    {"unit": "neuron"},
])
def test_parts_that_do_not_fit_are_refused(parts):
    with pytest.raises(ValueError, match=r"."):
        scores([[[1.0, 2.0]]], **parts)


def test_infinite_values_are_refused():
    with pytest.raises(ValueError, match="infinite"):
        scores([[[1.0, np.inf]]])


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_saved_and_loaded_unchanged(data, tmp_path_factory):
    shape = data.draw(hnp.array_shapes(min_dims=3, max_dims=4, max_side=4))
    numbers = st.floats(allow_infinity=False, width=64)
    dims = ("layer", "head", "prompt", "position")[: len(shape)]
    label = data.draw(st.sampled_from([st.integers(-5, 500), st.text(max_size=4)]))
    coords = {} if len(shape) < 4 else {
        "position": tuple(data.draw(st.lists(label, min_size=shape[3], max_size=shape[3], unique=True)))}
    per_prompt = hnp.arrays(np.float64, shape[2], elements=numbers)
    made = scores(
        data.draw(hnp.arrays(np.float64, shape, elements=numbers)), dims=dims, coords=coords,
        baselines={"clean": data.draw(per_prompt)}, normalizer=data.draw(st.none() | per_prompt),
        unit="kv_head", group=data.draw(st.integers(1, 8)), attention="vision",
        provenance=provenance(options={"why": data.draw(st.text(max_size=8)), "k": (1, 2.5, None, True)}),
    )
    path = tmp_path_factory.mktemp("scores") / "file.parquet"
    assert made.save(path) == path
    back = HeadScores.load(path)
    np.testing.assert_array_equal(back.values, made.values)
    np.testing.assert_array_equal(back.baselines["clean"], made.baselines["clean"])
    if made.normalizer is None:
        assert back.normalizer is None
    else:
        np.testing.assert_array_equal(back.normalizer, made.normalizer)
    for name in ("provenance", "attention", "unit", "group", "dims", "coords"):
        assert getattr(back, name) == getattr(made, name)


def test_the_file_is_a_plain_table(tmp_path):
    made = random_scores()
    frame = pq.read_table(made.save(tmp_path / "new" / "folder" / "x.parquet")).to_pandas()
    assert frame.columns.tolist() == ["head", "layer", "index", "prompt", "value"]
    np.testing.assert_array_equal(frame["value"], made.values.ravel())


@pytest.mark.parametrize("before", [b"", b"what was there"])
def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch, before):
    path = tmp_path / "x.parquet"
    if before:
        path.write_bytes(before)

    def full(table, where, **_):
        Path(where).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(InterpError, match="no space left on device"):
        random_scores().save(path)
    assert [p.name for p in tmp_path.iterdir()] == (["x.parquet"] if before else [])
    assert not before or path.read_bytes() == before


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InterpError, match="Cannot write"):
        random_scores().save(tmp_path / "file" / "x.parquet")


def test_files_that_are_no_scores_are_refused(tmp_path):
    with pytest.raises(InterpError, match="no such file"):
        HeadScores.load(tmp_path / "absent.parquet")
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(InterpError, match="not a whole parquet"):
        HeadScores.load(tmp_path / "text.parquet")
    whole = random_scores().save(tmp_path / "whole.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[:-20])
    with pytest.raises(InterpError, match="not a whole parquet"):
        HeadScores.load(tmp_path / "cut.parquet")
    random_scores().to_frame().to_parquet(tmp_path / "other.parquet")
    with pytest.raises(InterpError, match="no provenance"):
        HeadScores.load(tmp_path / "other.parquet")


def test_scores_that_are_never_negative_are_not_tested_against_zero(tmp_path):
    values = np.random.default_rng(0).random((2, 3, 20)) + 1
    scores = HeadScores(values=values, provenance=provenance(), signed=False)
    assert HeadScores(values=values, provenance=provenance()).test().significant.all()
    test = scores.test()
    assert np.isnan(test.p).all()
    assert not test.significant.any()
    assert "zero is no hypothesis" in scores.top(1).attrs["test"]
    assert not HeadScores.load(scores.save(tmp_path / "scores.parquet")).signed

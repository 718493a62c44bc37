"""Each sink measure on networks whose attention patterns are written by hand: the answers are counted on paper."""

import numpy as np
import pytest
from sink_models import onto, own, patterned, previous, scores_of, texts, uniform

import interp
from interp.core.errors import InterpError
from interp.engine.activations import activations
from interp.measures.measure import find
from interp.models.sites import Site
from interp.models.tiny import tiny

T = 64
LATER = np.arange(T) >= 20
HALF = onto(T, 0)
HALF[1::2] = own(T)[1::2]
HEADS = {"uniform": uniform(T), "first": onto(T, 0), "own": own(T), "previous": previous(T), "two": onto(T, 0, 20),
         "late": np.where(LATER[:, None], onto(T, 20), own(T)), "half": HALF}
PLACE = {name: i for i, name in enumerate(HEADS)}
HARMONIC = (1 / np.arange(1, T + 1)).sum()


@pytest.fixture(scope="module")
def model():
    return patterned(scores_of([list(HEADS.values())]), values=[0.25] + [2.0] * (T - 1))[0]


@pytest.fixture(scope="module")
def measured(model):
    """(measure, options) -> head name -> value on one prompt of 64 tokens."""
    batch = texts(model, T)

    def of(name, **options):
        scores = find(name)(model, batch, **options)
        assert scores.values.shape[:3] == (1, len(HEADS), 1)
        return {head: scores.values[0, i, 0] for head, i in PLACE.items()}

    return of


def close(found, want):
    for head, value in want.items():
        np.testing.assert_allclose(found[head], value, atol=2e-6, err_msg=head)


def test_the_patterns_are_those_written(model):
    site = Site("pattern", 0, "self")
    found = activations(model, texts(model, T), [site])[site][0].numpy()
    np.testing.assert_allclose(found, np.stack(list(HEADS.values())), atol=1e-6)


def test_weight_of_the_first_token(measured):
    close(measured("first_token_sink", value="weight"), {
        "uniform": HARMONIC / T, "first": 1, "own": 1 / T, "previous": 2 / T, "two": (20 + 44 / 2) / T, "late": 1 / T,
        "half": 0.5})
    assert round(HARMONIC / T, 4) == 0.0741


def test_indicator_is_strict_and_rows_say_how_many_rest_there(measured):
    close(measured("first_token_sink"), dict.fromkeys(("uniform", "own", "previous", "late"), 0) | {"first": 1, "two": 1})
    assert measured("first_token_sink", epsilon=0.5)["half"] == 0       # 0.5 is not more than 0.5
    assert measured("first_token_sink", epsilon=0.499)["half"] == 1
    close(measured("first_token_sink", value="rows"), {
        "uniform": 2 / 63, "first": 1, "own": 0, "previous": 1 / 63, "two": 1, "late": 0, "half": 31 / 63})


def test_any_token_may_be_asked_about(measured):
    close(measured("first_token_sink", value="weight", token=20), {"two": 0.5, "late": 1, "own": 1 / 44, "first": 0})
    close(measured("first_token_sink", value="weight", token=-1), {"own": 1, "uniform": 1 / T, "previous": 0})
    close(measured("first_token_sink", value="rows", token=20), {"two": 1, "late": 1, "own": 0})
    assert np.isnan(measured("first_token_sink", token=T)["own"])


@pytest.mark.parametrize("before_the_last", [0, 1, 2, 3])
def test_late_keys_of_a_local_head_pass_the_threshold_unless_left_out(measured, before_the_last):
    """A head that attends to each token itself has alpha 1, 1/2, 1/3, 1/4 there: three keys above 0.3, no sink at all."""
    at = -1 - before_the_last
    assert measured("first_token_sink", value="weight", token=at)["own"] == pytest.approx(1 / (before_the_last + 1))
    assert measured("first_token_sink", token=at)["own"] == (before_the_last < 3)
    left = measured("first_token_sink", token=at, late_keys="left out")["own"]
    assert np.isnan(left) if before_the_last < 3 else left == 0
    if before_the_last in (1, 2):
        assert measured("first_token_sink", value="weight", token=at)["previous"] == pytest.approx(1 / (before_the_last + 1))


def test_a_shorter_horizon_reads_less_and_says_what_even_attention_gives(model):
    batch = texts(model, T)
    scores = interp.measures.first_token_sink(model, batch, value="weight", horizon=12)
    assert scores.values[0, PLACE["uniform"], 0] == pytest.approx((1 / np.arange(1, 13)).mean(), abs=1e-6)
    assert scores.provenance.options["weight_if_even"] == pytest.approx(0.2586, abs=5e-5)
    assert scores.provenance.options["horizon_used"] == 12
    assert scores.values[0, PLACE["two"], 0] == pytest.approx(1, abs=1e-6)      # token 20 is not there


def test_sinks_anywhere_by_both_thresholds(measured):
    as_published = measured("sinks_anywhere", value="count", rule="fixed")
    close(as_published, {"own": 9, "first": 1, "two": 2, "late": 1, "half": 6})
    close(measured("sinks_anywhere", value="count", rule="fixed", late_keys="left out"),
          {"own": 0, "first": 1, "two": 2, "late": 1, "half": 1, "uniform": 0, "previous": 0})
    close(measured("sinks_anywhere", value="count"), {"own": 12, "first": 1, "two": 2, "late": 1})
    close(measured("sinks_anywhere", value="count", factor=3), {"own": 21, "first": 1})
    close(measured("sinks_anywhere", value="count", late_keys="left out"), {"own": 0, "uniform": 0, "previous": 0})


def test_mass_on_sinks_anywhere_and_what_may_be_spared(measured):
    late = {"late_keys": "left out"}
    close(measured("sinks_anywhere", **late), {"first": 1, "two": 1, "late": 44 / 63, "own": 0, "half": 31 / 63})
    close(measured("sinks_anywhere", spare="first token", **late), {"first": 0, "two": 22 / 63, "late": 44 / 63})
    # the published code spares whichever sink comes first, even where that is not the first token
    close(measured("sinks_anywhere", spare="first detected", **late), {"first": 0, "two": 22 / 63, "late": 0})


def test_both_thresholds_coincide_at_fifty_tokens_and_part_later(model):
    at_50, at_64 = texts(model, 50), texts(model, 64)
    counts = {(n, rule): interp.measures.sinks_anywhere(model, batch, value="count", rule=rule).values
              for n, batch in ((50, at_50), (64, at_64)) for rule in ("fixed", "of the length")}
    np.testing.assert_array_equal(counts[50, "fixed"], counts[50, "of the length"])
    assert (counts[64, "fixed"] != counts[64, "of the length"]).any()


def test_nothing_can_exceed_its_share_on_a_short_prompt(model):
    batch = texts(model, 5)
    assert np.isnan(interp.measures.sinks_anywhere(model, batch).values).all()
    assert np.isfinite(interp.measures.sinks_anywhere(model, batch, rule="fixed").values).all()


def test_what_is_left_for_other_tokens(measured):
    free = (1 - 1 / np.arange(2, T + 1)).mean()
    close(measured("sink_free_mass"), {"uniform": free, "first": 0, "own": 1, "previous": 62 / 63, "two": 22 / 63,
                                       "late": 1, "half": 32 / 63})
    close(measured("sink_free_mass", sinks="of the length"), {"two": 0, "late": 19 / 63, "own": 1, "first": 0})
    close(measured("sink_free_mass", sinks="epsilon"), {"two": 0, "late": 19 / 63, "own": 1})
    close(measured("sink_free_mass", sinks="epsilon", epsilon=0.6), {"two": 22 / 63, "late": 19 / 63})
    close(measured("sink_free_mass", sinks="fixed", late_keys="as published"), {"own": 1 - 9 / 63})


def test_kinds_of_tokens_without_a_tokenizer(model):
    batch = texts(model, T)
    per = interp.measures.sink_by_token_kind(model, batch, late_keys="as published")
    assert per.coords["kind"] == ("first", "other")
    np.testing.assert_allclose(per.values[0, PLACE["two"], 0], [42 / T, 0.5 / 63], atol=1e-6)
    total = interp.measures.sink_by_token_kind(model, batch, value="total")
    np.testing.assert_allclose(total.values[0, PLACE["two"], 0], [41 / 63, 22 / 63], atol=1e-6)
    left = interp.measures.sink_by_token_kind(model, batch)          # keys 1 to 60, that more than 1/0.3 rows can see
    np.testing.assert_allclose(left.values[0, PLACE["own"], 0, 1], (1 / np.arange(4, 64)).mean(), atol=1e-6)


def test_norms_of_values_and_keys(model):
    batch = texts(model, T)
    np.testing.assert_allclose(interp.measures.sink_norm(model, batch).values, 0.125, atol=1e-6)
    np.testing.assert_allclose(interp.measures.sink_norm(model, batch, component="k").values, 1, atol=1e-6)
    second = interp.measures.sink_norm(model, batch, token=1).values
    np.testing.assert_allclose(second, 2 / ((0.25 + 2 * 62) / 63), atol=1e-5)
    assert np.isnan(interp.measures.sink_norm(model, batch, horizon=1).values).all()


def test_key_bias_is_the_margin_of_the_scores():
    scores = np.random.default_rng(0).normal(size=(1, 2, 9, 9))
    scores[0, 1, :, 0] += 3
    model = patterned(scores)[0]
    batch = texts(model, 9)
    want = [np.mean([s[i, 0] - s[i, 1 : i + 1].mean() for i in range(1, 9)]) for s in scores[0]]
    np.testing.assert_allclose(interp.measures.sink_key_bias(model, batch).values[0, :, 0], want, atol=1e-6)
    cosines = [np.mean(s[1:, 0] / np.linalg.norm(s[1:], axis=1)) for s in scores[0]]
    found = interp.measures.sink_key_bias(model, batch, value="cosine").values[0, :, 0]
    np.testing.assert_allclose(found, cosines, atol=1e-6)
    assert np.isnan(interp.measures.sink_key_bias(model, batch, horizon=1).values).all()


def test_queries_that_a_window_lets_see_a_key():
    """In a window of 4 tokens a head that attends to the first wherever it can gives it 4 rows of 12."""
    from interp.measures.first_token_sink import strength
    from interp.measures.sink_statistics import of_pattern

    model = interp.load(tiny("mistral"), verify=False)
    pattern = own(12)
    pattern[:4] = onto(12, 0)[:4]
    one = of_pattern(np.broadcast_to(pattern, (3, 4, 12, 12)), model.stack())
    assert set(model.stack().windows) == {4}
    np.testing.assert_allclose(strength(one, "weight", 0.3, "later queries", False), 4 / 12)
    np.testing.assert_allclose(strength(one, "weight", 0.3, "visible queries", False), 1)


def test_windows_that_reach_both_ways_are_not_counted():
    from interp.measures.sink_statistics import check_count
    from interp.models.backend import Stack

    stack = Stack("encoder", 1, 1, 1, 8, 8, 8, causal=False, windows=(4,))
    with pytest.raises(InterpError, match="reach both ways"):
        check_count(stack, "visible queries", "first_token_sink")


def test_the_table_repeats_the_measures(model, measured):
    """One pass for all: the same numbers as the measures one by one."""
    table = interp.measures.sink_table(model, texts(model, T))
    late = {"late_keys": "left out"}
    same = {"first_rate": ("first_token_sink", {}), "first_weight": ("first_token_sink", {"value": "weight"}),
            "first_rows": ("first_token_sink", {"value": "rows"}), "anywhere_5N": ("sinks_anywhere", late),
            "anywhere_fixed": ("sinks_anywhere", {"rule": "fixed"} | late), "sink_free": ("sink_free_mass", {}),
            "beyond_first": ("sinks_anywhere", {"spare": "first token"} | late),
            "n_anywhere": ("sinks_anywhere", {"value": "count"} | late), "massive": ("massive_activation_sinks", {}),
            "secondary": ("secondary_sinks", {}), "value_norm": ("sink_norm", {}),
            "key_norm": ("sink_norm", {"component": "k"}), "key_cosine": ("sink_key_bias", {"value": "cosine"})}
    assert set(table.columns) == {"head", "layer", "index", *same}
    for column, (name, options) in same.items():
        np.testing.assert_allclose(table[column], list(measured(name, **options).values()), atol=1e-9, err_msg=column)
    assert table.attrs["first_weight_if_even"] == pytest.approx(HARMONIC / T)

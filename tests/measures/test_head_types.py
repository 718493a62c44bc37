"""Head types on hand-made models, whose heads are known by construction, and on noise, where every head is unknown."""

import functools

import numpy as np
import pytest
from scipy.stats import binom

import interp
from interp.core.errors import InterpError
from interp.core.head_types import SINK, UNKNOWN, Role, call_types
from interp.models.handmade import HANDMADE
from interp.models.tiny import tiny
from interp.tasks import from_tokens, random_texts

KNOWN = {
    "handmade-induction": {"L0H0": "self", "L0H1": "self", "L0H2": "previous token", "L0H3": UNKNOWN,
                           "L1H0": "previous token", "L1H1": "induction", "L1H2": UNKNOWN, "L1H3": "induction"},
    "handmade-sink": {"L0H0": "self", "L0H1": SINK, "L0H2": "previous token", "L0H3": SINK},
    "handmade-retrieval": {"L0H0": "duplicate token", "L0H1": "duplicate token", "L0H2": "previous token",
                           "L1H0": "induction", "L1H1": "previous token", "L1H2": "induction"},
    "handmade-ioi": {"L0H0": "self", "L0H1": "duplicate token", "L0H2": "previous token", "L1H1": "self"},
}


@functools.cache
def typed(name, **options):
    return interp.measures.head_types(interp.load(name, verify=False), **options)


def batch_of(name, span, where):
    """The model and prompt pairs of a hand-made model, with a span; ``where``: pair -> its place."""
    made = HANDMADE[name]()
    model, pairs = interp.load(made.model, tokenizer=made.tokenizer, verify=False), made.pairs(8)
    places = {at: [where(pair) for pair in pairs] for at in span}
    return model, from_tokens([p.clean for p in pairs], [p.corrupt for p in pairs], [p.answer for p in pairs],
                              [p.wrong for p in pairs], positions=places, model=model)


@pytest.mark.parametrize("name", list(KNOWN))
def test_heads_known_by_construction(name):
    table = typed(name).table.set_index("head")
    for head, role in KNOWN[name].items():
        assert table.loc[head, "type"].split(" (")[0] == role, head
    called = table[table.type != UNKNOWN]
    assert (called.reliability >= 0.95).all()
    assert (called.strength > 0.3).all()


def test_a_sink_comes_with_its_share_of_rows():
    """The sink head rests on <bos> but where a trigger or a capital is near; the text says on how many rows."""
    found = typed("handmade-sink")
    row = found.table.set_index("head").loc["L0H1"]
    assert row.type == f"{SINK} ({row.sink_rows:.0%} of rows)"
    raw = found.evidence[(found.evidence["head"] == "L0H1") & (found.evidence.role == SINK)].raw
    assert row.sink_rows == pytest.approx(raw.mean())
    every = [*found.table.type, *found.table.also]
    assert all("% of rows)" in name for name in every if SINK in name)
    assert found.table.sink_rows.notna().all()


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gpt_oss", "bert"])
def test_noise_is_unknown(architecture):
    """Random weights, with attention far from even: nothing is called."""
    found = interp.measures.head_types(interp.load(tiny(architecture), verify=False))
    assert set(found.table.type) == {UNKNOWN}
    assert not found.table.also.any()
    assert found.heads("induction") == []


def test_what_the_texts_were_and_what_could_not_be_asked():
    found = typed("handmade-induction")
    assert found.asked["texts"] == ["random tokens", "repeated tokens", "shuffled copies"]
    assert "does not know their words" in found.asked["left_out"]["plain texts"]
    assert set(found.evidence.columns) == {"head", "role", "text", "strength", "low", "high", "raw", "unit", "passed",
                                           "prompts"}
    at = found.evidence[(found.evidence["head"] == "L1H1") & (found.evidence.role == "induction")]
    assert set(at.text) == {"repeated tokens", "shuffled copies"}
    assert (at.low <= at.strength + 1e-9).all()
    assert (at.high >= at.strength - 1e-9).all()


def test_own_texts_take_part():
    model = interp.load("handmade-induction", verify=False)
    found = interp.measures.head_types(model, {"mine": random_texts(model, 3, 20, seed=5)}, n=4)
    assert found.asked["texts"][-1] == "mine"
    assert (found.evidence[found.evidence.text == "mine"].prompts <= 3).all()
    assert found.table.set_index("head").loc["L0H2", "texts"] == "4/4"


def test_retrieval_heads_by_needles():
    """The copy head and the decoy with its attention follow the needle; the match heads look one token short of it."""
    model, batch = batch_of("handmade-retrieval", ("needle", "answer"),
                            lambda pair: (pair.positions["needle"], pair.positions["needle"] + 2))
    found = interp.measures.head_types(model, needles=batch, n=4)
    assert set(found.heads("retrieval")) == {"L1H0", "L1H2"}


def test_movers_look_at_the_span_and_write_the_answer():
    model, batch = batch_of("handmade-ioi", ("IO",), lambda pair: pair.positions["IO"])
    found = interp.measures.head_types(model, task=batch, moved="IO", n=4)
    assert found.heads("mover of IO") == ["L2H0"]           # L2H2 looks there too and writes where nobody reads
    assert found.heads("negative mover of IO") == []
    with pytest.raises(InterpError, match="give both or none"):
        interp.measures.head_types(model, task=batch)


def test_image_and_cross_attention_are_refused():
    for architecture, attention in (("vit", None), ("t5", "cross")):
        with pytest.raises(InterpError, match="no earlier tokens"):
            interp.measures.head_types(interp.load(tiny(architecture), verify=False), attention=attention)


def role(*texts, at_least=0.3, resting=False):
    """One layer, one head; per text the values on its prompts."""
    values = {str(i): np.array(text, dtype=float)[None, None] for i, text in enumerate(texts)}
    return Role(values, at_least, values, resting=resting)


@pytest.mark.parametrize(("values", "name"), [
    ([[0.9] * 8], "a"),
    ([[0.1] * 8], UNKNOWN),
    ([[0.9, 0.0, 0.0, 0.9, 0.0, 0.0, 0.9, 0.0]], UNKNOWN),      # 0.34 on average, above 0.3 in some resamples only
    ([[0.9] * 8, [0.0] * 8], UNKNOWN),                          # on one of two texts
    ([[0.9] * 8, [0.8] * 8, [0.0] * 8], "a"),                   # on two of three
    ([[0.9] * 8, [np.nan] * 8], "a"),                           # the other cannot tell
    ([[0.9]], UNKNOWN),                                         # one prompt has no resamples
    ([[np.nan] * 8], UNKNOWN),
])
def test_weak_evidence_is_unknown(values, name):
    row = call_types({"a": role(*values)}).table.iloc[0]
    assert row.type == name
    assert row.nearest == "a"
    if name == UNKNOWN and np.isfinite(row.reliability):
        assert row.reliability < 0.95


def test_the_strongest_role_names_the_head_and_rest_only_without_another():
    weak, strong, rest = role([0.5] * 6), role([0.8] * 6), role([0.95] * 6, resting=True)
    row = call_types({"a": weak, "b": strong, SINK: rest}).table.iloc[0]
    assert (row.type, row.also, row.roles) == ("b", f"a, {SINK} (95% of rows)", ("b", "a", SINK))
    assert call_types({"a": role([0.1] * 6), SINK: rest}).table.iloc[0].type == f"{SINK} (95% of rows)"


def test_reliability_is_the_share_of_resamples():
    """Half of the prompts at 1, half at 0, threshold 1/2: the mean of a resample is at least that in a little over half."""
    found = call_types({"a": role([1.0, 0.0] * 10, at_least=0.5)}, n_boot=4000)
    assert found.table.iloc[0].reliability == pytest.approx(1 - binom.cdf(9, 20, 0.5), abs=0.02)


def test_nothing_to_call():
    with pytest.raises(InterpError, match="there are 0 roles"):
        call_types({})

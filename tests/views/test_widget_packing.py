"""Codes, pooling and headers of the widgets: values that are known, and back again."""

import json
import re

import numpy as np
import pytest
from attention_examples import HOSTILE, patterns

from interp.core.errors import InterpError
from interp.views.widgets import packing, sources
from interp.views.widgets.head_metric import head_metrics
from interp.views.widgets.page import page
from interp.views.widgets.pattern_set import guessed_mask, pattern_set
from interp.views.widgets.state import HeadState, token_row


def test_codes_tell_masked_undefined_and_zero_apart():
    weights = np.array([[0.0, np.nan, 1.0, 0.5]])
    seen = np.array([[True, True, True, False]])
    assert packing.codes(weights, seen).tolist() == [[2, 1, 255, 0]]
    assert packing.codes(weights, seen, 16).tolist() == [[2, 1, 65535, 0]]


@pytest.mark.parametrize(("bits", "slack"), [(8, 0.0041), (16, 0.00002)])
def test_codes_give_weights_back(bits, slack):
    weights = np.linspace(0, 1, 501)[None]
    back = packing.weights_of(packing.codes(weights, np.ones_like(weights, bool), bits))
    assert np.abs(back - weights).max() < slack


def test_pooling_keeps_a_diagonal_that_a_mean_would_wash_out():
    packed = packing.codes(np.eye(64) * 0.9, np.tril(np.ones((64, 64), bool)))
    pooled = packing.pool(packed, 8)
    assert pooled.shape == (8, 8)
    assert np.allclose(packing.weights_of(np.diag(pooled)), 0.9, atol=0.005)
    assert (pooled[np.triu_indices(8, 1)] == packing.MASKED).all()
    assert packing.pool(packed[:63, :63], 8).shape == (8, 8)


def test_the_sink_is_out_of_the_limit_and_its_share_is_told():
    seen = packing.overview(pattern_set(patterns()), 0)
    assert np.allclose(seen.sinks[0], [1, (11 * 0.1 + 0.9) / 11, 0], atol=1e-6)
    only = packing.overview(pattern_set(patterns(heads=1)), 0)
    assert only.limit == 1
    small = patterns(heads=1)
    small[..., 0] = 0.8
    small[:, :, np.arange(1, 12), np.arange(1, 12)] = 0.2
    assert abs(packing.overview(pattern_set(small), 0).limit - 0.2) < 0.003


def test_one_head_in_full_is_the_lower_half_in_two_bytes():
    whole = pattern_set(patterns())
    found = packing.full(whole, 0, 1, 1)
    shape = {"rows": 12, "columns": 12, "block": 1, "bits": 16, "lower": True}
    assert found.key == {"prompt": 0, "layer": 1, "head": 1} | shape
    back = np.full((12, 12), np.nan)
    back[np.tril_indices(12)] = packing.weights_of(np.frombuffer(found.data, "<u2"))
    assert np.allclose(np.nan_to_num(back), patterns()[1, 1], atol=2e-5)
    assert packing.full(whole, 0, 7, 0).data == b""


def test_a_long_head_is_pooled_and_its_first_key_kept_apart():
    size = 3000
    weights = np.zeros((1, 1, size, size), np.float32)
    weights[0, 0, :, 0] = 0.7
    weights[0, 0, np.arange(1, size), np.arange(1, size)] = 0.3
    found = packing.full(pattern_set(weights), 0, 0, 0)
    assert len(found.data) <= packing.ONE_HEAD
    key = found.key
    assert key["block"] == 2
    cells = packing.weights_of(np.frombuffer(found.data, np.uint8).reshape(key["rows"], key["columns"]))
    assert np.allclose(cells[:, 0], 0.7, atol=0.005)
    assert np.nanmax(cells[:, 1:]) < 0.31


def test_thumbnails_of_many_heads_stay_small():
    seen = packing.overview(pattern_set(np.zeros((80, 64, 40, 40), np.float32)), 0)
    assert seen.thumbnails.nbytes <= packing.ALL_THUMBNAILS


def test_a_mask_is_guessed_only_where_nothing_speaks_against_it():
    full = np.full((2, 4, 4), 0.25)
    assert guessed_mask(full).all()
    assert np.array_equal(guessed_mask(np.tril(full)), np.tril(np.ones((4, 4), bool)))
    assert guessed_mask(np.ones((1, 1, 1))).all()


def test_arrays_of_all_kinds_are_read_alike():
    torch = pytest.importorskip("torch")
    expected = patterns()
    tensor = torch.tensor(expected)
    given = [expected, tensor, tensor.bfloat16(), expected[None], tuple(tensor[:, None]),
             [layer[None] for layer in expected], {f"blocks.{i}.attn.hook_pattern": tensor[i : i + 1] for i in range(2)}]
    for one in given:
        found = pattern_set(one)
        assert (found.heads, found.n_prompts) == ((3, 3), 1)
        assert np.allclose(found.read(0, 1)[0], expected[1], atol=0.004)
    ragged = pattern_set([expected[0], None, expected[1, :2]])
    assert ragged.heads == (3, 0, 2)
    assert HeadState(ragged).selected


@pytest.mark.parametrize(("attention", "tokens", "words"), [
    (np.zeros(3), None, "shape (3,)"), (np.zeros((1, 2, 3, 3)), ["a"], "1] tokens"), ([None], None, "no layer"),
    (np.full((1, 1, 2, 2), 3.0), None, "between 0 and 1"), (object(), None, "holds no array"),
])
def test_what_does_not_fit_is_refused_with_its_shape(attention, tokens, words):
    with pytest.raises(InterpError) as refusal:
        pattern_set(attention, tokens)
    assert words in str(refusal.value)


def test_selection_goes_by_names_and_refuses_others():
    state = HeadState(pattern_set(patterns()))
    state.selected = ["L1H2", "0.1"]
    assert state.sel == [[1, 2], [0, 1]]
    assert [str(head) for head in state.selected] == ["L1H2", "L0H1"]
    with pytest.raises(InterpError, match="L5H0"):
        state.selected = "L5H0"
    state.sel = []
    assert state.selected == ()


def test_a_request_is_answered_with_that_head():
    state = HeadState(pattern_set(patterns()))
    state.request = [0, 1, 2, 5]
    assert (state.full_key["layer"], state.full_key["head"], state.full_key["n"]) == (1, 2, 5)
    expected = packing.full(state.patterns, 0, 1, 2).data
    assert state.full == expected


def test_metrics_keep_their_intervals_and_shapes_must_agree():
    metrics = head_metrics({"effect": np.array([[1.0, -2, 0], [0, 0, np.nan]])})
    state = HeadState(pattern_set(patterns()), metrics)
    assert [str(head) for head in state.selected] == ["L0H1"]
    assert state.header["metrics"][0] == {"name": "effect", "unit": "", "note": "", "signed": True, "sink": False}
    assert np.frombuffer(state.table, "<f4").size == 2 * 3 * 6
    with pytest.raises(InterpError, match="same model"):
        HeadState(pattern_set(patterns()), head_metrics({"effect": np.zeros((3, 3))}))


def test_labels_hold_no_half_characters_and_pages_no_early_end():
    state = HeadState(pattern_set(patterns(size=len(HOSTILE)), HOSTILE))
    json.dumps(state.header, ensure_ascii=False).encode()
    assert token_row(state.patterns.queries[0])["breaks"] == [5]
    text = page(state, "workbench")
    assert text.count("</script>") == 2
    assert "<img" not in text
    assert "http" not in text.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")


def test_every_view_is_at_most_60_kilobytes_and_all_together_250():
    for view in (*sources.OWN, *sources.further(), "workbench"):
        script = sources.script(view)
        assert len(script.encode()) <= (250_000 if view == "workbench" else 60_000)
        assert not [line for line in script.splitlines() if line.startswith(("import ", "//", "export const"))]
    shared = dict.fromkeys([*sources.SHARED, *sources.imported(sources.further()), *sources.OWN, "workbench"])
    files = [sources.module(name) for name in shared]
    names = re.findall(r"^(?:export )?(?:async )?(?:function|class|const|let) (\w+)", "\n".join(files), flags=re.MULTILINE)
    assert len(names) > 50
    assert len(names) == len(set(names))


def test_a_further_view_is_a_file_and_its_names_are_its_own():
    for kind in sources.further():
        text = sources.enclosed(kind)
        assert text.startswith("const {")
        assert all(f"{kind}{part}" in text for part in ("Panel", "Title"))


def test_of_shared_scripts_only_what_is_named_is_joined(monkeypatch):
    text = ("const A = 1;\nfunction one() {\n  return A;\n}\nfunction two() {\n  return one() + B;\n}\n"
            "const B = 2;\n// end\nfunction three() {}\n")
    monkeypatch.setattr(sources, "module", lambda name: text)
    assert sources.used(["x"], "one();") == "const A = 1;\nfunction one() {\nreturn A;\n}\n"
    assert sources.used(["x"], "two") == sources.joined("x").replace("function three() {}\n", "")
    assert sources.used(["x"], "nothing") == ""

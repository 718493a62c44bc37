"""The patching map: planted effects come out in the right cells, and in a browser cells, heads and tokens are linked."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from attention_examples import HOSTILE, patterns
from saved_page import get

from interp.core.errors import InterpError
from interp.core.provenance import Provenance
from interp.core.scores import HeadScores
from interp.views import patching_map, workbench
from interp.views.widgets.head_metric import head_metrics
from interp.views.widgets.patching import payload
from interp.views.widgets.state import HeadState

CLEAN = ["<s>", " Mary", " and", " John", " gave", " to"]
CORRUPT = ["<s>", " Mary", " and", " Tom", " gave", " to"]


def planted(positions: int | None = 6, prompts: int = 8, **options) -> HeadScores:
    """Small noise; at position 3 (or at all) L1H2 has 2 more and L0H1 1 less. Half of the prompts have no last position."""
    shape = (2, 3, prompts) if positions is None else (2, 3, prompts, positions)
    values = np.random.default_rng(0).normal(0, 0.05, shape)
    values[1, 2, ..., *([] if positions is None else [3])] += 2
    values[0, 1, ..., *([] if positions is None else [3])] -= 1
    dims = ("layer", "head", "prompt")
    if positions is not None:
        values[:, :, : prompts // 2, -1] = np.nan
        options = {"coords": {"position": tuple(range(positions))}} | options
        dims += ("position",)
    about = Provenance(measure="activation_patching", options={"component": options.pop("component", "z")},
                       model={"name": "m"}, task={"name": "ioi"}, metric="logit_diff", direction="denoising")
    return HeadScores(values, about, dims=dims, **options)


def test_means_and_intervals_stand_in_their_cells():
    scores = planted()
    made = payload(scores, clean=CLEAN, corrupt=CORRUPT)
    assert made["rows"] == ["L0H0", "L0H1", "L0H2", "L1H0", "L1H1", "L1H2"]
    assert made["members"][5] == [[1, 2]]
    np.testing.assert_allclose(np.reshape(made["mean"], (2, 3, 6)), scores.mean(), rtol=1e-3)
    low, high = scores.interval()
    np.testing.assert_allclose(np.reshape(made["low"], (2, 3, 6)), low, rtol=1e-3)
    np.testing.assert_allclose(np.reshape(made["high"], (2, 3, 6)), high, rtol=1e-3)
    assert (made["n"], made["counts"]) == (8, [8, 8, 8, 8, 8, 4])
    assert made["prompts"][0]["differ"] == [3]
    assert (made["name"], made["unit"], made["direction"]) == ("activation patching of z", "logit diff", "denoising")
    assert "comes back" in made["reads"]
    assert made["places"] == [0, 1, 2, 3, 4, 5]
    json.dumps(made, allow_nan=False)


def test_without_positions_rows_are_layers_and_columns_heads():
    made = payload(planted(None))
    assert made["grid"]
    assert (made["rows"], made["columns"]) == (["L0", "L1"], ["H0", "H1", "H2"])
    assert made["members"][5] == [[1, 2]]
    assert made["mean"][5] == pytest.approx(2, abs=0.1)


def test_key_value_heads_stand_for_the_query_heads_that_share_them():
    made = payload(planted(unit="kv_head", group=2, component="k"))
    assert made["rows"][5] == "L1KV2"
    assert made["members"][5] == [[1, 4], [1, 5]]
    assert made["heads"] == [6, 6]
    assert made["key"]


def test_named_spans_and_missing_rows():
    values = planted().values.copy()
    values[0, 0] = np.nan
    scores = HeadScores(values[..., [1, 3]], planted().provenance, dims=("layer", "head", "prompt", "position"),
                        coords={"position": ("IO", "S2")})
    made = payload(scores)
    assert (made["columns"], made["places"]) == (["IO", "S2"], None)
    assert (made["empty"], made["rows"][0]) == (1, "L0H1")


def test_as_a_fraction_of_the_whole_effect():
    scores = planted(normalizer=np.full(8, 4.0))
    made = payload(scores, normalized=True)
    assert made["mean"][5 * 6 + 3] == pytest.approx(0.5, abs=0.02)
    assert made["unit"] == "of the whole effect"


def test_plain_arrays_by_their_axes():
    values = np.arange(24.0).reshape(2, 3, 4)
    assert payload(values)["rows"][4] == "L1H1"
    assert payload(values[0], axes=("head", "position"), layer=5)["rows"] == ["L5H0", "L5H1", "L5H2"]
    layers = payload(values[0])
    assert (layers["rows"], layers["members"], layers["least"]) == (["L0", "L1", "L2"], [[], [], []], True)
    assert payload(values[0], axes=("layer", "head"))["grid"]
    over = payload(values.transpose(2, 0, 1), axes=("prompt", "layer", "head"))
    assert (over["n"], over["mean"][:2]) == (4, [1.5, 5.5])
    assert over["low"][0] < 1.5 < over["high"][0]


@pytest.mark.parametrize(("values", "options", "said"), [
    (np.zeros(3), {}, "not known"),
    (np.zeros((2, 3)), {"axes": ("head", "position")}, "layer is not known"),
    (np.zeros((2, 3)), {"layer": 1}, "a layer axis and a layer"),
    (np.zeros((2, 3)), {"axes": ("position", "prompt")}, "position alone"),
    (np.zeros((2, 3)), {"clean": ["a"]}, "3 positions and 1 token"),
    (np.zeros((2, 2)), {"clean": ["a", "b"], "corrupt": ["a"]}, "2 tokens, the corrupted one 1"),
    (np.zeros((2, 2)), {"corrupt": ["a"]}, "without clean"),
    (np.zeros((2, 2)), {"normalized": True}, "whole effect"),
    (np.zeros((2, 2)), {"direction": "denoise"}, "did you mean"),
])
def test_refusals_say_what_to_give(values, options, said):
    with pytest.raises(InterpError, match=said):
        payload(values, **options)


def test_a_large_map_keeps_the_largest_rows_and_says_so():
    values = np.random.default_rng(0).normal(size=(40, 32, 64))
    values[7, 9, 3] = 50
    made = payload(values)
    assert len(json.dumps(made)) < 1_500_000
    assert "L7H9" in made["rows"]
    assert made["leftOut"] == 40 * 32 - len(made["rows"]) > 0


def test_tokens_of_a_batch():
    ids = np.array([[5, 6, 7], [5, 8, 0]])
    side = SimpleNamespace(rows=lambda: [[5, 6, 7], [5, 8]], start=np.array([0, 0]))
    other = SimpleNamespace(rows=lambda: [[5, 9, 7], [5, 8]], start=np.array([0, 0]))
    batch = SimpleNamespace(clean=side, corrupt=other, spans={"S": np.array([[1, 2], [1, 2]])}, ids=ids)
    made = payload(np.zeros((2, 3)), batch=batch)
    assert made["prompts"][0]["clean"]["labels"] == ["<5>", "<6>", "<7>"]
    assert [one["differ"] for one in made["prompts"]] == [[1], []]
    assert made["prompts"][0]["spans"] == {"S": [1, 2]}


def test_views_are_linked_by_the_state_and_results_of_other_models_refused():
    view = patching_map(planted())
    assert view.state.selected[0].layer, view.state.selected[0].head == (1, 2)
    assert patching_map(np.ones((3, 4))).state.sel == []
    state = HeadState(None, head_metrics({"effect": np.ones((3, 4))}))
    assert patching_map(np.ones((3, 6)), state=state).state is state
    with pytest.raises(InterpError, match="3 layers of 4 heads"):
        patching_map(planted(), state=state)


def test_the_order_of_rows_and_the_labels_that_fit(in_node):
    made = payload(planted(), clean=CLEAN, corrupt=CORRUPT)
    printed = in_node(
        'import * as own from "./patched.mjs";\n'
        f"const data = own.readPatching({json.dumps(made)});\n"
        "const none = () => false;\n"
        "console.log(JSON.stringify([own.rowOrder(data, 'all', none).slice(0, 2), own.rowOrder(data, '1', none),\n"
        "  own.rowOrder(data, 'sel', (list) => list[0][1] === 2).length,\n"
        "  own.labelledColumns([0, 0, 1, 0, 0, 0].map((x) => ({ differs: !!x })), 5, 13),\n"
        "  own.cellSentence(data, data.prompts[0], 5, 3), own.cellNumber(data, 5 * 6 + 3), own.cellNumber(data, 0),\n"
        "  own.scattered(data), own.scattered({ ...data, prompts: [...data.prompts, { corrupt: {}, differ: [1] }] }),\n"
        "  own.cellRows(data, data.prompts[0]).length]));\n")
    first, layer, chosen, columns, said, large, small, one, several, rows = json.loads(printed)
    assert (first, layer, chosen) == ([5, 1], [3, 4, 5], 2)
    assert columns == [2, 5]
    assert said.startswith("L1H2 at ·John (3), corrupted ·Tom: 1.99 logit diff")
    assert said.endswith("8 prompts, 1 of 36 by size")
    assert (large, small) == ("1.99", "")
    assert (one, several, rows) == (False, True, 37)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pages of the map: by position, in a workbench with patterns, hostile tokens, layers alone, nothing to draw."""
    place = tmp_path_factory.mktemp("patching")
    tokens = {"clean": CLEAN, "corrupt": CORRUPT}
    size = len(HOSTILE)
    views = {
        "alone": patching_map(planted(), **tokens),
        "bench": workbench(patterns(size=6), tokens=CLEAN, patching={"scores": planted(), **tokens}),
        "grid": patching_map(planted(None)),
        "hostile": patching_map(np.eye(size)[:3] - np.eye(size)[1:4], clean=list(HOSTILE), corrupt=list(reversed(HOSTILE))),
        "nothing": patching_map(np.full((2, 2, 2), np.nan)),
        "single": patching_map(np.zeros((1, 1, 1))),
        "named": patching_map(HeadScores(planted().values[..., :2], planted().provenance, coords={"position": ("S2", "end")},
                                         dims=("layer", "head", "prompt", "position"))),
    }
    for name, view in views.items():
        view.to_html(place / f"{name}.html")
    return place


@pytest.mark.browser
@pytest.mark.parametrize("name", ["alone", "bench", "grid", "hostile", "nothing", "single", "named"])
def test_every_page_draws_and_asks_for_nothing(tab, name):
    page = tab(name)
    assert page.evaluate("globalThis.hacked") is None
    if name == "nothing":
        assert page.locator(".iw-note").first.inner_text() == "Nothing to draw: no cell has a value."
    else:
        assert page.locator(".iw-patching-body canvas").last.evaluate("c => c.width * c.height") > 100


@pytest.mark.browser
def test_a_cell_selects_head_and_token_everywhere(tab):
    page = tab("bench")
    stage = page.locator(".iw-patching .iw-stage")
    box = stage.bounding_box()
    stage.click(position={"x": box["width"] * 3.5 / 6, "y": 12})
    assert (get(page, "sel"), get(page, "query"), get(page, "key")) == ([[1, 2]], 3, -1)
    assert page.locator(".iw-attention strong").inner_text() == "L1H2"
    assert "L1H2 at ·John (3), corrupted ·Tom: 1.99" in page.locator(".iw-voice").inner_text()
    assert "includes zero" in page.locator(".iw-patching .iw-legend").inner_text()
    differing = page.locator(".iw-patching-differs").all_text_contents()
    assert differing == ["·John", "·Tom"]
    page.locator(".iw-heads .iw-stage").click(position={"x": 34 + 1.5 * 64, "y": 20 + 0.5 * 64})
    page.locator(".iw-chip").nth(1).click()
    here = page.locator(".iw-patching-here").all_text_contents()
    assert here[0] == "·Mary"
    colours = page.locator(".iw-patching-rings i").evaluate_all("list => list.map(one => one.style.borderColor)")
    assert "rgb(213, 94, 0)" in colours
    assert "rgb(230, 97, 1)" in colours


@pytest.mark.browser
def test_the_keyboard_walks_the_cells_and_the_table_lists_them(tab):
    page = tab("alone")
    page.evaluate("document.addEventListener('keydown', () => { globalThis.leaked = true; })")
    page.locator(".iw-stage").focus()
    page.keyboard.press("ArrowDown")
    assert page.locator(".iw-voice").inner_text().startswith("L1H2 at ·John (3), corrupted ·Tom: 1.99")
    page.keyboard.press("ArrowDown")
    page.keyboard.press(" ")
    assert get(page, "sel") == [[1, 2], [0, 1]]
    page.keyboard.press("Home")
    assert page.locator(".iw-voice").inner_text().startswith("L0H1 at <s> (0)")
    page.keyboard.press("Escape")
    assert get(page, "sel") == []
    page.get_by_role("button", name="Table").click()
    first = page.locator(".iw-table tbody tr").first.inner_text()
    assert first.split("\t")[:2] == ["L1H2", "·John (3), corrupted ·Tom"]
    page.locator("select[aria-label=Rows]").select_option("1")
    assert page.locator(".iw-stage").get_attribute("aria-rowcount") == "3"
    assert page.evaluate("globalThis.leaked") is None


@pytest.mark.browser
def test_a_selected_head_that_has_no_row_is_said(tab):
    page = tab("alone")
    page.locator("select[aria-label=Rows]").select_option("0")
    assert page.locator(".iw-note").inner_text().startswith("L1H2 selected, not among these rows")
    page.get_by_role("button", name="Show the selected heads").click()
    assert page.locator(".iw-stage").get_attribute("aria-rowcount") == "1"

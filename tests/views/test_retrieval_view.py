"""The retrieval view: what is pooled and kept of a context, what it reads from a model, and the page in a browser."""

import base64
import json
from dataclasses import replace

import numpy as np
import pytest
from attention_examples import HOSTILE
from run_examples import CONTEXT, NEEDLE, needle_run, needle_scores, retrieval, scored
from saved_page import STATE, get

import interp.views as views
from interp.core.errors import InterpError
from interp.core.head import Head
from interp.views.widgets.packing import weights_of
from interp.views.widgets.retrieval import AROUND, BINS, Retrieval, payload


def weights(text: str, rows: int) -> np.ndarray:
    return weights_of(np.frombuffer(base64.b64decode(text), np.uint8)).reshape(rows, -1)


def test_a_context_keeps_where_each_step_looked_and_what_was_copied():
    content = payload(retrieval())
    first = content["contexts"][0]
    assert (first["length"], first["needle"], first["near"]) == (40, list(NEEDLE), [NEEDLE[0] - AROUND, NEEDLE[1] + AROUND])
    assert first["tokens"].split("\n")[:2] == ["<s>", "·w1"]
    assert first["said"] == ["·w22", "·w23", "·w24", "↵"]
    copying, still = first["heads"]["1.1"], first["heads"]["0.2"]
    assert (copying["at"], copying["copied"]) == ([22, 23, 24, 3], [True, True, True, False])
    assert (still["at"], still["copied"]) == ([0] * 4, [False] * 4)
    assert copying["needle"] == [0.8, 0.8, 0.8, 0]
    assert copying["first"] == [0.2] * 4
    near = weights(copying["near"], 4)
    assert np.allclose(near[0, 22 - first["near"][0]], 0.8, atol=0.004)
    assert near[0].sum() == pytest.approx(0.8, abs=0.01)
    whole = weights(copying["row"], 4)
    assert whole.shape == (4, 40)
    assert np.allclose(whole[:, 0], 0.2, atol=0.003)


def test_long_contexts_are_pooled_by_their_largest_and_stay_small():
    tokens = tuple(f" t{i}" for i in range(4096))
    run = needle_run(tokens, (2000, 2020))
    one = payload(Retrieval(needle_scores(), (run,)))["contexts"][0]
    whole = weights(one["heads"]["1.1"]["row"], 4)
    assert whole.shape == (4, BINS + 1)
    columns = whole[:3, 1:].argmax(1)
    assert (np.abs(columns - 2018 / 4095 * BINS) < 1.5).all()
    assert np.allclose(whole[:3, 1:].max(1), 0.8, atol=0.004)
    heads = {Head(layer, head): run.rows[Head(1, 1)] for layer in range(2) for head in range(3)}
    many = payload(Retrieval(needle_scores(), (replace(run, rows=heads),) * 3))
    assert len(json.dumps(many)) < 300_000


def test_heads_by_score_and_the_grid_of_lengths_and_depths():
    content = payload(needle_scores())
    assert [one[:2] for one in content["top"]][:2] == [[1, 1], [0, 2]]
    assert content["top"][0][2] == pytest.approx(10 / 12, rel=1e-3)
    assert content["top"][0][3] < 10 / 12 < content["top"][0][4]
    assert (content["n"], content["answered"], content["contexts"]) == (12, 10, [])
    grid = content["grid"]
    assert (grid["lengths"], grid["depths"], grid["n"]) == ([40, 120], [0, 50, 100], [[2, 2]] * 3)
    assert grid["found"]["share"] == [[1, 1], [1, 0], [1, 1]]
    assert grid["scores"]["1.1"] == [[1, 1], [1, 0], [1, 1]]
    assert grid["scores"]["0.2"] == [[0.25, 0.25]] * 3


def test_plain_arrays_do():
    content = payload(Retrieval(np.array([[0.1, np.nan], [0.9, 0.2]]), (replace(needle_run(), rows={
        Head(1, 0): needle_run().rows[Head(1, 1)]}),), "by hand"))
    assert [one[:2] for one in content["top"]] == [[1, 0], [1, 1], [0, 0]]
    assert (content["grid"], content["n"], content["source"]) == (None, None, "by hand")
    assert content["contexts"][0]["heads"]["1.0"]["copied"] == [True, True, True, False]


@pytest.mark.parametrize(("data", "words"), [
    ("x", "holds no retrieval scores"), (Retrieval(np.zeros(3)), "shape (3,)"),
    (Retrieval(np.zeros((2, 2)), (needle_run(),)), "L0H2 has rows"),
    (Retrieval(needle_scores(), (replace(needle_run(), needle=(5, 60)),)), "the needle of context 0 is 5 to 60 of 40"),
    (Retrieval(needle_scores(), (replace(needle_run(), said=("a",)),)), "shape (4, 44) for 1 token"),
    (Retrieval(scored(np.zeros((2, 3, 2, 2)), dims=("layer", "head", "prompt", "position"))), "further axes"),
])
def test_what_does_not_fit_is_refused(data, words):
    with pytest.raises(InterpError) as refusal:
        payload(data)
    assert words in str(refusal.value)


def test_rows_of_a_model_are_those_that_its_answer_came_from():
    """The hand-made copy head: reads its rows with a slow pass of its own and copies both values of the asked key."""
    interp = pytest.importorskip("interp")
    from interp.engine.activations import activations
    from interp.models.handmade import HANDMADE
    from interp.models.sites import Site

    made = HANDMADE["handmade-retrieval"]()
    model = interp.load(made.model, tokenizer=made.tokenizer)
    pairs = made.pairs(3)
    places = [(pair.positions["needle"], pair.positions["needle"] + 2) for pair in pairs]
    batch = interp.tasks.from_tokens([pair.clean for pair in pairs], [pair.corrupt for pair in pairs],
                                     [pair.answer for pair in pairs], [pair.wrong for pair in pairs],
                                     positions={"needle": places, "answer": places}, model=model)
    data = views.retrieval_data(model, batch, contexts=[1], heads=6, new_tokens=2)
    (run,) = data.runs
    assert (run.needle, run.prompt, run.answered) == (places[1], 1, 1)
    copy = made.heads["copy"]
    assert run.copied[copy].tolist() == [True, True]
    assert run.rows[copy].argmax(1).tolist() == list(range(*places[1]))
    slow = activations(model, batch.subset([1]), [Site("pattern", layer) for layer in range(2)])
    for head, rows in run.rows.items():
        expected = slow[Site("pattern", head.layer)][0, head.head, -1]
        np.testing.assert_allclose(rows[0, : len(expected)], expected, atol=1e-5)
        np.testing.assert_allclose(rows.sum(1), 1, atol=1e-5)
    content = payload(data)
    assert content["contexts"][0]["heads"][f"{copy.layer}.{copy.head}"]["at"] == list(range(*places[1]))
    assert len(views.retrieval_data(model, batch, scores=data.scores, contexts=2, heads=1, new_tokens=2).runs) == 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pages: contexts in a workbench, scores alone, hostile tokens."""
    place = tmp_path_factory.mktemp("retrieval")
    hostile = Retrieval(np.eye(3)[:2], (needle_run((*HOSTILE, "x", "y"), (2, 8), prompt=-1),))
    pages = {"all": views.workbench(retrieval=retrieval(), theme="light", sel=[[1, 1]]),
             "alone": views.retrieval_view(needle_scores()), "hostile": views.retrieval_view(hostile)}
    for name, view in pages.items():
        view.to_html(place / f"{name}.html")
    return place


@pytest.mark.browser
def test_heads_answers_and_cells_are_chosen(tab):
    page = tab("all")
    panel = page.locator("section.iw-retrieval")
    assert panel.locator("strong").inner_text() == "L1H1"
    assert "10 of 12 answered" in panel.locator(".iw-title").inner_text()
    heads, found, _, arcs = (panel.locator(".iw-retrieval-stage").nth(i) for i in range(4))
    heads.focus()
    page.keyboard.press("ArrowDown")
    assert page.locator(".iw-voice").inner_text().startswith("L0H2: retrieval score 0.250, 95 % interval")
    page.keyboard.press("Enter")
    assert get(page, "sel") == [[0, 2]]
    heads.click(position={"x": 20, "y": 14})
    assert get(page, "sel") == [[1, 1]]
    assert panel.locator(".iw-retrieval-copy").count() == 3
    arcs.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator(".iw-voice").inner_text() == (
        "·w23 (answer 2 of 4): L1H1 copies ·w23 (23) with 0.800; needle 0.800, first key 0.200")
    assert page.evaluate(f"[{STATE}.get('query'), {STATE}.get('key')]") == [40, 23]
    page.evaluate(f"{STATE}.update({{query: 41}})")
    assert "what ·w24 looks at" in arcs.text_content()
    found.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    assert page.locator(".iw-voice").inner_text() == (
        "length 120, depth 50 %: needles found 0, 95 % interval 0 to 0.658, 2 prompts")
    page.keyboard.press("Enter")
    assert panel.locator("select").last.input_value() == "1"
    panel.locator("button", has_text="Table").click()
    assert "·w24" in panel.locator(".iw-table").inner_text() or "copied" in panel.locator(".iw-table").inner_text()
    assert page.wrong == []


@pytest.mark.browser
def test_the_map_marks_the_needle_and_says_places(tab):
    page = tab("all")
    stage = page.locator("section.iw-retrieval .iw-stage")
    stage.focus()
    page.keyboard.press("ArrowDown")
    for _ in range(23):
        page.keyboard.press("ArrowRight")
    assert page.locator(".iw-voice").inner_text() == "·w23 → ·w23 (23), needle: 0.798 ±0.004"
    assert page.wrong == []


@pytest.mark.browser
def test_scores_alone_and_hostile_tokens_draw(tab):
    page = tab("alone")
    assert "there is no context to look into" in page.locator(".iw").inner_text()
    assert page.locator(".iw-retrieval-bar").count() == 6
    assert page.wrong == []
    page = tab("hostile")
    assert page.evaluate("globalThis.hacked") is None
    assert page.locator("img, iframe").count() == 0
    assert "<U+202E>gnp.exe" in page.locator(".iw-retrieval-stage").last.text_content()
    assert page.wrong == []


def test_the_examples_are_what_they_say():
    assert CONTEXT[NEEDLE[0]] == " w20"

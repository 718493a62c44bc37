"""The live view: what Python answers when heads are intervened on or a prompt is edited, and the same in a browser."""

import json

import numpy as np
import pytest
from live_page import open_live

import interp
from interp.core.errors import InterpError
from interp.core.head import Head
from interp.core.intervals import bootstrap
from interp.engine.forward import measured, metric_values, run
from interp.engine.intervention import AttendToFirst, Intervention, Mean, RowEdit, Scale, Uniform, Zero
from interp.measures import ablation
from interp.tasks.batch import Tokens
from interp.views import live_view, workbench
from interp.views.labels import number
from interp.views.widgets.live import payload, short

HOSTILE = "</script><img src=x onerror='globalThis.hacked = 1'>"


@pytest.fixture(scope="module")
def organism():
    model = interp.load("organism", verify=False)
    return model, interp.tasks.get("ioi").batch(model, n=12)


@pytest.fixture
def asked(organism):
    """A workbench and a function that asks it as the view does."""
    shown = workbench(*organism)
    count = iter(range(1, 1000))

    def ask(**question):
        whole = {"base": 0, "text": None, "do": "none", "answer": "", "wrong": "", **question}
        n = next(count)
        shown.state.ask = {"kind": "live", "n": n, "question": json.loads(json.dumps(whole))}
        reply = shown.state.reply
        assert (reply["kind"], reply["n"]) == ("live", n)
        json.dumps(reply, allow_nan=False)
        return reply["answer"]

    return shown.state, ask


def test_the_untouched_prompt_has_the_models_own_next_tokens(organism, asked):
    model, batch = organism
    _, ask = asked
    found = ask()
    logits = run(model, batch.subset([0])).logits[0].double()
    tops = logits.topk(3)
    assert [one["values"][0][0] for one in found["tokens"][:3]] == pytest.approx(tops.values.tolist(), rel=1e-4)
    assert found["tokens"][0]["values"][0][1:] == [pytest.approx(float(logits.softmax(0).max()), rel=1e-4), 1]
    roles = {one["role"]: one["label"] for one in found["tokens"] if one["role"]}
    assert set(roles) == {"answer", "wrong"}
    assert (found["said"], found["marks"], found["batch"], found["columns"]) == ("", [], None, ["now"])
    assert found["difference"] == [pytest.approx(float(batch.metric(logits[None], batch.subset([0]))), rel=1e-4)]


@pytest.mark.parametrize(("do", "what", "value"), [
    ("zero", "z", Zero()), ("mean", "z", Mean("clean", "token")), ("uniform", "pattern", Uniform()),
    ("first", "pattern", AttendToFirst()), ("scale", "z", Scale(3.0)),
])
def test_an_intervention_has_the_engines_numbers(organism, asked, do, what, value):
    model, batch = organism
    _, ask = asked
    found = ask(do=do, heads=[[3, 6], [1, 5], [3, 2]], factor=3.0)
    items = [Intervention(what, 1, 5, None, value), Intervention(what, 3, (2, 6), None, value)]
    before, after = metric_values(model, batch), metric_values(model, batch, items)
    assert found["batch"]["before"][0] == pytest.approx(before.mean(), rel=1e-4)
    assert found["batch"]["after"][0] == pytest.approx(after.mean(), rel=1e-4)
    low, high = bootstrap((after - before)[:, None])
    expected = [(after - before).mean(), low[0], high[0]]
    assert found["batch"]["change"] == pytest.approx(expected, rel=1e-3, abs=1e-4)
    assert abs(expected[0]) > 0.05
    one = measured(run(model, batch, items).logits[:1], batch.subset([0]))
    assert found["difference"][1] == pytest.approx(one[0], rel=1e-3, abs=1e-4)
    assert (found["marks"], found["acted"], found["batch"]["n"]) == (["off-distribution"], True, 12)
    assert "L3H2, L3H6" in found["said"]


def test_zeroing_a_head_is_the_ablation_measure(organism, asked):
    model, batch = organism
    _, ask = asked
    scores = ablation(model, batch, kind="zero").mean()
    layer, head = (int(i) for i in np.unravel_index(np.argmax(scores), scores.shape))
    assert ask(do="zero", heads=[[layer, head]])["batch"]["change"][0] == pytest.approx(-scores[layer, head], rel=1e-3)


def test_a_row_edit_is_an_oracle_and_goes_by_names_in_the_batch(organism, asked):
    model, batch = organism
    state, ask = asked
    spans = state.patterns.spans[0]
    end, second = spans["end"][0], spans["S2"][0]
    found = ask(do="row", heads=[[3, 6]], query=end, key=second)
    assert found["marks"] == ["oracle", "off-distribution"]
    everywhere = Intervention("pattern", 3, 6, "end", RowEdit({"S2": 1.0}))
    assert found["batch"]["after"][0] == pytest.approx(metric_values(model, batch, everywhere).mean(), rel=1e-4)
    assert found["batch"]["said"] == "end attends to S2"
    alone = ask(do="row", heads=[[3, 6]], query=end, key=1)
    assert alone["batch"] is None
    assert "no name" in alone["why"]
    own = run(model, batch.subset([0]), Intervention("pattern", 3, 6, (end,), RowEdit({1: 1.0}))).logits
    assert alone["difference"][1] == pytest.approx(measured(own, batch.subset([0]))[0], rel=1e-3)
    assert "cannot see" in ask(do="row", heads=[[3, 6]], query=1, key=3)["error"]
    assert "no key is chosen" in ask(do="row", heads=[[3, 6]], query=1)["error"]


def test_an_edited_prompt_is_a_further_one_everywhere_and_the_original_stays(organism, asked):
    model, _ = organism
    state, ask = asked
    text = state.payloads["live"]["texts"][0]
    first, second = text.split()[1], text.split()[3]
    swapped = text.replace(first, "?").replace(second, first).replace("?", second)
    found = ask(text=swapped)
    assert (found["prompt"], state.prompt, found["columns"]) == (12, 12, ["original", "edited"])
    assert state.header["prompts"][12].startswith("edited: ")
    assert "edited prompt" in state.header["source"]
    labels = state.header["prompt"]["queries"]["labels"]
    assert "".join(labels[1:]).replace("·", " ").strip() == swapped
    assert state.header["prompts"][0] == workbench(*organism).state.header["prompts"][0]
    ids = state.patterns.queries[12].ids
    logits = run(model, Tokens.pad([ids])).logits[0]
    assert found["tokens"][0]["values"][1][0] == pytest.approx(float(logits.max()), rel=1e-4)
    state.request = [12, 0, 5, 1]
    assert (state.full_key["prompt"], state.full_key["rows"]) == (12, len(ids))
    assert np.isclose(state.patterns.read(12, 0)[0].sum(-1), 1, atol=1e-4).all()
    assert np.array_equal(state.patterns.read(3, 2)[0], workbench(*organism).state.patterns.read(3, 2)[0])
    again = ask(text=swapped + " the")
    assert (again["prompt"], state.patterns.n_prompts) == (12, 13)
    assert len(state.header["prompt"]["queries"]["labels"]) == len(labels) + 1
    other = ask(base=2, text="While")
    assert (other["prompt"], state.patterns.n_prompts) == (13, 14)
    assert state.payloads["live"]["edits"] == [{"base": 0, "text": swapped + " the"}, {"base": 2, "text": "While"}]
    state.prompt = 0
    assert ask(text=text)["columns"] == ["now"]
    assert state.prompt == 0
    both = ask(text=swapped + " the", do="zero", heads=[[0, 5]])
    assert both["columns"] == ["edited", "with zero"]


def test_answers_can_be_chosen(asked):
    _, ask = asked
    plain = ask()
    right, wrong = (next(one["label"] for one in plain["tokens"] if one["role"] == role) for role in ("answer", "wrong"))
    turned = ask(answer=wrong.strip("·"), wrong=" " + right.strip("·"))
    assert turned["difference"][0] == pytest.approx(-plain["difference"][0])
    assert "tokens" in ask(answer="antidisestablishmentarianism qqq")["error"]


@pytest.mark.parametrize(("text", "words"), [
    ("", "is empty"), ("  \n", "is empty"), ("a " * 3000, "512"), ("half \ud83d", "half of a character"),
])
def test_what_is_no_prompt_gets_one_sentence(asked, text, words):
    state, ask = asked
    error = ask(text=text)["error"]
    assert words in error
    assert (error.count("Cannot"), error.count(";"), "\n" in error, len(error) < 200) == (1, 1, False, True)
    assert (state.prompt, state.patterns.n_prompts) == (0, 12)


def test_hostile_questions_are_refused(asked):
    _, ask = asked
    assert "no head is selected" in ask(do="zero", heads=[])["error"]
    assert "nonsense" in ask(do="nonsense", heads=[[0, 0]])["error"]
    assert "L9H9" in ask(do="zero", heads=[[9, 9]])["error"]
    assert "12" in ask(base=40)["error"]
    assert ask(text=HOSTILE)["columns"] == ["original", "edited"]
    assert ask(do="scale", heads=[[0, 5]], factor=1)["acted"] is False


def test_a_model_without_tokenizer_takes_token_ids():
    tiny = pytest.importorskip("interp.models.tiny")
    model = interp.load(tiny.tiny("gpt2"), verify=False)
    batch = interp.tasks.from_tokens([[5, 6, 7, 8], [9, 10, 11]], [[5, 6, 7, 9], [9, 10, 12]], 20, 21, model=model)
    state = live_view(model, batch).state
    assert state.payloads["live"]["texts"] == ["5 6 7 8", "9 10 11"]

    def ask(text, n):
        state.ask = {"kind": "live", "n": n, "question": {"base": 1, "text": text, "do": "none", "answer": "30"}}
        return state.reply["answer"]

    assert ask("9 10 13", 1)["difference"][1] == pytest.approx(
        float(np.subtract(*run(model, Tokens.pad([[9, 10, 13]])).logits[0][[30, 21]].tolist())), rel=1e-4)
    assert state.patterns.queries[2].ids == (9, 10, 13)
    assert "no list of numbers" in ask("nine", 2)["error"]
    assert "96" in ask("9 97", 3)["error"]
    state.ask = {"kind": "live", "n": 4, "question": {"base": 1, "answer": "97"}}
    assert "from 0 to 96" in state.reply["answer"]["error"]


def test_there_is_no_live_tab_without_a_model_and_none_in_a_page(organism, tmp_path):
    model, batch = organism
    for shown in (workbench(np.ones((1, 1, 2, 2)) / 2), workbench(model, batch, live=False)):
        assert "live" not in shown.state.payloads
    for wrong in ((np.ones((1, 1, 1, 1)), batch), (model, None)):
        with pytest.raises(InterpError):
            live_view(*wrong)
    with pytest.raises(InterpError, match="while one looks"):
        payload({"heads": [1]})
    assert short(["a" * 150_000, "b" * 60_000, "c"]) == ["a" * 150_000, None, "c"]
    shown = workbench(model, batch)
    assert list(shown.state.payloads) == ["live"]
    text = shown.to_html(tmp_path / "page.html").read_text()
    assert "interventions" not in text


@pytest.mark.browser
def test_the_live_tab_in_a_browser(organism, blank, tmp_path):
    page, (model, batch) = blank, organism
    scores = ablation(model, batch, kind="zero")
    shown = workbench(model, batch, scores=scores)
    strongest = shown.state.selected[-1]
    questions = open_live(page, shown.state, tmp_path / "live.html")
    live = page.locator(".iw-live")
    live.locator("tbody tr").first.wait_for()
    assert page.locator("[role=tab]").all_inner_texts() == ["Live"]
    live.get_by_role("radio", name="Zero").click()
    live.locator(".iw-live-bar1").wait_for(state="attached")
    change = -scores.mean()[strongest.layer, strongest.head]
    assert shown.state.reply["answer"]["batch"]["change"][0] == pytest.approx(change, rel=1e-3)
    assert f"Zero: {strongest}" in live.locator("strong").inner_text()
    assert live.locator(".iw-badge").all_inner_texts() == ["off-distribution"]
    assert f"change {number(change)} [" in live.inner_text()
    before = len(questions)
    page.locator(".iw-heads .iw-stage").click(position={"x": 34 + 3.5 * 64, "y": 20 + 0.5 * 64})
    live.get_by_text("zero z of L0H3").wait_for()
    assert [question["heads"] for question in questions[before:]] == [[[0, 3]]]
    assert shown.selected == (Head(0, 3),)

    area = live.locator("textarea")
    original = area.input_value()
    before = len(questions)
    area.press_sequentially(" to", delay=20)
    page.wait_for_selector(".iw-tokens select option:nth-child(13)", state="attached")
    assert [question["text"] for question in questions[before:]] == [original + " to"]
    area.fill(HOSTILE)
    live.get_by_text("next token after >").wait_for()
    assert "</script>" in page.locator(".iw-strip").inner_text().replace("\n", "")
    assert page.evaluate("globalThis.hacked") is None
    area.fill("")
    live.get_by_role("alert").wait_for()
    assert live.get_by_role("alert").inner_text() == "Cannot run the edited prompt: it is empty; write at least one word."
    live.get_by_role("button", name="Original prompt").click()
    live.get_by_text("zero z of L0H3").wait_for()
    assert (area.input_value(), shown.state.prompt) == (original, 0)
    live.get_by_role("radio", name="Zero").press("ArrowLeft")
    live.get_by_text("No intervention").wait_for()
    assert page.wrong == []


@pytest.mark.browser
def test_a_saved_live_view_says_why_it_is_still(organism, show, tmp_path):
    page = show(live_view(*organism).to_html(tmp_path / "still.html"))
    assert "no Python is behind this view" in page.locator(".iw-note").inner_text()
    assert page.locator("textarea").is_hidden()

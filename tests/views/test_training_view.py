"""The training view: what it holds of scores over checkpoints, and the slider in a browser."""

import json

import numpy as np
import pytest
from run_examples import STEPS, over_steps, scored
from saved_page import STATE, get

import interp.views as views
from interp.core.errors import InterpError
from interp.core.trajectory import Trajectory
from interp.views.widgets import training
from interp.views.widgets.training import payload

NAME = "prefix matching over training"


def test_every_step_holds_the_means_and_intervals_of_its_scores():
    given = over_steps()
    content = payload(given)
    assert (content["heads"], content["steps"], content["n"]) == ([3, 3], list(STEPS), 8)
    (metric,) = content["metrics"]
    assert (metric["name"], metric["signed"]) == (NAME, False)
    for i, step in enumerate(STEPS):
        np.testing.assert_allclose(np.reshape(metric["mean"][i], (2, 3)), given[step].mean(), rtol=1e-5)
        low, high = given[step].interval()
        np.testing.assert_allclose(np.reshape(metric["low"][i], (2, 3)), low, rtol=1e-5)
        np.testing.assert_allclose(np.reshape(metric["high"][i], (2, 3)), high, rtol=1e-5)
    assert metric["limit"] == pytest.approx(0.9)
    assert content["behaviour"]["mean"] == pytest.approx([0.5, 1.5, 2.5, 3.5, 4.5])
    assert len(json.dumps(content, allow_nan=False)) < 6000


def test_trajectories_and_several_measures_are_taken():
    given = over_steps()
    whole = Trajectory(STEPS, tuple(given.values()))
    assert payload(whole) == payload(given)
    two = payload([whole, {step: scored(scores.values, "other") for step, scores in given.items()}])
    assert [metric["name"] for metric in two["metrics"]] == [NAME, "other over training"]
    again = payload([whole, whole])
    assert [metric["name"] for metric in again["metrics"]] == [NAME, f"{NAME} (2)"]


def test_accuracy_is_taken_with_its_interval_where_it_is_per_prompt():
    content = payload(over_steps(), {step: [0.0, 1.0, 1.0, 1.0] for step in STEPS})
    behaviour = content["behaviour"]
    assert payload((over_steps(), {step: [0.0, 1.0, 1.0, 1.0] for step in STEPS})) == content
    assert (behaviour["name"], behaviour["n"], behaviour["mean"]) == ("accuracy", 4, [0.75] * 5)
    assert behaviour["low"][0] < 0.75 < behaviour["high"][0]
    assert payload(over_steps(), dict.fromkeys(STEPS, 0.5))["behaviour"]["low"] == [None] * 5


@pytest.mark.parametrize(("given", "accuracy", "words"), [
    ({}, None, "no checkpoint"), ("x", None, "neither a trajectory"),
    ([over_steps(), {0: scored(np.zeros((2, 3, 2)))}], None, "different checkpoints"),
    ({0: scored(np.zeros((2, 3, 2))), 1: scored(np.zeros((2, 4, 2)))}, None, "different heads"),
    ({0: scored(np.zeros((2, 3, 2))), 1: scored(np.zeros((2, 3, 2)), "other")}, None, "other"),
    (over_steps(), {0: 1.0}, "no accuracy is given for step 100"),
])
def test_what_does_not_fit_is_refused(given, accuracy, words):
    with pytest.raises(InterpError) as refusal:
        payload(given, accuracy)
    assert words in str(refusal.value)


def test_missing_heads_are_null_and_large_runs_stay_small(monkeypatch):
    values = np.full((2, 3, 4), np.nan)
    values[0, 0] = 1
    content = payload({0: scored(values)})
    assert content["metrics"][0]["mean"] == [[1, None, None, None, None, None]]
    rng = np.random.default_rng(0)
    run = {step: scored(rng.random((4, 5, 4))) for step in range(3)}
    monkeypatch.setattr(training, "MOST", 100)
    monkeypatch.setattr(training, "KEPT", 6)
    (large,) = payload(run)["metrics"]
    assert [sum(value is not None for value in row) for row in large["low"]] == [large["fewer"]] * 3 == [6] * 3
    assert all(value is not None for row in large["mean"] for value in row)
    monkeypatch.setattr(training, "MOST", 20)
    with pytest.raises(InterpError, match="give fewer steps or one measure"):
        payload(run)


def test_a_view_begins_at_the_last_step_and_keeps_its_metric():
    view = views.training_slider(over_steps())
    assert (view.state.step, view.state.metric) == (3000, NAME)
    assert [str(head) for head in view.selected][-1] == "L1H2"
    linked = views.head_grid(scored(np.zeros((2, 3, 4)), "other"))
    views.training_slider(over_steps(), state=linked.state)
    assert (linked.state.step, linked.state.metric) == (3000, NAME)
    with pytest.raises(InterpError, match="the state shows"):
        views.training_slider({0: scored(np.zeros((2, 4, 2)))}, state=linked.state)


@pytest.fixture(scope="module")
def page(show, tmp_path_factory):
    """A page of a head grid and the training view."""
    path = tmp_path_factory.mktemp("training") / "page.html"
    return show(views.workbench(training=over_steps(), theme="light").to_html(path))


def pixel(page) -> list[int]:
    """The colour of L1H2 in the head grid, away from its number."""
    read = "c => Array.from(c.getContext('2d').getImageData(34 + 2 * 64 + 4, 20 + 64 + 4, 1, 1).data).slice(0, 3)"
    return page.locator(".iw-heads canvas").first.evaluate(read)


@pytest.mark.browser
def test_the_slider_colours_the_grid_by_that_step_on_one_scale(page):
    panel = page.locator(".iw-training")
    assert panel.locator("strong").inner_text() == "step 3000"
    last = pixel(page)
    slider = panel.locator("input[type=range]")
    slider.focus()
    page.keyboard.press("Home")
    assert get(page, "step") == 0
    assert slider.get_attribute("aria-valuetext") == "step 0, checkpoint 1 of 5"
    assert page.locator(".iw-voice").inner_text().startswith("step 0, checkpoint 1 of 5: ")
    assert sum(pixel(page)) > sum(last) + 200
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert get(page, "step") == 800
    assert "at step 800, scale of all steps" in page.locator(".iw-heads .iw-legend").inner_text()
    assert "0.900" in page.locator(".iw-heads .iw-legend").inner_text()
    page.keyboard.press("End")
    assert pixel(page) == last
    assert [text for text in page.wrong if "willReadFrequently" not in text] == []      # this test reads pixels


@pytest.mark.browser
def test_selected_heads_are_lines_and_a_line_selects_its_head(page):
    panel = page.locator(".iw-training")
    page.evaluate(f"{STATE}.update({{sel: [[1, 2]], step: 3000}})")
    assert panel.locator(".iw-training-end").all_text_contents() == ["L1H2"]
    page.evaluate(f"{STATE}.update({{sel: []}})")
    assert "No head is selected" in panel.inner_text()
    panel.locator(".iw-training-stage").focus()
    page.keyboard.press("ArrowDown")
    assert page.locator(".iw-voice").inner_text().startswith("L1H2 at step 3000: 0.900 [")
    page.keyboard.press("Enter")
    assert get(page, "sel") == [[1, 2]]
    panel.locator("button", has_text="Table").click()
    assert panel.locator("tbody tr").count() == 5
    assert panel.locator("tbody tr").last.inner_text().split("\t")[1].startswith("0.900 [")
    panel.locator("tbody button").nth(1).click()
    assert get(page, "step") == 100


@pytest.mark.browser
def test_play_runs_to_the_end_and_reduced_motion_has_none(page):
    panel = page.locator(".iw-training")
    page.evaluate(f"{STATE}.update({{step: 800}})")
    panel.locator("button", has_text="Play").click()
    panel.locator("strong", has_text="step 3000").wait_for()
    panel.locator("button", has_text="Play").wait_for()
    page.emulate_media(reduced_motion="reduce")
    page.evaluate(f"{STATE}.update({{step: 100}})")
    assert not panel.locator("button", has_text="Play").is_visible()
    panel.locator("button[aria-label='next checkpoint']").click()
    assert get(page, "step") == 200
    page.emulate_media(reduced_motion="no-preference")

"""The head scatter: correlations as they are known by another path, and in a browser brush, keys and links."""

import json

import numpy as np
import pytest
from attention_examples import patterns
from saved_page import DRAWN, STATE, get
from scipy import stats

from interp.core.compare import rank_agreement
from interp.core.errors import InterpError
from interp.core.provenance import Provenance
from interp.core.scores import HeadScores
from interp.views import head_scatter, workbench
from interp.views.widgets.head_metric import head_metrics
from interp.views.widgets.scatter import payload
from interp.views.widgets.state import HeadState


def scored(measure: str, seed: int, **options) -> HeadScores:
    """Random effects of 3 layers of 4 heads on 10 prompts; L2H1 matters by 3."""
    values = np.random.default_rng(seed).normal(0, 0.4, (3, 4, 10))
    values[2, 1] += 3
    about = Provenance(measure=measure, options={}, model={"name": "m"}, metric="logit_diff",
                       task={"name": "ioi", "tokens_sha256": options.pop("tokens", "a")})
    return HeadScores(values, about, **options)


def test_intervals_of_the_correlation_come_with_the_metrics():
    one, other = scored("ablation", 0), scored("attends_to", 1)
    made = payload([one, other])
    agreed = rank_agreement(one, other)
    (pair,) = made["pairs"]
    assert pair["names"] == ["ablation", "attends to"]
    assert (pair["low"], pair["high"], pair["paired"]) == (round(agreed.low, 3), round(agreed.high, 3), True)
    np.testing.assert_allclose(made["metrics"][0]["mean"], one.mean().ravel(), rtol=1e-3)
    json.dumps(made, allow_nan=False)


def test_what_cannot_be_compared_has_its_reason():
    about = Provenance(measure="x", options={}, model={"name": "n"}, task={}, metric="logit_diff")
    other = HeadScores(scored("x", 1).values, about)
    (pair,) = payload([scored("ablation", 0), other])["pairs"]
    assert "differ in the model" in pair["why"]


def test_further_axes_are_metrics_without_an_interval_of_their_correlation():
    one = scored("x", 1)
    wide = HeadScores(np.stack([one.values] * 2, -1), one.provenance, coords={"position": ("S", "end")},
                      dims=("layer", "head", "prompt", "position"))
    made = payload([wide, scored("ablation", 0), scored("other", 3)])
    assert [metric["name"] for metric in made["metrics"]] == ["x · position S", "x · position end", "ablation", "other"]
    assert [pair["names"] for pair in made["pairs"]] == [["ablation", "other"]]


@pytest.mark.parametrize("nothing", [None, True, {}, []])
def test_the_payload_may_be_empty_and_then_fits_any_state(nothing):
    made = payload(nothing)
    assert (made["metrics"], made["pairs"]) == ([], [])
    state = HeadState(None, head_metrics({"a": np.ones((2, 5)), "b": np.ones((2, 5))}))
    assert head_scatter(nothing, state=state, x="b").state.payloads["scatter"]["x"] == "b"


def test_refusals_say_what_to_give():
    with pytest.raises(InterpError, match="there are no metrics"):
        head_scatter()
    with pytest.raises(InterpError, match="did you mean 'effect'"):
        head_scatter({"effect": np.ones((2, 3))}, y="efect")
    with pytest.raises(InterpError, match="2 layers of 3 heads and 3 layers of 3 heads"):
        payload({"a": np.ones((2, 3)), "b": np.ones((3, 3))})


def test_alone_its_metrics_are_the_state_s():
    view = head_scatter([scored("ablation", 0), scored("attends_to", 1)])
    assert view.state.payloads["scatter"]["metrics"] == []
    assert [metric.name for metric in view.state.metrics] == ["ablation", "attends to"]
    assert str(view.selected[0]) == "L2H1"


def test_a_workbench_takes_the_metrics_that_there_are():
    one, other = scored("ablation", 0), scored("attends_to", 1)
    made = workbench([one, other], scatter=True).state.payloads["scatter"]
    assert made["metrics"] == []
    assert made["pairs"] == payload([one, other])["pairs"]


def test_correlation_and_groups_as_by_another_path(in_node):
    rng = np.random.default_rng(0)
    x, y = np.round(rng.normal(size=(2, 40)), 1).tolist()
    printed = in_node(
        'import * as own from "./plane.mjs";\n'
        f"const [x, y] = {json.dumps([x, y])};\n"
        "const points = x.map((vx, i) => ({ vx, vy: y[i], px: 100 + 40 * vx, py: 100 - 40 * y[i] }));\n"
        "const wanted = own.outermost(points, () => false).map(({ point }) => ({ point, text: 'L0H0', wide: 26 }));\n"
        "const frame = { left: 0, right: 220, top: 0, bottom: 220 };\n"
        "const axis = own.axisScale({ signed: true }, [1, 9], 0, 400);\n"
        "console.log(JSON.stringify([own.spearman(x, y), own.spearman([1, 1, 1], [1, 2, 3]),\n"
        "  Object.values(own.divided(points)).map((list) => list.length), own.placedNames(wanted, points, 5, frame, 14),\n"
        "  own.neighbour([{ px: 0, py: 0 }, { px: 9, py: 1 }, { px: 4, py: 30 }], 0, [1, 0]),\n"
        "  own.nearestPoint(points, 1e4, 0, 30), axis.ticks, axis.to(0) > 0]));\n")
    rho, flat, groups, names, ahead, far, ticks, zero = json.loads(printed)
    assert rho == pytest.approx(stats.spearmanr(x, y).statistic)
    assert (flat, ahead, far, zero) == (None, 1, -1, True)
    large = np.abs([x, y]) > np.abs([x, y]).mean(1, keepdims=True)
    assert groups == [int((large[0] & large[1]).sum()), int((large[0] & ~large[1]).sum()), int((~large[0] & large[1]).sum()),
                      int((~large[0] & ~large[1]).sum())]
    assert 0 in ticks
    assert names
    boxes = [(one["x"], one["y"], one["x"] + one["wide"], one["y"] + 12) for one in names]
    for i, a in enumerate(boxes):
        assert all(a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1] for b in boxes[:i])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pages of the scatter: alone, in a workbench by the state's metrics, one metric, none, heads without values."""
    place = tmp_path_factory.mktemp("scatter")
    effect = np.array([[0.1, -2.0, np.nan], [0.0, 0.5, 1.0]])
    views = {
        "alone": head_scatter([scored("ablation", 0), scored("attends_to", 1)], x="attends to", y="ablation"),
        "bench": workbench(patterns(), scores={"effect": effect, "share": np.abs(effect) / 4}, scatter=True),
        "depth": head_scatter({"effect": effect}),
        "none": workbench(scatter=True),
        "empty": head_scatter({"a": np.full((2, 2), np.nan), "b": np.ones((2, 2))}),
        "single": head_scatter({"a": np.zeros((1, 1)), "b": np.ones((1, 1))}),
    }
    for name, view in views.items():
        view.to_html(place / f"{name}.html")
    return place


@pytest.mark.browser
@pytest.mark.parametrize("name", ["alone", "bench", "depth", "none", "empty", "single"])
def test_every_page_draws_and_asks_for_nothing(tab, name):
    page = tab(name)
    said = {"none": "No metric was given: a scatter needs scores of heads.", "empty": "No head has both values."}.get(name)
    if said:
        assert page.locator(".iw-note").last.inner_text() == said
    else:
        assert page.locator(".iw-scatter-stage canvas").first.evaluate(DRAWN)


@pytest.mark.browser
def test_a_rectangle_selects_what_is_inside(tab):
    page = tab("bench")
    stage = page.locator(".iw-scatter-stage")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    page.mouse.move(box["x"] + 64, box["y"] + 14)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] - 46)
    page.mouse.move(box["x"] + box["width"] - 16, box["y"] + box["height"] - 46)
    page.mouse.up()
    assert sorted(get(page, "sel")) == [[0, 0], [0, 1], [1, 0], [1, 1], [1, 2]]
    assert page.locator(".iw-voice").inner_text() == "5 heads selected"
    assert "Selected: L0H0, L0H1, L1H0" in page.locator(".iw-scatter-aside").inner_text()
    assert "over 5 heads" in page.locator(".iw-scatter-rho").inner_text()
    page.locator(".iw-scatter-groups button").first.click()
    assert sorted(get(page, "sel")) == [[0, 1], [1, 2]]


@pytest.mark.browser
def test_the_keyboard_goes_from_head_to_head(tab):
    page = tab("alone")
    page.evaluate("document.addEventListener('keydown', () => { globalThis.leaked = true; })")
    page.locator(".iw-scatter-stage").focus()
    page.keyboard.press("End")
    assert page.locator(".iw-voice").inner_text().startswith("L2H1; attends to 2.94 (2.59 to 3.16)")
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press(" ")
    chosen = get(page, "sel")
    assert chosen[0] == [2, 1]
    assert len(chosen) == 2
    page.keyboard.press("Escape")
    assert get(page, "sel") == []
    assert page.evaluate("globalThis.leaked") is None
    rho = page.locator(".iw-scatter-found").inner_text()
    expected = stats.spearmanr(scored("attends_to", 1).mean().ravel(), scored("ablation", 0).mean().ravel()).statistic
    assert f"{expected:.2f}".replace("-", "−") in rho
    assert "95 % interval over prompts" in rho
    page.get_by_role("button", name="Table").click()
    assert page.locator(".iw-table tbody tr").first.inner_text().startswith("L2H1")


@pytest.mark.browser
def test_axes_are_chosen_among_the_metrics_and_the_layer(tab):
    page = tab("bench")
    names = page.locator(".iw-scatter select[aria-label=x] option").all_inner_texts()
    assert names == ["effect", "share", "first key's share", "layer"]
    page.locator(".iw-scatter select[aria-label=x]").select_option("layer")
    assert "over 5 heads" in page.locator(".iw-scatter-rho").inner_text()
    assert page.locator(".iw-scatter-groups button").count() == 0
    page.evaluate(f"{STATE}.update({{sel: [[1, 1]]}})")
    assert "Selected: L1H1" in page.locator(".iw-scatter-aside").inner_text()

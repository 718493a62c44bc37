"""Curves, profiles and matrices as figures: known values read back from the traces; nothing to draw is said, not raised."""

import builtins
import subprocess
import sys

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from interp.core.circuit import Circuit, Node
from interp.core.errors import InterpError
from interp.core.overlap_many import pairs
from interp.core.proportions import wilson
from interp.core.provenance import Provenance
from interp.core.scores import HeadScores
from interp.core.trajectory import Trajectory
from interp.core.universe import Shape, universe
from interp.views import figures


def scores_of(values, *, prompts=None, options=None, metric="attention weight", measure="first_token_sink", **more):
    provenance = Provenance(measure=measure, options=options or {}, model={"name": "m"},
                            task={"name": "texts", "tokens_sha256": "a"}, metric=metric)
    coords = {"prompt": tuple(prompts)} if prompts else {}
    return HeadScores(np.asarray(values, dtype=float), provenance, coords=coords, signed=False, **more)


def named(figure, name):
    return next(trace for trace in figure.data if trace.name == name)


def ends(trace):
    y = np.asarray(trace.y, dtype=float)
    return y - np.asarray(trace.error_y.arrayminus), y + np.asarray(trace.error_y.array)


def said(figure):
    return [note.text for note in figure.layout.annotations]


@pytest.fixture
def values():
    return np.random.default_rng(0).random((3, 4, 12))


def test_layer_profile_has_layer_means_intervals_and_every_head(values):
    values[1, 2, 5] = np.nan
    figure = figures.layer_profile(scores_of(values))
    line, heads = named(figure, "layer mean (n = 12)"), named(figure, "heads")
    assert np.asarray(line.y) == pytest.approx([np.nanmean(np.nanmean(layer, 0)) for layer in values])
    assert np.asarray(heads.y) == pytest.approx(np.nanmean(values, 2).ravel())
    assert heads.text[6] == "L1H2"
    low, high = ends(line)
    error = np.nanmean(values, 1).std(1, ddof=1) / np.sqrt(12)
    assert np.allclose(high - low, 2 * 2.2 * error, rtol=0.25)           # Student's interval, as wide as the bootstrap's
    assert "layer 1: mean of 4 heads" in line.text[1]
    assert "12 prompts" in line.text[1]
    assert "12 prompts" in figure.layout.title.text


def test_layer_profile_of_several_stands_side_by_side(values):
    figure = figures.layer_profile({"a": scores_of(values), "b": scores_of(values[:, :, :1])})
    one, other = named(figure, "a (n = 12)"), named(figure, "b (n = 1)")
    assert one.x[0] < 0 < other.x[0]
    assert one.line.dash != other.line.dash
    assert not np.any(other.error_y.array)                               # one prompt has no interval
    assert "[no interval]" in other.text[0]
    deep = HeadScores(np.stack([values] * 2, -1), scores_of(values).provenance, dims=("layer", "head", "prompt", "position"))
    with pytest.raises(InterpError, match="further axis position"):
        figures.layer_profile(deep)
    with pytest.raises(InterpError, match="there are no scores"):
        figures.layer_profile({})


def test_sink_curve_counts_heads_above_each_threshold():
    weights = np.zeros((1, 4, 2))
    weights[0, :, 0] = [0.1, 0.3, 0.5, 0.9]
    weights[0, :, 1] = [0.1, 0.3, 0.9, 0.9]
    weights = np.tile(weights, 3)
    figure = figures.sink_curve(scores_of(weights, options={"value": "weight", "weight_if_even": 0.07}))
    curve = named(figure, "sink rate (n = 6)")
    at = {round(x, 2): y for x, y in zip(curve.x, curve.y, strict=True)}
    assert [at[x] for x in (0.05, 0.2, 0.3, 0.6, 0.95)] == pytest.approx([1, 0.75, 0.5, 0.375, 0])    # above 0.3 is strict
    assert [shape.x0 for shape in figure.layout.shapes] == [0.3, 0.07]
    assert "ε = 0.60: 0.375 [" in curve.text[60]
    area = figure.data[0]
    assert area.fill == "toself"
    assert np.nanmin(area.y) >= -1e-9


def test_sink_curve_along_a_number_draws_rate_weight_and_even_attention(values):
    by_horizon = {t: scores_of(values * 0 + t / 100, options={"value": "weight", "weight_if_even": 1 / t})
                  for t in (64, 8, 32)}
    figure = figures.sink_curve(by_horizon, along="horizon", epsilon=0.2)
    assert list(named(figure, "sink rate at ε = 0.2").y) == [0, 1, 1]
    assert list(named(figure, "sink rate at ε = 0.2").x) == [8, 32, 64]
    assert list(named(figure, "mean weight").y) == pytest.approx([0.08, 0.32, 0.64])
    assert list(named(figure, "weight if even").y) == pytest.approx([1 / 8, 1 / 32, 1 / 64])
    with pytest.raises(InterpError, match="not given by number"):
        figures.sink_curve({"a": scores_of(values)}, along="position")
    with pytest.raises(InterpError, match="indicators of one threshold"):
        figures.sink_curve(scores_of(values > 0.5, options={"value": "indicator"}))
    with pytest.raises(InterpError, match="are no shares"):
        figures.sink_curve(scores_of(values * 3))


@pytest.fixture
def needles():
    cells = [f"length {length}, depth {depth}, a" for length in (100, 200) for depth in (0, 100) for _ in range(3)]
    values = np.zeros((2, 2, 12))
    values[1, 0] = [0.9] * 6 + [0.3, 0.5, 0.4] * 2
    values[0, 1] = 0.1
    return scores_of(values, prompts=cells, measure="retrieval_score", metric="",
                     baselines={"answered": np.array([1] * 6 + [0] * 3 + [1] * 3)})


def test_retrieval_curve_follows_heads_over_lengths_and_depths(needles):
    figure = figures.retrieval_curve(needles, k=2)
    best = named(figure, "L1H0")
    assert [trace.name for trace in figure.data] == ["L1H0", "L0H1", "mean of 2 other heads", "answered"]
    assert list(best.x) == [100, 200]
    assert list(best.y) == pytest.approx([0.9, 0.4])
    low, high = ends(best)
    assert 0.3 <= low[1] < 0.4 < high[1] <= 0.5
    answered = named(figure, "answered")
    assert list(answered.y) == [1, 0.5]
    assert ends(answered)[0] == pytest.approx(wilson([1, 0.5], 6)[0])
    assert "length 200: 0.400 [" in best.text[1]
    assert "6 prompts" in best.text[1]
    by_depth = named(figures.retrieval_curve(needles, over="depth", heads=["L1H0"]), "L1H0")
    assert list(by_depth.x) == [0, 100]
    assert list(by_depth.y) == pytest.approx([0.65, 0.65])
    with pytest.raises(InterpError, match="no scores of L7H0"):
        figures.retrieval_curve(needles, heads=["L7H0"])
    with pytest.raises(InterpError, match="as a cell of a grid"):
        figures.retrieval_curve(scores_of(np.zeros((1, 1, 2))))


def table(edges, faithfulness, **more):
    edges, middle = np.asarray(edges), np.asarray(faithfulness, dtype=float)
    return pd.DataFrame({"edges": edges, "faithfulness": middle, "low": middle - 0.1, "high": middle + 0.2, **more})


def test_faithfulness_curve_has_intervals_and_the_band_of_random_circuits():
    found = table([40, 10, 400], [0.9, 0.5, 1], completeness=[0.8, 0.3, 1], completeness_low=[0.7, 0.2, 0.9],
                  completeness_high=[0.9, 0.4, 1], share=[0.04, 0.01, 0.4], n=16, ablation="resample", metric="logit_diff")
    random = [{"edges": size, "faithfulness": value} for size in (10, 40) for value in (0.0, 0.1, 0.2)]
    figure = figures.faithfulness_curve(found, random=random)
    line = named(figure, "faithfulness")
    assert (list(line.x), list(line.y)) == ([10, 40, 400], [0.5, 0.9, 1])
    low, high = ends(line)
    assert (list(low), list(high)) == (pytest.approx([0.4, 0.8, 0.9]), pytest.approx([0.7, 1.1, 1.2]))
    assert list(named(figure, "completeness").y) == [0.3, 0.8, 1]
    control = named(figure, "random, same make (3 each)")
    assert list(control.x) == [10, 40]
    assert list(control.y) == pytest.approx([0.1, 0.1])
    assert ends(control)[1] == pytest.approx([0.2, 0.2])
    assert "10 edges (1 %): 0.500 [0.400, 0.700], 16 prompts" in line.text[0]
    assert "resample, logit_diff, 16 prompts" in figure.layout.title.text
    assert figure.layout.xaxis.type == "log"


def test_faithfulness_curve_of_methods_and_of_judgements():
    from interp.discovery.judgement import Judgement

    circuit, whole = np.array([1.0, 2, 3, 4]), np.array([2.0, 2, 4, 4])
    judged = Judgement(5, 100, circuit, np.zeros(4), whole, np.zeros(4), "zero", "logit_diff")
    figure = figures.faithfulness_curve({"one": [judged], "other": table([5, 10], [0.1, 0.2])})
    one = named(figure, "one")
    assert list(one.y) == pytest.approx([10 / 12])
    assert ends(one)[0] == pytest.approx([judged.interval[0]])
    assert len([trace for trace in figure.data if "completeness" in str(trace.name)]) == 0
    with pytest.raises(InterpError, match="a str is no judgement"):
        figures.faithfulness_curve(["x"])
    with pytest.raises(InterpError, match="no column 'faithfulness'"):
        figures.faithfulness_curve(pd.DataFrame({"edges": [1]}))


def of_heads(*names):
    return Circuit(nodes=tuple(Node.parse(name) for name in names))


def test_overlap_matrix_says_jaccard_chance_and_p_in_each_cell():
    shape = Shape(3, 4)
    circuits = {"a": of_heads("L0H0", "L0H1", "L1H0"), "b": of_heads("L0H0", "L0H1", "L1H0"), "c": of_heads("L2H0", "L2H1")}
    found = pairs(circuits, universe(shape, "heads"))
    figure = figures.overlap_matrix(found)
    (heat,) = figure.data
    z = np.asarray(heat.z, dtype=float)
    assert z[0, 1] == z[1, 0] == 1
    assert z[0, 2] == 0
    assert np.isnan(np.diag(z)).all()
    assert heat.text[2][2] == "n = 2"
    row = found.iloc[0]
    assert f"{row['matched']:.2f} by chance" in heat.text[0][1]
    assert "3 of 3 and 3 shared, Jaccard 1.00" in heat.customdata[1][0]
    assert ("<b>" in heat.text[0][1]) == (row["p_holm"] <= 0.05)
    assert (heat.zmin, heat.zmax) == (0, 1)
    assert f"{row['chance']:.2f} by chance" in figures.overlap_matrix(found, chance="chance").data[0].text[0][1]
    with pytest.raises(InterpError, match="no column 'a'"):
        figures.overlap_matrix(pd.DataFrame())


@pytest.fixture
def trajectory(values):
    values[2, 1] = 0.95
    values[0, 3] = 0.05
    steps = (0, 10, 100, 1000)
    return Trajectory(steps, tuple(scores_of(values * i / 3) for i in range(4)))


def test_checkpoints_highlights_heads_with_intervals_and_shows_the_behaviour(trajectory):
    right = {0: [0, 0, 0, 0], 10: [0, 0, 0, 1], 2000: [1, 1, 1, 1]}
    figure = figures.checkpoints(trajectory, k=1, threshold=0.5, behaviour=right)
    head, others, accuracy = named(figure, "L2H1"), named(figure, "11 other heads"), named(figure, "accuracy (n = 4)")
    assert list(head.y) == pytest.approx([0, 0.95 / 3, 0.95 * 2 / 3, 0.95])
    assert list(head.x[1:]) == [10, 100, 1000]
    assert 0 < head.x[0] < 10                                            # no step 0 on an axis of factors
    assert "0" in figure.layout.xaxis.ticktext
    assert "L2H1, step 0: 0" in head.text[0]
    assert len(others.y) == 11 * 5
    assert np.isnan(others.y[4])
    assert list(accuracy.y) == [0, 0.25, 1]
    assert ends(accuracy)[1] == pytest.approx(wilson([0, 0.25, 1], 4)[1])
    assert accuracy.yaxis == "y2"
    assert tuple(figure.layout.yaxis.range) == tuple(figure.layout.yaxis2.range)
    assert figure.layout.shapes[0].y0 == 0.5
    assert "12 prompts" in figure.layout.title.text
    two = figures.checkpoints(trajectory, behaviour={"one": right, "other": {10: [1, 0]}})
    assert list(named(two, "accuracy: other (n = 2)").y) == [0.5]
    assert named(two, "accuracy: one (n = 4)").marker.symbol != named(two, "accuracy: other (n = 2)").marker.symbol
    chosen = figures.checkpoints(trajectory, heads=["L0H3"], log_steps=False)
    assert list(named(chosen, "L0H3").x) == [0, 10, 100, 1000]
    assert list(named(chosen, "L0H3").y) == pytest.approx(np.array([0, 1, 2, 3]) / 60)
    with pytest.raises(InterpError, match="no scores of L9H9"):
        figures.checkpoints(trajectory, heads=["L9H9"])
    with pytest.raises(InterpError, match="the behaviour at step 10"):
        figures.checkpoints(trajectory, behaviour={10: [3.0]})


def test_nothing_to_draw_is_said(values, trajectory, needles):
    nothing = scores_of(np.full((2, 3, 4), np.nan))
    empty = pd.DataFrame(columns=["edges", "faithfulness"])
    none = pairs({"a": of_heads("L0H0"), "b": of_heads("L0H0")}, universe(Shape(1, 2), "heads")).iloc[:0]
    blank = HeadScores(np.full((2, 2, 12), np.nan), needles.provenance, coords=needles.coords, signed=False,
                       baselines={"answered": np.full(12, np.nan)})
    drawn = [figures.layer_profile(nothing), figures.sink_curve(nothing), figures.sink_curve({4: nothing}, along="position"),
             figures.retrieval_curve(blank), figures.faithfulness_curve(empty), figures.faithfulness_curve([]),
             figures.overlap_matrix(none), figures.checkpoints(Trajectory((0, 1), (nothing, nothing)))]
    for figure in drawn:
        assert any(text.startswith(("no head has a value", "there are no")) for text in said(figure))
        assert figure.to_json()
    partial = values.copy()
    partial[0] = np.nan
    partial[1, :, :11] = np.nan                                          # one prompt left: a point without interval
    line = named(figures.layer_profile(scores_of(partial)), "layer mean (n = 12)")
    assert np.isnan(line.y[0])
    assert line.error_y.array[1] == 0
    assert figures.sink_curve(scores_of(partial)).to_json()
    assert figures.checkpoints(Trajectory((0, 5), (scores_of(partial), scores_of(partial)))).to_json()


def test_save_writes_a_page_and_refuses_by_name(tmp_path, monkeypatch):
    figure = go.Figure(go.Scatter(y=[1, 2]))
    page = figures.save(figure, tmp_path / "deep" / "a.html").read_text()
    assert "Plotly.newPlot" in page
    assert "cdn" not in page.split("Plotly.newPlot")[-1]
    for path in ("a.gif", "a"):
        with pytest.raises(InterpError, match="is no format of a figure"):
            figures.save(figure, tmp_path / path)
    real = builtins.__import__

    def missing(name, *args, **more):
        if name.partition(".")[0] == "kaleido":
            raise ImportError(name)
        return real(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(InterpError, match="kaleido, which is not installed; pip install"):
        figures.save(figure, tmp_path / "a.png")
    assert not list(tmp_path.glob("a.*"))


EXPORT = """
import sys
import plotly.graph_objects as go
from interp.views import figures
try:
    for path in sys.argv[1:]:
        print(figures.save(go.Figure(go.Scatter(y=[1, 2]), {"title": {"text": "naïve"}}), path, width=400, height=300))
except ValueError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.browser
def test_save_draws_png_and_svg_in_a_browser(tmp_path, monkeypatch, chromium_path):
    pytest.importorskip("kaleido", reason="needs kaleido")
    png, svg = tmp_path / "a.png", tmp_path / "a.svg"
    monkeypatch.setenv("BROWSER_PATH", chromium_path)
    run = subprocess.run([sys.executable, "-c", EXPORT, png, svg], capture_output=True, text=True, timeout=120, check=True)
    assert run.stdout.split() == [str(png), str(svg)], run.stdout + run.stderr
    header = png.read_bytes()
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    assert (int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")) == (800, 600)
    assert "naïve" in svg.read_text()
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "no browser"))
    run = subprocess.run([sys.executable, "-c", EXPORT, png], capture_output=True, text=True, timeout=120, check=True)
    assert run.stdout.startswith("InterpError Cannot save a figure as"), run.stdout + run.stderr
    assert "BROWSER_PATH" in run.stdout

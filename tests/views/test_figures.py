"""Plotly figures: one per file, right numbers in the right cells, no default changed, no HTML in labels."""

import subprocess
import sys

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
import pytest

from interp.core.errors import InterpError
from interp.core.provenance import Provenance
from interp.core.scores import HeadScores
from interp.views import figures


@pytest.fixture
def scores() -> HeadScores:
    rng = np.random.default_rng(0)
    values = rng.normal(0, 0.1, (3, 4, 20))
    values[1, 2] += 2
    values[2, 0] -= 1
    provenance = Provenance(
        measure="ablation", options={}, model={"name": "m"}, task={"name": "ioi", "tokens_sha256": "a"}, metric="logit_diff"
    )
    return HeadScores(values, provenance)


def test_figures_are_found_by_existing():
    assert set(figures.names()) >= {"head_heatmap", "ranked_heads", "measure_agreement", "attention_pattern"}
    for name in figures.names():
        assert callable(getattr(figures, name))
    with pytest.raises(AttributeError, match="has no figure 'hed'"):
        _ = figures.hed


def test_no_torch_and_no_new_default_template():
    code = (
        "import sys, plotly.io as pio; before = pio.templates.default\nfrom interp.views import "
        "figures\n[getattr(figures, n) for n in figures.names()]\n"
        "print('torch' in sys.modules, pio.templates.default == before)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == [
        "False",
        "True",
    ]


def test_head_heatmap_is_centred_and_marks_what_differs(scores):
    template = pio.templates.default
    figure = figures.head_heatmap(scores)
    heat, dots = figure.data
    assert heat.zmin == -heat.zmax
    assert heat.zmax == pytest.approx(np.abs(scores.mean()).max())
    assert np.asarray(heat.z) == pytest.approx(scores.mean())
    assert {(2, 1), (0, 2)} <= set(zip(dots.x, dots.y, strict=True))
    assert figure.layout.yaxis.autorange == "reversed"
    assert "L1H2" in heat.text[1][2]
    assert heat.colorscale[-1][1] == "#053061"
    assert heat.colorscale[0][1] == "#67001F"
    assert pio.templates.default == template


def test_a_further_axis_must_be_chosen(scores):
    deep = HeadScores(
        np.stack([scores.values] * 2, -1),
        scores.provenance,
        dims=("layer", "head", "prompt", "position"),
        coords={"position": ("S2", "end")},
    )
    with pytest.raises(InterpError, match=r"scores.at\(position='S2'\)"):
        figures.head_heatmap(deep)
    assert isinstance(figures.head_heatmap(deep.at(position="S2")), go.Figure)


def test_ranked_heads_come_largest_first(scores):
    (dots,) = figures.ranked_heads(scores, k=5).data
    assert dots.y[0] == "L1H2"
    assert list(dots.x) == sorted(dots.x, reverse=True)
    assert dots.marker.symbol[0] == "circle"
    low = dots.x[0] - dots.error_x.arrayminus[0]
    assert low == pytest.approx(scores.interval()[0][1, 2])


def test_measure_agreement_is_one_with_itself(scores):
    figure = figures.measure_agreement({"a": scores, "b": scores})
    heat = figure.data[0]
    assert np.asarray(heat.z, dtype=float)[0, 1] == pytest.approx(1)
    with pytest.raises(InterpError, match="at least two"):
        figures.measure_agreement({"a": scores})


def test_attention_pattern_blanks_the_mask_and_escapes_tokens():
    pattern = np.array([[1, 0, 0], [0.7, 0.3, 0], [0.5, 0.1, 0.4]])
    figure = figures.attention_pattern(pattern, ["<b>", " the", "\n"])
    heat = figure.data[0]
    z = np.asarray(heat.z, dtype=float)
    assert np.isnan(z[0, 1:]).all()
    assert heat.zmax == pytest.approx(0.4)
    assert "<b>" not in "".join(figure.layout.xaxis.ticktext)
    assert "0.60" in figure.layout.title.text
    with pytest.raises(InterpError, match="3 queries and 2 keys"):
        figures.attention_pattern(pattern, ["a", "b", "c"], keys=["a", "b"])

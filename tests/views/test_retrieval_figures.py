"""The masking curve and the retrieval grid as figures."""

import numpy as np
import pytest

from interp.core.curves import MaskingCurve
from interp.core.grid import Cell, grid
from interp.views import figures


def test_masking_curve_has_three_lines_with_intervals():
    rng = np.random.default_rng(0)
    lines = {"top": np.zeros((2, 1, 12)), "random": (rng.random((2, 5, 12)) < 0.9).astype(float),
             "layer-matched": (rng.random((2, 5, 12)) < 0.7).astype(float)}
    heads = {line: tuple((("L0H0",),) * values.shape[1] for _ in range(2)) for line, values in lines.items()}
    curve = MaskingCurve((1, 4), np.ones(12), lines, heads, (0, 3), {"model": {"name": "m"}, "task": {"name": "needle"}})
    figure = figures.masking_curve(curve)
    assert [line.name for line in figure.data] == ["top heads", "random, same layers", "random"]
    assert len({line.line.dash for line in figure.data}) == 3
    for line, key in zip(figure.data, ("top", "layer-matched", "random"), strict=True):
        assert list(line.x) == [0, 1, 4]
        assert list(line.y) == pytest.approx([1, *lines[key].mean((1, 2))])
        shares = [curve.share(key, k) for k in (0, 1, 4)]
        assert np.array(line.y) - line.error_y.arrayminus == pytest.approx([low for _, low, _ in shares])
        assert np.array(line.y) + line.error_y.array == pytest.approx([high for _, _, high in shares])
    assert "above the top heads" in figure.data[1].text[1]
    assert "above the top heads" not in figure.data[0].text[1]
    assert "up to 3 heads" in figure.layout.title.text


def test_retrieval_grid_has_depths_from_the_beginning_down():
    cells = [Cell(length, depth, "a") for length in (1000, 200) for depth in (50, 0)]
    figure = figures.retrieval_grid(grid(cells, [0.25, 1, 0, np.nan]))
    (heat,) = figure.data
    assert list(heat.x) == ["200", "1,000"]
    assert list(heat.y) == ["0 %", "50 %"]
    assert figure.layout.yaxis.autorange == "reversed"
    z = np.asarray(heat.z, dtype=float)
    assert np.isnan(z[0, 0])
    assert z[1].tolist() == [0, 0.25]
    assert z[0, 1] == 1
    assert (heat.zmin, heat.zmax) == (0, 1)
    assert heat.text[0][0] == ""
    assert "1 prompts" in heat.customdata[0][1]

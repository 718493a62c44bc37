"""The drawings as text: every number is there, every token is text, the mask is no zero."""

import base64
import re
import struct
import xml.etree.ElementTree as ET
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.views.svg.heatmap import head_heatmap, vote_grid
from interp.views.svg.pattern import LONGEST, attention_pattern, colour_limit, pool, sink_mass, token_strip
from interp.views.svg.png import grey
from interp.views.svg.whisker import whisker

HOSTILE = ("</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "\"'&<>", "\u202e", "")


def grid(layers: int = 2, heads: int = 3, **change: np.ndarray) -> str:
    mean = np.arange(layers * heads, dtype=float).reshape(layers, heads) - 2
    arrays = {
        "mean": mean,
        "low": mean - 0.5,
        "high": mean + 0.5,
        "q": np.full(mean.shape, 0.2),
        "significant": np.zeros(mean.shape, bool),
    } | change
    names = [[f"L{i}H{j}" for j in range(heads)] for i in range(layers)]
    return head_heatmap(
        arrays["mean"],
        arrays["low"],
        arrays["high"],
        arrays["q"],
        arrays["significant"],
        names=names,
        title="t",
        unit="logits",
    )


def cells(svg: str) -> list[ET.Element]:
    return [e for e in ET.fromstring(svg).iter() if e.get("role") == "gridcell"]


def test_every_cell_says_head_value_interval_and_q():
    found = {cell.get("data-h"): cell.get("aria-label") for cell in cells(grid())}
    assert len(found) == 6
    assert found["L1H2"] == "L1H2: 3.00 logits, 95 % interval [2.50, 3.50], q = 0.20"
    assert found["L0H0"].startswith("L0H0: −2.00 logits")


def test_layer_zero_is_on_top_and_head_zero_at_the_left():
    places = {cell.get("data-h"): (float(cell[0].get("x")), float(cell[0].get("y"))) for cell in cells(grid())}
    assert places["L0H0"][1] < places["L1H0"][1]
    assert places["L0H0"][0] < places["L0H1"][0]


def test_only_significant_heads_are_marked():
    marked = np.array([[True, False, False], [False, False, True]])
    texts = [cell.get("data-h") for cell in cells(grid(significant=marked)) if len(cell) > 1]
    assert texts == ["L0H0", "L1H2"]


def test_small_cells_are_marked_by_a_dot():
    marked = np.zeros((2, 24), bool)
    marked[1, 5] = True
    found = [cell for cell in cells(grid(2, 24, significant=marked)) if len(cell) > 1]
    assert [(cell.get("data-h"), cell[1].tag) for cell in found] == [("L1H5", "circle")]


def test_a_missing_head_is_hatched_and_says_so():
    mean = np.array([[1.0, np.nan, 0.0]])
    missing = cells(grid(1, 3, mean=mean))[1]
    assert missing.get("aria-label") == "L0H1: no value"
    assert missing[0].get("class") == "c x"


def test_votes_are_printed():
    svg = vote_grid(np.array([[0, 6, 1]]), 6, names=[["L0H0", "L0H1", "L0H2"]], title="t")
    assert [cell.get("aria-label") for cell in cells(svg)] == [
        "L0H0: 0 of 6 measures",
        "L0H1: 6 of 6 measures",
        "L0H2: 1 of 6 measures",
    ]
    assert [len(cell) for cell in cells(svg)] == [1, 2, 2]


def decode(address: str) -> np.ndarray:
    """A grey PNG read by hand: signature, header, inflated rows with filter 0."""
    data = base64.b64decode(address.split(",")[1])
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + size]
        assert struct.unpack(">I", data[at + 8 + size : at + 12 + size])[0] == zlib.crc32(kind + body)
        chunks[kind] = body
        at += 12 + size
    width, height = struct.unpack(">II", chunks[b"IHDR"][:8])
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)
    assert (rows[:, 0] == 0).all()
    return rows[:, 1:]


def test_the_png_holds_the_matrix():
    matrix = np.array([[0, 0.5, 1], [0.25, 2, -1]])
    assert decode(grey(matrix)).tolist() == [[0, 128, 255], [64, 255, 0]]


def causal(size: int, first: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
    visible = np.tril(np.ones((size, size), bool))
    pattern = np.where(visible, 0.0, 0.0)
    pattern[0, 0] = 1
    for row in range(1, size):
        pattern[row, 0], pattern[row, 1 : row + 1] = first, (1 - first) / row
    return pattern, visible


def test_the_first_column_stays_out_of_the_colour_limit():
    pattern, visible = causal(5)
    assert colour_limit(pattern, visible) == pytest.approx(0.4)
    assert sink_mass(pattern, visible) == pytest.approx(0.6)
    assert colour_limit(np.ones((1, 1)), np.ones((1, 1), bool)) == 1
    assert np.isnan(sink_mass(np.ones((1, 1)), np.ones((1, 1), bool)))


def test_masked_cells_are_hatched_and_coded_as_masked():
    pattern, visible = causal(3)
    svg = ET.fromstring(attention_pattern(pattern, visible, "abc", "abc", title="t", identifier="0"))
    codes = np.frombuffer(base64.b64decode(svg.get("data-v")), "<u2")
    assert svg.get("data-lower") == ""    # row by row, what is at or below the diagonal
    assert codes / 65534 == pytest.approx(pattern[visible], abs=1e-5)
    hatch = next(e for e in svg.iter() if e.get("class") == "hatch")
    left, pitch = float(svg.get("data-left")), float(svg.get("data-pitch"))
    assert hatch.get("d").count("M") == 2  # row 0: two cells, row 1: one cell
    assert f"M{left + pitch:.5g} 0" in hatch.get("d")


def test_a_mask_that_is_not_causal_is_coded_cell_by_cell():
    visible = np.array([[True, True, False], [True, True, True], [True, False, True]])
    pattern = visible / visible.sum(1, keepdims=True)
    svg = ET.fromstring(attention_pattern(pattern, visible, "abc", "abc", title="t", identifier="0"))
    codes = np.frombuffer(base64.b64decode(svg.get("data-v")), "<u2").reshape(3, 3)
    assert svg.get("data-lower") is None
    assert (codes == 65535).tolist() == (~visible).tolist()


def test_pooling_keeps_a_diagonal():
    size = 400
    pooled = pool(np.eye(size), np.tril(np.ones((size, size), bool)))
    assert pooled.block == 5
    assert pooled.values.shape[0] <= LONGEST
    assert (np.diag(pooled.values) == 1).all()
    assert pooled.visible[0, 0]
    assert not pooled.visible[0, 1]


@given(st.integers(1, 130), st.integers(1, 130))
def test_patterns_of_any_shape_are_well_formed(rows, columns):
    visible = np.ones((rows, columns), bool)
    pattern = np.full((rows, columns), 1 / columns)
    svg = attention_pattern(pattern, visible, ["q"] * rows, ["k"] * columns, title="t", identifier="0")
    assert ET.fromstring(svg).get("data-rows") == str(min(rows, -(-rows // pool(pattern, visible).block)))


@given(st.lists(st.text(max_size=12) | st.sampled_from(HOSTILE), min_size=1, max_size=12))
def test_tokens_are_only_ever_text(tokens):
    pattern, visible = causal(len(tokens))
    tokens = [token.encode("utf-16", "replace").decode("utf-16") for token in tokens]
    svg = ET.fromstring(
        attention_pattern(
            pattern,
            visible,
            tokens,
            tokens,
            title="".join(t for t in tokens if t.isprintable()),
            identifier="0",
            spans={"<S>": (0, 1)},
        )
    )
    assert {e.tag for e in svg.iter()} <= {"svg", "defs", "mask", "image", "path", "rect", "g", "text", "tspan"}
    strip = token_strip(pattern[-1], tokens, query=len(tokens) - 1)
    assert "<script" not in strip
    assert "<img" not in strip
    assert strip.count("<bdi") == len(tokens)


def test_a_whisker_marks_zero_and_the_interval():
    def places(mark: str) -> dict[str, float]:
        return {name: float(at) for name, at in re.findall(r"--(\w):([\d.]+)px", mark)}

    mark = whisker(1.0, 0.5, 1.5, (-1, 2))
    at = places(mark)
    assert at["l"] < at["v"] < at["l"] + at["w"]
    assert 3 < at["z"] < at["l"]
    assert at["v"] == pytest.approx(3 + 56 * 2 / 3, abs=0.1)
    assert 'class="w pos"' in mark
    assert whisker(float("nan"), 0, 0, (0, 1)) == ""
    alone = whisker(-1.0, float("nan"), float("nan"), (-1, 0))
    assert set(places(alone)) == {"z", "v"}
    assert 'class="w neg"' in alone

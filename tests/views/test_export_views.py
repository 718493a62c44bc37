"""Export from every panel: what the files hold, in a browser by the button and the key, and without one."""

import csv
import io
import struct
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from attention_examples import HOSTILE, patterns
from every_view import EFFECT, KINDS, everything
from run_examples import needle_scores, over_steps, retrieval
from saved_page import STATE

import interp.views as views
from interp.core.errors import InterpError

SVG = "{http://www.w3.org/2000/svg}"


def table(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def test_a_head_grid_writes_its_metrics_in_full(tmp_path):
    scores = needle_scores()
    path = views.head_grid(scores).save(tmp_path / "heads.csv")
    head, *rows = table(path.read_text())
    assert head == ["head", "layer", "index", "retrieval score", "retrieval score low", "retrieval score high"]
    low, high = scores.interval()
    for (name, layer, index, *values), at in zip(rows, np.ndindex(2, 3), strict=True):
        assert (name, (int(layer), int(index))) == (f"L{layer}H{index}", at)
        assert [float(value) for value in values] == [scores.mean()[at], low[at], high[at]]


def test_an_attention_map_writes_what_its_mask_lets_through(tmp_path):
    state = views.head_state(patterns(size=len(HOSTILE)), tokens=HOSTILE, sel=[[1, 1]])
    rows = table(views.attention_map(state=state).save(tmp_path / "map.csv").read_text())[1:]
    assert len(rows) == 12 * 13 // 2
    for head, query, i, key, j, weight in rows:
        assert head == "L1H1"
        assert float(weight) == pytest.approx(patterns()[1, 1, int(i), int(j)])
        assert (query, key) == tuple(HOSTILE[int(at)].replace("\ud83d", "?") for at in (i, j))


def test_training_and_retrieval_write_their_tables_and_formulas_are_text(tmp_path):
    rows = table(views.training_slider(over_steps()).save(tmp_path / "training.csv").read_text())
    assert len(rows) == 1 + 5 * 6
    assert (rows[-1][:2], float(rows[-1][2])) == (["3000", "L1H2"], pytest.approx(0.9, rel=1e-5))
    rows = table(views.retrieval_view(retrieval()).save(tmp_path / "retrieval.csv").read_text())
    assert rows[1][:2] == ["L1H1", "0.8333"]
    state = views.head_state(np.ones((1, 1, 1, 1)), tokens=["=cmd|' /C calc'!A0"])
    assert table(views.attention_map(state=state).save(tmp_path / "x.csv").read_text())[1][1].startswith("'=cmd")


def test_a_page_is_saved_and_pictures_are_refused_with_what_to_do(tmp_path):
    grid = views.head_grid(needle_scores())
    assert "<!doctype html>" in grid.save(tmp_path / "grid.html").read_text()
    with pytest.raises(InterpError, match="Export button"):
        grid.save(tmp_path / "grid.png")
    with pytest.raises(InterpError, match="Export button"):
        views.token_strip(state=grid.state).save(tmp_path / "strip.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["grid.html"]


def test_the_functions_of_the_script(in_node):
    in_node(Path(__file__).with_name("export_checks.mjs").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page(show, tmp_path_factory):
    """The workbench with every view."""
    return show(everything(theme="light", grid="metric").to_html(tmp_path_factory.mktemp("export") / "page.html"))


def exported(page, panel: str, kind: str) -> tuple[str, bytes]:
    """What the panel's menu downloads: the file's name and content."""
    box = page.locator(f"section.iw-{panel}")
    box.locator("button[aria-haspopup=menu]").click()
    with page.expect_download() as found:
        box.locator("[role=menuitem]", has_text=kind).click()
    return found.value.suggested_filename, found.value.path().read_bytes()


def size(png: bytes) -> tuple[int, int]:
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", png[16:24])


def words(svg: bytes) -> str:
    """The text of an SVG in order of drawing."""
    return " ".join(one.text or "" for one in ET.fromstring(svg).iter(f"{SVG}text"))


@pytest.mark.browser
def test_the_grid_s_table_equals_the_metric(page):
    name, text = exported(page, "heads", "CSV")
    assert name == "interp-heads-heads-effect.csv"
    head, *rows = table(text.decode())
    assert head == ["head", "layer", "index", "effect", "low", "high", "first key's share"]
    (metric, _) = everything().state.metrics[:2]
    assert metric.mean == pytest.approx(EFFECT, abs=0.02)
    for row, at in zip(rows, np.ndindex(2, 3), strict=True):
        expected = [metric.mean[at], metric.low[at], metric.high[at]]
        assert [float(value) for value in row[3:6]] == pytest.approx(expected, rel=1e-6)


@pytest.mark.browser
def test_pictures_are_twice_the_size_and_say_where_they_come_from(page):
    _, svg = exported(page, "heads", "SVG")
    found = ET.fromstring(svg)
    assert "toy · <b>by hand</b> · interp " in words(svg)
    assert words(svg).startswith("heads: effect")
    images = list(found.iter(f"{SVG}image"))
    assert images
    assert all(one.get("href").startswith("data:image/png;base64,") for one in images)
    name, png = exported(page, "heads", "PNG")
    assert name.endswith(".png")
    assert size(png) == (2 * int(found.get("width")), 2 * int(found.get("height")))
    assert len(png) > 3000
    sharpness = page.locator(".iw-heads canvas").first.evaluate("c => c.width / parseFloat(c.style.width)")
    assert sharpness == pytest.approx(1, abs=0.01)


@pytest.mark.browser
def test_hostile_tokens_stay_text_in_every_format(page):
    page.evaluate(f"{STATE}.update({{sel: [[1, 1]], query: 11, key: -1}})")
    _, text = exported(page, "attention", "CSV")
    rows = table(text.decode())[1:]
    assert len(rows) == 12 * 13 // 2
    assert {row[3] for row in rows} >= {HOSTILE[0], HOSTILE[1], "<U+202E>gnp.exe"}
    for row in rows:
        assert float(row[5]) == pytest.approx(patterns()[1, 1, int(row[2]), int(row[4])], abs=float(row[6]) + 0.0005)
        assert float(row[6]) < 0.005
    _, svg = exported(page, "tokens", "SVG")
    found = ET.fromstring(svg)
    assert not [one for one in found.iter() if one.tag.split("}")[1] in ("script", "img", "foreignObject", "a")]
    assert HOSTILE[0] in words(svg)
    assert page.evaluate("globalThis.hacked") is None


@pytest.mark.browser
@pytest.mark.parametrize("kind", KINDS)
def test_every_view_gives_a_picture_and_a_table(page, kind):
    page.locator(f"[role=tab][id$='-{kind}-tab']").click()
    for what in ("CSV", "SVG", "PNG"):
        name, content = exported(page, kind, what)
        assert name.startswith(f"interp-{kind}")
        if what == "CSV":
            assert len(table(content.decode())) > 2
        elif what == "SVG":
            assert ET.fromstring(content).find(f".//{SVG}g") is not None
            assert "interp " in words(content)
        else:
            assert min(size(content)) > 300
    assert page.wrong == []


@pytest.mark.browser
def test_tables_of_further_views_hold_the_metrics(page):
    metric = everything().state.metrics[0]
    page.locator("[role=tab][id$='-scatter-tab']").click()
    head, *rows = table(exported(page, "scatter", "CSV")[1].decode())
    at = head.index("effect")
    for row in rows:
        layer, index = int(row[0][1]), int(row[0][3])
        expected = [part[layer, index] for part in (metric.mean, metric.low, metric.high)]
        assert [float(value) for value in row[at : at + 3]] == pytest.approx(expected, rel=1e-6)
    page.locator("[role=tab][id$='-training-tab']").click()
    page.evaluate(f"{STATE}.update({{sel: [[1, 2]]}})")
    head, *rows = table(exported(page, "training", "CSV")[1].decode())
    assert head[:4] == ["step", "L1H2", "L1H2 low", "L1H2 high"]
    for row, (step, scores) in zip(rows, over_steps().items(), strict=True):
        low, high = scores.interval()
        assert int(row[0]) == step
        assert [float(value) for value in row[1:4]] == pytest.approx([scores.mean()[1, 2], low[1, 2], high[1, 2]], rel=1e-5)


@pytest.mark.browser
def test_the_key_e_opens_the_menu_which_the_keyboard_walks(page):
    page.locator(".iw-heads .iw-stage").focus()
    page.keyboard.press("e")
    assert page.evaluate("document.activeElement.textContent") == "PNG"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    with page.expect_download() as found:
        page.keyboard.press("Enter")
    assert found.value.suggested_filename.endswith(".csv")
    assert page.evaluate("document.activeElement.textContent") == "Export"
    assert page.locator(".iw-voice").inner_text() == "saved interp-heads-heads-effect.csv"
    page.keyboard.press("e")
    page.keyboard.press("Escape")
    assert not page.locator(".iw-heads .iw-menu").is_visible()
    box = page.locator(".iw-heads input")
    box.focus()
    page.keyboard.press("e")
    assert box.input_value() == "e"

"""The page as text: without JavaScript it holds the numbers, it is small, it asks for nothing, tokens are only text."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import synthetic

from interp.core.errors import InterpError
from interp.core.scores import HeadScores
from interp.report import load, report, save
from interp.report.page import LARGEST, page
from interp.report.panels import measure_label, panels
from interp.report.results import Findings
from interp.views import labels


class Seen(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_three_tasks_fit_two_megabytes(pages: Path):
    assert (pages / "three.html").stat().st_size < 1_000_000


def test_nothing_is_loaded_from_elsewhere(pages: Path):
    for path in pages.glob("*.html"):
        text = path.read_text()
        assert not re.findall(r"""(?:src|href|action|data)\s*=\s*["'](?!#|data:)""", text), path
        assert "@import" not in text
        assert "url(http" not in text
        assert "default-src 'none'" in text


def test_the_numbers_stand_in_the_text_without_javascript(pages: Path):
    seen = Seen((pages / "three.html").read_text())
    text = " ".join(seen.texts)
    panel = panels([synthetic.scores("ioi", 0, n=24)])[0]
    places = labels.decimals(np.nanmax(np.abs(panel.mean)))
    for row, column in synthetic.PLANTED["ioi"]:
        assert labels.fixed(panel.mean[row, column], places) in text
        assert labels.interval(panel.low[row, column], panel.high[row, column], places) in text
    cells = [
        attrs["aria-label"] or "" for _, attrs in seen.tags if attrs.get("role") == "gridcell" and attrs["data-h"] == "L1H2"
    ]
    cell = next(label for label in cells if "logit difference" in label)
    assert labels.number(panel.mean[1, 2]) in cell
    assert "q < 0.001" in cell
    for phrase in ("What this does not show", "Provenance", "5f0c5f0c", "95.8 %", "[79.8 %, 99.3 %]", "Hatched"):
        assert phrase in text


def test_wilson_interval_by_hand():
    """23 of 24: centre (p + z²/2n) / (1 + z²/n), the textbook formula, against what the page says."""
    z, n, p = 1.959963984540054, 24, 23 / 24
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    assert (labels.percent(centre - half), labels.percent(centre + half)) == ("79.8 %", "99.3 %")


def test_the_planted_heads_are_named_first(pages: Path):
    text = (pages / "three.html").read_text()
    for task, heads in synthetic.PLANTED.items():
        table = text[text.index(f'data-name="{task}"') :]
        order = re.findall(r'<tr data-h="(L\dH\d)">', table)[:3]
        assert set(order) == {f"L{layer}H{head}" for layer, head in heads}
    shared = text[text.index("Across tasks", text.index('id="across"')) :]
    assert shared.index("L1H2") < shared.index("L4H0") < shared.index("L3H5")


def test_hostile_tokens_are_only_text(pages: Path):
    raw = (pages / "hostile.html").read_text()
    seen = Seen(raw)
    scripts = [attrs.get("type") for tag, attrs in seen.tags if tag == "script"]
    assert scripts == ["text/plain", "text/plain", None]    # the packed workbench, and the page's own
    assert not [tag for tag, _ in seen.tags if tag in ("img", "iframe", "object", "b64")]
    assert not [attrs for _, attrs in seen.tags if any(name.startswith("on") for name in attrs)]
    assert "{{ 7*7 }}" in raw.replace("{{·7*7·}}", "{{ 7*7 }}")
    assert "49" not in re.findall(r"\{\{.*?\}\}", raw)
    assert "\u202e" not in raw


def test_scores_alone_make_a_page(pages: Path):
    text = (pages / "scores.html").read_text()
    assert "not known" in text
    assert "Where the top heads read" not in text
    assert "Across tasks" not in text


def test_one_prompt_one_measure_one_head():
    text = page([synthetic.result("ioi", measures=1, n=1)])
    assert "no interval" in text
    assert "With one prompt there are no intervals and no tests" in text
    one = synthetic.scores("ioi", 0, layers=1, heads=1)
    assert "L0H0" in page([synthetic.TaskResult("ioi", (one,))])


def test_constant_and_missing_scores_are_drawn():
    flat = synthetic.scores("ioi", 0)
    values = np.zeros(flat.values.shape)
    values[0, 0] = np.nan
    zero = HeadScores(values, flat.provenance, baselines=flat.baselines, normalizer=flat.normalizer)
    text = page([synthetic.TaskResult("ioi", (zero, synthetic.scores("ioi", 1)))])
    assert "L0H0: no value" in text
    assert "all heads of one of them have the same score" in text
    assert "1 head without a value" in text


def test_a_vanishing_effect_gives_no_fraction():
    flat = synthetic.scores("ioi", 0)
    nothing = HeadScores(flat.values, flat.provenance, normalizer=np.zeros(flat.n_prompts))
    text = page([synthetic.TaskResult("ioi", (nothing,))])
    assert "No fractions of the whole effect" in text
    assert "vanishes" in text


def test_absolute_values_are_not_tested(pages: Path):
    panel = panels([synthetic.scores("ioi", 5)])[0]
    assert not panel.signed
    assert not panel.significant.any()
    assert np.isnan(panel.q).all()
    assert "never negative, no test" in (pages / "three.html").read_text()


def test_a_large_model_stays_under_the_limit():
    results = [synthetic.result(name, layers=32, heads=32, n=6) for name in ("ioi", "induction")]
    text = page(results)
    assert len(text.encode()) <= LARGEST
    assert "left out of this table" in text


def test_twelve_layers_of_twelve_heads_take_one_megabyte_with_their_workbenches():
    tasks = tuple(synthetic.result(name, layers=12, heads=12, n=6) for name in ("ioi", "induction"))
    every = tuple(replace(task, every_head=(synthetic.every_head(layers=12, heads=12),)) for task in tasks)
    text = page(Findings(every, synthetic.types(12, 12)))
    assert len(text.encode()) <= 1_000_000
    assert text.count("<script type=") == 3
    assert text.count("<tr data-h=") >= 60 * 3


def test_long_prompts_are_pooled():
    tokens = tuple(f" w{i}" for i in range(400))
    text = page([synthetic.result("ioi", tokens=tokens, measures=1, n=6)])
    assert "largest of 5 × 5 tokens" in text
    assert len(text.encode()) <= LARGEST


def test_results_are_saved_and_drawn_again_the_same(tmp_path: Path):
    hostile = synthetic.result("ioi", tokens=synthetic.HOSTILE, measures=2, n=6)
    other = synthetic.result("induction", n=6, every=True)
    results = Findings((hostile, other), synthetic.types(), (synthetic.circuit("ioi"),))
    save(results, tmp_path / "kept")
    again = load(tmp_path / "kept")
    assert [r.name for r in again.tasks] == ["ioi", "induction"]
    assert page(again) == page(results)


def test_two_models_are_refused(tmp_path: Path):
    one = synthetic.scores("ioi", 0)
    record = synthetic.Provenance.from_json(one.provenance.to_json().replace('"organism"', '"other"'))
    with pytest.raises(InterpError, match="two models"):
        report([one, HeadScores(one.values, record)], tmp_path / "page.html")
    with pytest.raises(InterpError, match="no results"):
        report([], tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_of_results_is_refused(tmp_path: Path):
    with pytest.raises(InterpError, match=r"no task.json"):
        load(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("measure", "options", "direction", "label"),
    [
        ("activation_patching", {"component": "z", "positions": None}, "noising", "Activation patching of z, noising"),
        (
            "activation_patching",
            {"component": "q", "positions": ["S2", "end"]},
            "denoising",
            "Activation patching of q, denoising, positions S2+end",
        ),
        ("ablation", {"kind": "zero"}, None, "Zero ablation"),
        ("direct_logit_attribution", {}, None, "Direct logit attribution"),
        ("somebody_elses", {"a": 1}, None, "Somebody elses"),
    ],
)
def test_measures_are_named_by_what_tells_them_apart(measure, options, direction, label):
    assert measure_label(measure, options, direction) == label

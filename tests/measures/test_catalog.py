"""The decorator, the catalog and the options: names without torch, refusals by name, provenance by construction."""

import subprocess
import sys
from typing import Any, Literal

import numpy as np
import pytest
from random_batches import model_of, random_batch

import interp
from interp.core.errors import InterpError
from interp.measures.catalog import FACTS, catalog, markdown
from interp.measures.measure import MEASURES, Measured, find, measure
from interp.measures.options import read
from interp.tasks.metrics import Metric

NAMES = ["ablation", "activation_patching", "attribution_patching", "direct_logit_attribution", "head_importance"]


def test_names_need_no_torch():
    code = (
        "import sys, interp; m = interp.measures; assert set(m.catalog()) <= set(dir(m)); m.markdown();"
        "print([x for x in ('torch', 'numpy', 'pandas') if x in sys.modules], len(m.catalog()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"[] {len(catalog())}"


def test_every_measure_is_an_attribute_and_says_what_it_is():
    assert set(NAMES) <= set(catalog())
    for name, entry in catalog().items():
        function = getattr(interp.measures, name)
        assert callable(function)
        assert function is find(name) is MEASURES[name]
        assert function.entry == entry
        for fact in FACTS:
            assert getattr(entry, fact).strip(), (name, fact)
        assert entry.summary.endswith(".")


def test_importing_the_file_of_a_measure_does_not_hide_the_measure():
    from interp.measures.ablation import ablation

    assert interp.measures.ablation is ablation


def test_docs_are_up_to_date(root):
    assert (root / "docs" / "measures.md").read_text(encoding="utf-8") == markdown()


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(InterpError, match="did you mean 'ablation'"):
        find("ablatoin")
    with pytest.raises(AttributeError, match="activation_patching"):
        _ = interp.measures.activaton_patching


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"directon": "noising"}, "option of activation_patching 'directon'.*did you mean 'direction'"),
        ({"direction": "noisin"}, "'noisin'.*did you mean 'noising'"),
        ({"component": 3}, "Literal"),
        ({"positions": ()}, "positions"),
        ({"positions": "S9"}, "there is no position of random of that name"),
        ({"metric": "logit_dif"}, "did you mean 'logit_diff'"),
        ({"attention": "crss"}, "crss"),
    ],
)
def test_bad_options_are_refused_by_name(options, message):
    with pytest.raises(InterpError, match=message):
        interp.measures.activation_patching(model_of("gpt2"), random_batch(), **options)


def test_a_new_measure_is_one_function():
    @measure(sense="larger = more", source="none", does_not_show="anything", name="constant_for_a_test")
    def constant(
        model: Any, batch: Any, *, by: float = 1.0, which: Literal["a", "b"] = "a", metric: Metric | None = None
    ) -> Measured:
        """One number for all heads."""
        return Measured(np.full((model.n_layers, model.n_heads, batch.n), by), attention="self")

    try:
        model, batch = model_of("gpt2"), random_batch()
        scores = constant(model, batch, by=2)
        assert scores.values.shape == (3, 4, 3)
        assert (scores.values == 2).all()
        assert scores.normalizer is None
        assert scores.provenance.options == {"by": 2, "which": "a", "metric": None, "attention": "self"}
        assert scores.provenance.measure == "constant_for_a_test"
        assert scores.provenance.model == model.provenance_dict()
        assert find("constant_for_a_test") is constant
        with pytest.raises(ValueError, match="two measures"):
            measure(sense="", source="", does_not_show="", name="constant_for_a_test")(lambda model, batch: None)
    finally:
        MEASURES._things.pop("constant_for_a_test")


def test_a_body_that_is_no_measure_is_refused():
    with pytest.raises(TypeError, match="a measure is written as"):

        @measure(sense="", source="", does_not_show="")
        def wrong(model: Any, batch: Any, by: int = 1) -> Measured:
            raise AssertionError


@pytest.mark.parametrize(
    ("text", "annotation", "value"),
    [
        ("none", str | None, None),
        ("S1,S2", str | tuple[str, ...] | None, ("S1", "S2")),
        ("each", str | None, "each"),
        ("3", int, 3),
        ("0.5", float, 0.5),
        ("true", bool, True),
        ("noising", Literal["noising", "denoising"], "noising"),
        ("4", int | None, 4),
        ("none", str, "none"),
    ],
)
def test_options_from_a_command_line(text, annotation, value):
    assert read(text, annotation) == value

"""Provenance: the same after a round trip, one key per request, unlike things refused."""

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import provenance

from interp.core.errors import InterpError
from interp.core.head import Head
from interp.core.provenance import Provenance, check_comparable, collect_code, collect_versions

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
NAMES = st.text(max_size=3)
TREES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3))


@given(options=st.dictionaries(st.text(max_size=5), TREES, max_size=4), metric=st.text(max_size=5))
def test_round_trip(options, metric):
    made = provenance(options=options, metric=metric)
    back = Provenance.from_json(made.to_json())
    assert back == made
    assert back.key() == made.key()


def test_values_become_plain_data():
    made = provenance(options={"heads": (Head(1, 2), Head(0, 3)), "x": np.float32(0.5), "a": np.arange(2),
                               "set": {"b", "a"}, "path": Path("x/y"), "none": float("nan"), "far": -np.inf})
    assert made.options == {"heads": ["L1H2", "L0H3"], "x": 0.5, "a": [0, 1], "set": ["a", "b"], "path": "x/y",
                            "none": "nan", "far": "-inf"}


def test_what_cannot_be_written_is_named():
    with pytest.raises(TypeError, match=r"options\.f\[1\] is a function"):
        provenance(options={"f": [1, lambda: 1]})


def test_the_key_is_of_the_request():
    made = provenance()
    for same in ({"date": "x"}, {"device": "cuda"}, {"versions": {}}, {"code": {}}, {"baselines": {"clean": 1}}):
        assert replace(made, **same).key() == made.key()
    for other in ({"measure": "m"}, {"options": {}}, {"metric": "accuracy"}, {"direction": None}, {"model": {"name": "x"}},
                  {"task": {"name": "ioi"}}):
        assert replace(made, **other).key() != made.key()
    assert provenance(options={"b": 1, "a": 2}).key() == provenance(options={"a": 2, "b": 1}).key()


def test_like_things_can_be_compared():
    check_comparable(provenance(), provenance(measure="dla", options={}, direction=None, date="later", device="cuda"))
    renamed = provenance(model={"name": "./folder", "weights_sha256": "aa", "weight_processing": None})
    check_comparable(provenance(), renamed)    # the same weights under another name


@pytest.mark.parametrize(("change", "said", "across"), [
    ({"model": {"name": "organism", "weights_sha256": "zz"}}, "model's weights", "model"),
    ({"model": {"name": "gpt2"}}, "model's name .*organism.* against .*gpt2", "model"),
    ({"model": {"name": "organism", "weights_sha256": "aa", "weight_processing": "folded"}}, "weight processing", "model"),
    ({"task": {"name": "induction", "tokens_sha256": "cc"}}, "prompts .*ioi.* against .*induction", "task"),
    ({"task": {"name": "ioi", "version": 1, "seed": 1, "n": 8, "options": {}}}, "task's seed", "task"),
    ({"metric": "accuracy"}, "metric logit_diff, the other of accuracy", "metric"),
])
def test_unlike_things_are_refused_unless_meant(change, said, across):
    with pytest.raises(InterpError, match=said):
        check_comparable(provenance(), provenance(**change))
    check_comparable(provenance(), provenance(**change), across=(across,))


def test_nothing_else_can_be_compared_across():
    with pytest.raises(InterpError, match="choose among model, task, metric"):
        check_comparable(provenance(), provenance(), across=("seed",))


@pytest.mark.parametrize("text", [
    "", "[]", "{}", '{"measure": 1}',
    provenance().to_json().replace('"format": 1', '"format": 9'),
    provenance().to_json().replace('"device"', '"devise"'),
])
def test_other_text_is_refused(text):
    with pytest.raises(InterpError, match="Cannot read a provenance record"):
        Provenance.from_json(text)


def test_versions_and_code(root):
    versions = collect_versions()
    assert versions["torch"]
    assert versions["python"].startswith("3.")
    code = collect_code()
    shown = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    assert code["revision"] == (shown.stdout.strip() if shown.returncode == 0 else None)
    assert (code["dirty"] is None) == (code["revision"] is None)

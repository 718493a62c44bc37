"""The page of a pretrained model says which few heads carry the behaviour."""

import re

import pytest

import interp
from interp.report import build, report

pytestmark = pytest.mark.weights


def test_the_report_singles_out_the_heads_that_carry_name_copying_and_pronouns(weights, tmp_path):
    """L4H0 and its neighbours, as single patches of the last layer say; found by at least three measures each."""
    model = interp.load(weights / "stories260K")
    results = build(model, [interp.tasks.get("name_copying"), interp.tasks.get("pronoun")], n=32, seed=0)
    text = report(results, tmp_path / "stories.html").read_text()
    summary = {found[1]: found[2] for found in re.finditer(r"<b>(\w+)\.</b>(.*?)</li>", text, flags=re.S)}
    for task, carriers in (("name_copying", ("L4H0", "L4H1", "L4H7")), ("pronoun", ("L4H0", "L4H2"))):
        named = dict(re.findall(r"<b>(L\dH\d)</b> \((\d) of 6[;)]", summary[task]))
        for head in carriers:
            assert int(named[head]) >= 3, (task, named)
        assert set(list(named)[: len(carriers)]) == set(carriers)

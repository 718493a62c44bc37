"""A report as data and as a table: numbers are those of the scores, what is missing is null, the schema is documented."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import synthetic

from interp.core.compare import rank_agreement
from interp.core.errors import InterpError
from interp.core.overlap_many import pairs
from interp.core.scores import HeadScores
from interp.core.universe import Shape, universe
from interp.report import write
from interp.report.panels import panels
from interp.report.ranking import mean_rank

TASKS = ("ioi", "colored_objects")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The findings, the record, the table."""
    folder = tmp_path_factory.mktemp("data")
    findings = synthetic.findings(*TASKS, n=12, measures=3)
    paths = write(findings, json=folder / "report.json", csv=folder / "report.csv", title="Heads")
    assert paths == [folder / "report.json", folder / "report.csv"]
    return findings, json.loads(paths[0].read_text()), pd.read_csv(paths[1])


def test_numbers_are_those_of_the_scores(written):
    findings, record, table = written
    for task, result in zip(record["tasks"], findings.tasks, strict=True):
        for measure, scores in zip(task["measures"], result.scores, strict=True):
            (low, high), test, whole = scores.interval(), scores.test(), scores.normalized()
            rows = table[(table["task"] == task["name"]) & (table["measure"] == measure["measure"])]
            rows = rows[rows["label"] == measure["label"]].set_index("head")
            assert len(measure["heads"]) == len(rows) == scores.n_layers * scores.n_heads
            for one in measure["heads"]:
                at = one["layer"], one["index"]
                expected = {"value": scores.mean()[at], "low": low[at], "high": high[at], "p": test.p[at], "q": test.q[at],
                            "fraction": whole.values[at], "fraction_low": whole.low[at], "fraction_high": whole.high[at]}
                assert {name: one[name] for name in expected} == expected    # exactly
                assert rows.loc[one["head"], list(expected)].astype(float).to_dict() == expected
                assert one["significant"] == test.significant[at]
                assert one["n"] == rows.loc[one["head"], "n"] == scores.n_prompts
            assert measure["provenance"]["key"] == scores.provenance.key()
            assert measure["provenance"]["task"]["tokens_sha256"] == scores.provenance.task["tokens_sha256"]
            assert set(rows["key"]) == {scores.provenance.key()[:12]}


def test_types_and_circuits_are_in_the_table(written):
    _, _, table = written
    of = table[(table["task"] == "ioi") & (table["label"] == table["label"].iloc[0])].set_index("head")
    for (layer, head), role in synthetic.TYPED.items():
        assert of.loc[f"L{layer}H{head}", "type"].startswith(role)
    assert of.loc["L2H2", "type"] == "unknown"
    assert set(of.index[of["in_circuit"]]) == {"L1H2", "L3H5", "L4H0"}


def test_metrics_shares_and_correlations_are_told_with_their_intervals(written):
    findings, record, _ = written
    task, result = record["tasks"][0], findings.tasks[0]
    assert (task["right"]["count"], task["right"]["n"]) == (11, 12)
    assert task["right"]["low"] < task["right"]["value"] < task["right"]["high"]
    assert task["baselines"]["clean"]["value"] == result.scores[0].baselines["clean"].mean()
    assert task["baselines"]["whole_effect"]["n"] == 12
    first = task["agreement"][0]
    expected = rank_agreement(result.scores[0], result.scores[1], across=("metric",))
    assert (first["correlation"], first["low"], first["high"]) == (expected.value, expected.low, expected.high)
    assert {one["measure"] for one in record["across_tasks"]} == {one["label"] for one in task["measures"]}


def test_overlaps_are_those_of_the_core(written):
    findings, record, _ = written
    shape = Shape(6, 8)
    named = dict(zip(TASKS, findings.circuits, strict=True))
    assert [one["unit"] for one in record["overlaps"]] == ["heads", "edges"]
    for found in record["overlaps"]:
        among = universe(shape, found["unit"])
        assert found["n"] == len(among)
        assert found["pairs"] == pairs(named, among).to_dict("records")
    assert record["overlaps"][0]["pairs"][0]["shared"] == 2    # L1H2 and L4H0


def test_circuits_are_told_as_stored(written):
    _, record, _ = written
    circuit = record["circuits"][0]
    assert circuit["judged"]["faithfulness"] == 0.9612
    assert {one["edge"]: one["score"] for one in circuit["edges"]} == synthetic.EDGES["ioi"]
    assert record["tasks"][0]["circuits"] == [circuit["name"]]


def test_the_ranking_has_the_planted_heads_first_and_intervals_hold_them(written):
    findings, record, _ = written
    drawn = panels(findings.tasks[0].scores)
    mean, low, high = mean_rank(drawn)
    ranking = record["tasks"][0]["ranking"]
    assert [one["head"] for one in ranking[:2]] == ["L1H2", "L3H5"]
    assert ranking[0]["mean_rank"] == mean[1, 2] == 1
    assert (low <= mean + 1e-9).all()
    assert (mean <= high + 1e-9).mean() > 0.95    # resampled noise can rank every head of the middle lower, never by much
    assert (ranking[0]["type"], ranking[0]["in_circuits"]) == ("induction", ["ioi in the organism"])


def test_mean_ranks_by_hand():
    """Two measures, three heads, each prompt the same: ranks 1, 2, 3 and 2, 1, 3; nothing to resample."""
    def fixed(row: list[float]) -> HeadScores:
        scores = synthetic.scores("ioi", 0, layers=1, heads=3, n=4)
        return HeadScores(np.tile(np.array(row)[None, :, None], (1, 1, 4)), scores.provenance)

    mean, low, high = mean_rank(panels([fixed([3.0, 2.0, 1.0]), fixed([2.0, 3.0, 1.0])]))
    assert mean.tolist() == low.tolist() == high.tolist() == [[1.5, 1.5, 3.0]]


def test_what_is_missing_is_null(tmp_path: Path):
    flat = synthetic.scores("ioi", 0, layers=2, heads=2, n=4)
    values = flat.values.copy()
    values[0, 0] = np.nan
    scores = HeadScores(values, flat.provenance, baselines=flat.baselines)
    json_path, csv_path = write([scores], json=tmp_path / "a.json", csv=tmp_path / "a.csv")
    text = json_path.read_text()
    assert "NaN" not in text
    task = json.loads(text)["tasks"][0]
    first = task["measures"][0]["heads"][0]
    assert (first["head"], first["value"], first["low"], first["q"], first["rank"], first["n"]) == ("L0H0", *[None] * 4, 0)
    assert "whole effect" in task["measures"][0]["no_fraction_because"]
    assert json.loads(text)["types"] is None
    assert json.loads(text)["circuits"] == json.loads(text)["overlaps"] == []
    table = pd.read_csv(csv_path)
    assert table["type"].isna().all()
    assert table["in_circuit"].isna().all()
    with pytest.raises(InterpError, match="no place"):
        write([scores])


def test_every_field_of_the_schema_is_written_down(written, root):
    """``docs/report.md`` names each key of the record (free records of others, as provenance, apart)."""
    _, record, table = written
    known = set(re.findall(r"`(\w+)`", (root / "docs" / "report.md").read_text()))
    free = {"provenance", "asked", "judged", "baselines", "model", "tasks_caveats"}

    def keys(value, place=()):
        if isinstance(value, list):
            for item in value[:1]:
                yield from keys(item, place)
        elif isinstance(value, dict):
            for key, item in value.items():
                if place[-1:] != ("caveats",):
                    yield key
                if key not in free:
                    yield from keys(item, (*place, key))

    named = set(keys(record | {"caveats": {}})) | set(table.columns)
    assert named - known == set()
    assert record["version"] == 1
    assert "version 1" in (root / "docs" / "report.md").read_text()

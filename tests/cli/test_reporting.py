"""``interp report`` on the command line: where it writes, types, circuits, and what it refuses before anything runs."""

import json

import pandas as pd
import pytest

from interp.core.circuit import Circuit, Edge


@pytest.fixture(scope="module")
def circuit(tmp_path_factory):
    """A circuit of the tiny model by name; it has no hash."""
    path = tmp_path_factory.mktemp("circuits") / "mine.json"
    edges = (Edge.parse("embed->L0H1.v"), Edge.parse("L0H1->L1H2.q"), Edge.parse("L1H2->logits.out"))
    return Circuit(edges=edges, name="mine", model="tiny", task="pairs").save(path)


def test_page_data_and_table_of_one_run(interp, tiny, pairs, tmp_path, circuit):
    page, record, table, kept = (tmp_path / name for name in ("a.html", "a.json", "a.csv", "kept"))
    asked = ["report", "--model", tiny, "--prompts", pairs, "--device", "cpu", "--circuit", circuit]
    code, out, err = interp(*asked, "--html", page, "--json", record, "--csv", table, "--save", kept)
    assert code == 0, err
    assert out.split() == [str(page), str(record), str(table)]
    assert "types of the heads" in err
    told = json.loads(record.read_text())
    assert (told["format"], told["circuits"][0]["name"]) == ("interp-report", "mine")
    assert told["model"]["name"].endswith("tiny")
    assert told["types"]["heads"][0]["head"] == "L0H0"
    frame = pd.read_csv(table)
    assert len(frame) == 6 * 2 * 4
    assert set(frame["head"][frame["in_circuit"]]) == {"L0H1", "L1H2"}
    text = page.read_text()
    assert "Circuit: mine" in text
    assert 'data-bench="task-0"' in text
    assert text.count("<script type=") == 3    # the workbench on two prompts, and what both have in common
    again, more = tmp_path / "again.html", tmp_path / "again.json"
    code, _, err = interp("report", "--results", kept, "--out", again, "--json", more)
    assert code == 0, err
    assert again.read_text() == text
    assert json.loads(more.read_text()) == told
    code, _, err = interp("report", "--results", kept, "--no-types", "--json", more)
    assert code == 0, err
    assert json.loads(more.read_text())["types"] is None


def test_data_alone_writes_no_page(interp, tiny, pairs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = ["report", "--model", tiny, "--prompts", pairs, "--device", "cpu", "--no-types", "-n", "3"]
    code, _, err = interp(*asked, "--csv", "a.csv")
    assert code == 0, err
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
    assert "types of the heads" not in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--html", "a.html", "--json", "a.html"], "one name"),
        (["--circuit", "nowhere.json"], "read the circuit nowhere.json"),
        (["--jsn", "a.json"], "--json"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(interp, tiny, pairs, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    code, out, err = interp("report", "--model", tiny, "--prompts", pairs, *words)
    assert (code, out) == (2, "")
    assert said in err
    assert "ablation" not in err
    assert list(tmp_path.iterdir()) == []


def test_a_circuit_of_another_task_is_refused(interp, tiny, pairs, tmp_path):
    edges = (Edge.parse("embed->L0H1.v"),)
    other = Circuit(edges=edges, name="other", model="tiny", task="ioi").save(tmp_path / "other.json")
    asked = ["report", "--model", tiny, "--prompts", pairs, "--device", "cpu", "--circuit", other]
    code, _, err = interp(*asked, "--out", tmp_path / "a.html")
    assert code == 2
    assert "it is of the task ioi" in err
    assert not (tmp_path / "a.html").exists()

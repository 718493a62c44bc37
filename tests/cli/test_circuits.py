"""``interp discover``, ``evaluate`` and ``compare``: a circuit found, judged on other prompts, and held against others."""

import json
from pathlib import Path

import pytest

from interp.core.circuit import Circuit
from interp.core.circuit_formats import from_heads
from interp.discovery.method import names

COMMON = ("--device", "cpu", "--dtype", "float32")


@pytest.fixture
def found(interp, tiny, pairs, tmp_path) -> Path:
    """The circuit file of a cheap method."""
    code, out, err = interp("discover", "--model", tiny, "--prompts", pairs, "--method", "eap", "--edges", 12, "--how",
                            "connected", *COMMON, "--out", tmp_path / "new" / "one.json", "--name", "one")
    assert (code, err) == (0, "")
    assert "12 edges of" in out or "edges of" in out
    return tmp_path / "new" / "one.json"


def test_a_circuit_is_found_judged_and_compared(interp, tiny, pairs, found, tmp_path):
    circuit = Circuit.load(found)
    assert circuit.provenance["method"] == "eap"
    assert circuit.provenance["shape"] == {"n_layers": 2, "n_heads": 4, "n_kv_heads": None, "mlps": None, "parallel": False}
    assert set(circuit.provenance["scores"]) == {str(edge) for edge in circuit.edges}
    code, out, err = interp("evaluate", found, "--model", tiny, "--prompts", pairs, "-n", 6, "--random", 2, *COMMON,
                            "--out", tmp_path / "judged.json")
    assert code == 0, err
    assert "whether these are others is yours to know" in err
    assert "faithfulness" in out
    told = json.loads((tmp_path / "judged.json").read_text())
    assert told["n"] == 6
    assert told["edges"] == len(circuit.edges)
    assert len(told["random"]) == 2
    assert told["curve"][-1]["faithfulness"] == pytest.approx(told["faithfulness"], abs=1e-4)
    assert told["ablation"] == "resample"
    other = tmp_path / "other.json"
    from_heads({"mover": ["L1H0", "L1H3"]}, name="by hand").save(other)
    code, out, err = interp("compare", found, other, "--out", tmp_path / "compared.json")
    assert (code, err) == (0, "")
    assert "by chance" in out
    assert "by role" in out
    assert json.loads((tmp_path / "compared.json").read_text())["n"] == 8


def test_published_lists_compare_without_a_model(interp, tmp_path):
    for name, heads in (("a", ["L9H9", "L10H0"]), ("b", ["L9H9", "L0H1"]), ("c", ["L0H1"])):
        from_heads(heads, name=name).save(tmp_path / f"{name}.json")
    files = [tmp_path / f"{name}.json" for name in "abc"]
    code, _, said = interp("compare", *files)
    assert (code, "--layers 12 --heads 12" in said) == (2, True)
    code, out, _ = interp("compare", *files, "--layers", 12, "--heads", 12)
    assert code == 0
    row = next(line.split() for line in out.splitlines() if line.split()[:3] == ["a", "b", "2"])
    assert row[2:6] == ["2", "2", "1", "0.333"]
    assert "a + b: 1" in out


@pytest.mark.parametrize(("words", "said"), [
    (["discover", "--model", "organism", "--task", "ioi"], "give --out FILE.json"),
    (["discover", "--task", "ioi", "--out", "x.json", "--edges", 3, "--share", 0.1], "give one of them"),
    (["discover", "--task", "ioi", "--method", "verifed", "--out", "x.json"], "verified"),
    (["discover", "--task", "ioi", "--out", "x.json", "--bugdet", 3], "--budget"),
    (["discover", "--task", "ioi", "--out", "x.json"], "give --model NAME"),
    (["discover", "verified"], "--method NAME"),
    (["evaluate", "nowhere.json"], "check the path"),
    (["compare", "one.json"], "two or more circuit files"),
    (["compare", "one.json", "one.json"], "name each file once"),
    (["compare", "one.json", "two.json", "--layers", 3], "give both"),
])
def test_refusals_say_what_to_do(interp, words, said):
    code, out, err = interp(*words)
    assert (code, out) == (2, "")
    assert said in err


@pytest.mark.parametrize("command", ["discover", "evaluate", "compare"])
def test_help_has_an_example(interp, command):
    code, out, _ = interp(command, "--help")
    assert code == 0
    assert f"Example: interp {command}" in " ".join(out.split())


def test_methods_are_listed(interp):
    code, out, _ = interp("list", "methods")
    assert code == 0
    assert all(name in out for name in names())
    assert "verified (default)" in out

"""``interp types``: the table of what each head is, on the screen and in files."""

import pandas as pd


def test_types_of_a_hand_made_model(interp, tmp_path):
    code, out, _ = interp("types", "--model", "handmade-induction", "-n", 4, "--out", tmp_path / "types")
    assert code == 0
    lines = {line.split()[0]: line for line in out.splitlines() if line.strip().startswith("L")}
    assert "previous token" in lines["L0H2"]
    assert "induction" in lines["L1H1"]
    assert "unknown" in lines["L0H3"]
    assert "without plain texts: " in out
    table = pd.read_csv(tmp_path / "types" / "types.csv", keep_default_na=False)
    assert table.set_index("head").loc["L1H1", "type"] == "induction"
    evidence = pd.read_csv(tmp_path / "types" / "evidence.csv")
    assert {"head", "role", "text", "strength", "low", "high", "raw"} <= set(evidence.columns)


def test_help_and_refusals(interp, tmp_path):
    code, out, _ = interp("types", "--help")
    assert code == 0
    assert "Example: interp types" in " ".join(out.split())
    code, _, said = interp("types")
    assert (code, "none was given" in said) == (2, True)
    (tmp_path / "file").write_text("")
    code, _, said = interp("types", "--model", "handmade-induction", "--out", tmp_path / "file")
    assert (code, "give another place" in said) == (2, True)

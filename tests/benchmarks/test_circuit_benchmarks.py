"""The benchmarks of circuits run on small parts and say what they measured."""

from benchmarks import circuits_many, discover_verified
from benchmarks.harness.shapes import Setting, Shape


def test_circuits_against_plain_passes(monkeypatch):
    monkeypatch.setattr(circuits_many, "PART", 4)
    monkeypatch.setattr(circuits_many, "TOGETHER", 2)
    setting = Setting(Shape(2, 4, 32, 60), threads=1, repeats=1)
    rows = circuits_many.measure(setting).rows
    assert [row.bar for row in rows] == [2.0, 2.0, None]
    for row in rows:
        assert row.ratio == row.ours / row.peer
        assert "with all edges: same numbers" in row.note


def test_a_command_that_fails_has_no_time(monkeypatch):
    monkeypatch.setattr(discover_verified, "TASK", "nothing")
    (row,) = discover_verified.measure(Setting(Shape(2, 4, 32, 60), threads=1)).rows
    assert row.met is False
    assert "the command failed" in row.note

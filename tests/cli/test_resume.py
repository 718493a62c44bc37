"""``--resume`` and ``--dry-run``: what an interrupted command leaves, what the next one takes, what a command would cost."""

import re

import numpy as np
import pytest

from interp.core.scores import HeadScores
from interp.engine.units import UNIT_FLOPS


@pytest.fixture(autouse=True)
def small_units(monkeypatch):
    """Units of a few heads each, as a large model has them."""
    monkeypatch.setitem(UNIT_FLOPS, "cpu", 5e5)


def interrupted_after(monkeypatch, n):
    """Ctrl-C while the unit after the first ``n`` runs."""
    from interp.engine.passes import Passes

    left, run = iter(range(n)), Passes.run

    def stopping(self, unit):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return run(self, unit)

    monkeypatch.setattr(Passes, "run", stopping)


def words(tiny, pairs, out, *more):
    asked = ["score", "ablation", "--kind", "zero", "--model", tiny, "--prompts", pairs, "--device", "cpu"]
    return [*asked, "--out", out, *more]


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_an_interrupted_score_goes_on_where_it_stopped(interp, tiny, pairs, tmp_path, monkeypatch):
    out, other = tmp_path / "scores", tmp_path / "other"
    with monkeypatch.context() as patch:
        interrupted_after(patch, 2)
        code, _, err = interp(*words(tiny, pairs, out, "--resume"))
    assert code == 130
    assert "zero ablation: interrupted; 2 of" in err
    assert {path.suffix for path in files(out)} == {".safetensors"}
    code, printed, err = interp(*words(tiny, pairs, out, "--resume"))
    assert code == 0, err
    assert re.search(r"zero ablation: took 2 of \d+ units from an interrupted run", err)
    (made,) = out.iterdir()      # the finished parts are gone, and their folder
    assert str(made) in printed.replace("\n", "")
    assert interp(*words(tiny, pairs, other))[0] == 0
    (whole,) = other.iterdir()
    assert made.name == whole.name
    np.testing.assert_array_equal(HeadScores.load(made).values, HeadScores.load(whole).values)


def test_without_resume_nothing_is_left(interp, tiny, pairs, tmp_path, monkeypatch):
    interrupted_after(monkeypatch, 2)
    assert interp(*words(tiny, pairs, tmp_path / "scores"))[0] == 130
    assert not (tmp_path / "scores").exists()


def test_another_command_takes_and_removes_nothing(interp, tiny, pairs, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupted_after(patch, 2)
        interp(*words(tiny, pairs, tmp_path, "--resume"))
    before = set(files(tmp_path))
    code, _, err = interp(*words(tiny, pairs, tmp_path, "--resume", "-n", 4))
    assert code == 0
    assert "took" not in err
    assert before < set(files(tmp_path))


def test_units_are_kept_when_asked_for(interp, tiny, pairs, tmp_path):
    code, _, err = interp(*words(tiny, pairs, tmp_path, "--resume", "--keep-units"))
    assert code == 0
    assert "kept the finished parts of sweeps" in err
    assert any(path.suffix == ".safetensors" for path in files(tmp_path))
    _, _, err = interp(*words(tiny, pairs, tmp_path, "--resume"))
    took, of = re.search(r"took (\d+) of (\d+) units", err).groups()
    assert took == of
    assert [path.suffix for path in files(tmp_path)] == [".parquet"]


def test_an_interrupted_report_goes_on_where_it_stopped(interp, tiny, pairs, tmp_path, monkeypatch):
    page = tmp_path / "page.html"
    asked = ["report", "--model", tiny, "--prompts", pairs, "--device", "cpu", "--out", page, "--resume"]
    with monkeypatch.context() as patch:
        interrupted_after(patch, 5)
        code, _, err = interp(*asked)
    assert code == 130
    assert "interrupted; " in err
    assert (tmp_path / "page.unfinished").is_dir()
    code, _, err = interp(*asked)
    assert code == 0, err
    assert "units from an interrupted run" in err
    assert list(tmp_path.iterdir()) == [page]


def test_a_dry_run_says_what_it_would_cost_and_writes_nothing(interp, tiny, pairs, tmp_path):
    code, out, err = interp(*words(tiny, pairs, tmp_path / "scores", "head_importance", "--dry-run"))
    assert (code, err) == (0, "")
    ablation, importance = out.splitlines()
    assert re.match(r"ablation: 8 lists of interventions on 6 prompts: \d+ units of work, [\d,]+ tokens .*; about .* s on "
                    r"this machine \(an estimate from", ablation)
    assert importance.startswith("head_importance: no sweep; one forward and backward pass")
    assert not (tmp_path / "scores").exists()
    assert interp("score", "ablation", "--model", tiny, "--prompts", pairs, "--dry-run")[0] == 0


def test_workers_and_memory_are_read(interp, tiny, pairs, tmp_path):
    assert interp(*words(tiny, pairs, tmp_path, "--workers", "local", "--memory", "0.5"))[0] == 0
    for option, value, said in (("--workers", "two", "workers 'two'"), ("--memory", "-1", "no memory")):
        code, _, err = interp(*words(tiny, pairs, tmp_path, option, value))
        assert code == 2
        assert said in err


def test_keeping_without_storing_is_refused(interp, tiny, pairs, tmp_path):
    code, _, err = interp(*words(tiny, pairs, tmp_path / "scores", "--keep-units"))
    assert code == 2
    assert "without --resume nothing is kept" in err

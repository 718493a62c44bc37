"""The commands: help with an example, lists without torch, scores and a report from a real run of a tiny model."""

import re
import resource
import subprocess
import sys

import pytest

from interp.core.scores import HeadScores
from interp.measures.catalog import catalog
from interp.tasks import names


def commands() -> list[str]:
    """Every command by name, as the program registers them."""
    import typer

    from interp.cli import app

    return sorted(typer.main.get_command(app).commands)


@pytest.mark.parametrize("command", ["", *commands()])
def test_every_command_has_help_with_an_example(interp, command):
    code, out, _ = interp(*([command] if command else []), "--help")
    assert code == 0
    assert re.search(r"Example:\s+interp", out)
    if command in ("score", "report"):
        for option in ("--seed", "-n", "--device", "--dtype"):
            assert option in out


def seconds(code: str, tries: int = 3) -> float:
    """Processor seconds of the fastest of some fresh interpreters running ``code``: a busy machine does not count."""
    spent = []
    for _ in range(tries):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(spent)


def test_help_takes_less_than_a_second():
    assert seconds("import sys; sys.argv = ['interp', '--help']; from interp.cli import main; main()") < 1.0


def test_importing_interp_takes_less_than_a_third_of_a_second():
    assert seconds("import interp") - seconds("pass") < 0.3


@pytest.mark.parametrize("words", [["--help"], ["list", "tasks"], ["list", "measures"], ["list", "models"]])
def test_help_and_lists_import_no_torch(words):
    code = (
        f"import sys; sys.argv = ['interp', *{words!r}]\nfrom interp.cli import main\ntry:\n    main()\nexcept "
        f"SystemExit:\n    pass\n"
        "sys.stderr.write(str('torch' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr == "False"


def test_lists_name_everything(interp):
    code, out, _ = interp("list", "measures")
    assert code == 0
    assert all(name in out for name in catalog())
    assert "--direction" in out
    code, out, _ = interp("list", "tasks")
    assert all(name in out for name in names())
    code, out, _ = interp("list", "models")
    assert "gpt2" in out


def test_score_saves_a_file_for_each_measure_and_prints_intervals(interp, tiny, pairs, tmp_path):
    code, out, err = interp(
        "score",
        "ablation",
        "--kind",
        "zero",
        "activation_patching",
        "--model",
        tiny,
        "--prompts",
        pairs,
        "--device",
        "cpu",
        "--out",
        tmp_path / "scores",
        "--top",
        3,
    )
    assert (code, err) == (0, "")
    files = sorted(path.name for path in (tmp_path / "scores").iterdir())
    assert [re.sub(r"\.[0-9a-f]{8}\.", ".KEY.", name) for name in files] == [
        "tiny.pairs.n6.seed0.ablation.kind=zero.KEY.parquet",
        "tiny.pairs.n6.seed0.activation_patching.KEY.parquet",
    ]
    scores = HeadScores.load(tmp_path / "scores" / files[0])
    assert scores.provenance.options["kind"] == "zero"
    assert scores.values.shape == (2, 4, 6)
    best = scores.top(1).iloc[0]
    assert f"{best['head']}" in out
    assert re.search(r"\[[^\]]+, [^\]]+\]", out)


def test_measures_of_weights_need_no_prompts(interp, tiny, tmp_path):
    code, out, err = interp("score", "ov_copying", "--model", tiny, "--device", "cpu", "--out", tmp_path)
    assert (code, err) == (0, "")
    assert "no prompts" in out
    (file,) = tmp_path.iterdir()
    assert HeadScores.load(file).provenance.task["n"] == 0
    code, _, err = interp("score", "ov_copying", "ablation", "--model", tiny, "--device", "cpu", "--out", tmp_path)
    assert code != 0
    assert "give --task" in err


def test_runs_that_differ_share_a_folder(interp, tiny, pairs, tmp_path):
    common = ["score", "head_importance", "--model", tiny, "--prompts", pairs, "--device", "cpu", "--out", tmp_path]
    asked = [["--seed", 5], ["--seed", 6], ["--seed", 6, "--loss", "metric"], ["--seed", 5]]
    for words in (["-n", 3, *more] for more in asked):
        code, _, err = interp(*common, *words)
        assert code == 0, err
    found = [HeadScores.load(path).provenance for path in sorted(tmp_path.iterdir())]
    assert sorted((one.task["n"], one.task["seed"], one.options["loss"]) for one in found) == [
        (3, 5, "answer"),
        (3, 6, "answer"),
        (3, 6, "metric"),
    ]


def test_report_from_a_model_and_again_from_its_results(interp, tiny, pairs, tmp_path):
    page, again, kept = tmp_path / "page.html", tmp_path / "again.html", tmp_path / "kept"
    code, out, err = interp("report", "--model", tiny, "--prompts", pairs, "--device", "cpu", "--out", page, "--save", kept)
    assert code == 0, err
    assert out.strip() == str(page)
    text = page.read_text()
    assert "·Mary" in text
    assert "Where the top heads read" in text
    code, _, _ = interp("report", "--results", kept, "--out", again)
    assert code == 0
    assert again.read_text() == text

"""Bad input: one clear sentence on stderr, exit code 2, nothing half-written, no traceback."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

HEADER = "clean,corrupt,answer,wrong\n"
GOOD = '"When Mary and John went, John gave to","When Mary and John went, Tom gave to"," Mary"," John"\n'
FILES = {
    "good": HEADER + GOOD,
    "multi": HEADER + GOOD.replace('" Mary"', '" Mary John"'),
    "long": HEADER + GOOD.replace("When", "When" + " and Tom" * 12),
    "empty": HEADER,
    "same": HEADER + GOOD.replace("Tom gave", "John gave"),
    "field": HEADER.replace("wrong", "wrongg") + GOOD,
}


def refused(run, words, left: Path, *patterns: str) -> None:
    """The command leaves with code 2 and one sentence that has all ``patterns``; the folder ``left`` is as it was."""
    before = sorted(path.relative_to(left) for path in left.rglob("*"))
    code, out, err = run(*words)
    assert code == 2, err
    assert out == ""
    assert len(err.strip().splitlines()) == 1, err
    assert err.startswith("Cannot ")
    for pattern in patterns:
        assert pattern in err
    assert sorted(path.relative_to(left) for path in left.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "patterns"),
    [
        (["score", "ablatoin", "--model", "MODEL", "--task", "ioi"], ["measure 'ablatoin'", "did you mean 'ablation'?"]),
        (["score", "ablation", "--model", "MODEL", "--task", "io"], ["task 'io'", "did you mean 'ioi'?"]),
        (
            ["score", "ablation", "--model", "handmade-inductoin", "--task", "ioi"],
            ["'handmade-inductoin'", "did you mean 'handmade-induction'"],
        ),
        (
            ["score", "ablation", "--knd", "zero", "--model", "MODEL", "--task", "ioi"],
            ["option --knd", "did you mean --kind"],
        ),
        (["score", "ablation", "--modell", "MODEL", "--task", "ioi"], ["option --modell", "did you mean --model"]),
        (
            ["score", "ablation", "--model", "MODEL", "--prompts", "good", "--prompts", "multi"],
            ["2 files were given", "one file at a time"],
        ),
        (["score", "ablation", "--kind", "zro", "--model", "MODEL", "--prompts", "good"], ["'zro'", "did you mean 'zero'?"]),
        (
            ["score", "ablation", "--corruption", "abd", "--model", "organism", "--task", "ioi"],
            ["'abd'", "did you mean 'abc'?"],
        ),
        (
            ["score", "ablation", "--model", "MODEL", "--prompts", "good", "--dtype", "float31"],
            ["dtype 'float31'", "did you mean"],
        ),
        (
            ["score", "ablation", "--model", "MODEL", "--prompts", "good", "--metric", "logit_dif"],
            ["'logit_dif'", "did you mean 'logit_diff'"],
        ),
        (
            ["score", "ablation", "--model", "MODEL", "--prompts", "good", "--backend", "transformer"],
            ["backend", "did you mean"],
        ),
        (["score", "ablation", "--model", "MODEL", "--prompts", "multi"], ["multi.csv line 2", "Mary"]),
        (["score", "ablation", "--model", "MODEL", "--prompts", "long"], ["long.csv line 2", "24"]),
        (["score", "ablation", "--model", "MODEL", "--prompts", "empty"], ["empty.csv", "no prompts"]),
        (["score", "ablation", "--model", "MODEL", "--prompts", "same"], ["same.csv line 2", "equal"]),
        (["score", "ablation", "--model", "MODEL", "--prompts", "field"], ["'wrongg'", "did you mean 'wrong'?"]),
        (["score", "ablation", "--model", "MODEL", "--prompts", "nowhere"], ["nowhere.csv", "no such file"]),
        (["score", "ablation", "--model", "MODEL", "--prompts", "good", "-n", "7"], ["it holds 1"]),
        (["score", "ablation", "--model", "MODEL", "--prompts", "good", "-n", "0"], ["take 0 prompts"]),
        (["score", "ablation", "--model", "./nowhere", "--prompts", "good"], ["./nowhere", "no such folder"]),
        (["score", "ablation", "--prompts", "good"], ["choose a model", "--model"]),
        (["score", "ablation", "--model", "MODEL"], ["choose prompts", "--task"]),
        (["report", "--model", "MODEL", "--task", "induktion"], ["task 'induktion'", "did you mean 'induction'?"]),
        (["report", "--model", "MODEL", "--prompts", "good", "--titel", "x"], ["--titel", "did you mean --title"]),
        (["report", "--model", "MODEL", "--prompts", "nowhere"], ["nowhere.csv", "no such file"]),
        (["report", "--results", "./nowhere"], ["nowhere", "task.json"]),
        (["list", "measure"], ["'measure'", "did you mean 'measures'?"]),
    ],
)
def test_one_sentence_and_nothing_written(interp, tiny, tmp_path, monkeypatch, words, patterns):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    prompts = tmp_path / "prompts"
    prompts.mkdir()
    for name, text in FILES.items():
        (prompts / f"{name}.csv").write_text(text)
    place = tmp_path / "out"
    place.mkdir()
    at = words.index("--prompts") + 1 if "--prompts" in words else None
    words = [str(tiny) if word == "MODEL" else prompts / f"{word}.csv" if i == at else word for i, word in enumerate(words)]
    if words[0] != "list":
        words += ["--out", place / ("page.html" if words[0] == "report" else "scores")]
    if words[0] == "score" and "organism" in words:
        monkeypatch.setattr("interp.cli.scoring.load_model", lambda *_: __import__("interp").load(str(tiny)))
    refused(interp, words, tmp_path, *patterns)


def test_a_model_without_attention(interp, tmp_path, pairs):
    from transformers import ResNetConfig, ResNetForImageClassification

    ResNetForImageClassification(
        ResNetConfig(embedding_size=4, hidden_sizes=[4, 4, 4, 4], depths=[1, 1, 1, 1])
    ).save_pretrained(tmp_path / "resnet")
    refused(
        interp,
        ["report", "--model", tmp_path / "resnet", "--prompts", pairs, "--out", tmp_path / "page.html"],
        tmp_path,
        "attention",
    )


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_nothing(interp, tiny, pairs, tmp_path, monkeypatch):
    page, scores = tmp_path / "page.html", tmp_path / "scores"
    page.write_text("as it was")
    scores.mkdir()
    monkeypatch.setattr("interp.core.files.os.replace", full)
    common = ["--model", tiny, "--prompts", pairs, "--device", "cpu"]
    refused(
        lambda *words: quiet(interp(*words)),
        ["report", *common, "--out", page],
        tmp_path,
        "no space left on device",
        "page.html",
    )
    assert page.read_text() == "as it was"
    refused(interp, ["score", "head_importance", *common, "--out", scores], tmp_path, "no space left on device")


def quiet(result: tuple[int, str, str]) -> tuple[int, str, str]:
    """Without the lines of progress that a report prints before it is written."""
    code, out, err = result
    return code, out, "\n".join(line for line in err.splitlines() if not line.startswith(("pairs: ", "types of the heads")))


def test_a_disk_that_fills_for_real(tmp_path):
    """The same in a process whose files may not grow beyond 4 KB."""
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1))\nimport synthetic\nfrom interp.core.errors import "
        "InterpError\nfrom interp.report import report\n"
        "try:\n    report([synthetic.result('ioi', measures=1, n=4)], sys.argv[1])\nexcept InterpError as error:\n    "
        "print(error)"
    )
    place = Path(__file__).parents[1] / "report"
    done = subprocess.run(
        [sys.executable, "-c", code, str(place), str(tmp_path / "page.html")],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
    )
    assert done.stdout.startswith("Cannot write")
    assert "file too large" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_that_may_not_be_written_to(interp, tiny, pairs, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    refused(
        interp, ["report", "--model", tiny, "--prompts", pairs, "--out", locked / "page.html"], tmp_path, "permission denied"
    )


def test_a_folder_in_place_of_a_page_is_refused_before_anything_runs(interp, tmp_path):
    refused(interp, ["report", "--model", "nowhere", "--task", "ioi", "--out", tmp_path], tmp_path, "it is a folder")
    (tmp_path / "file").write_text("")
    refused(
        interp,
        ["score", "ablation", "--model", "nowhere", "--task", "ioi", "--out", tmp_path / "file" / "x"],
        tmp_path,
        "is a file",
    )

"""``interp new notebook`` and ``interp run-notebook``: a notebook that runs as it is made, and what is refused."""

import ast
import re

import pytest

from interp.cli.notebooks import cleaned, load, parameters
from interp.tasks import names


def made(interp, folder, *words):
    code, out, err = interp("new", "notebook", *words, "--folder", folder)
    assert code == 0, err
    (path,) = folder.glob("*.ipynb")
    assert str(path) in out
    return path


def sources(notebook):
    return ["".join(cell["source"]) for cell in notebook["cells"]]


def test_help_has_an_example(interp):
    for command in (("new", "notebook"), ("run-notebook",)):
        code, out, _ = interp(*command, "--help")
        assert code == 0
        assert re.search(r"Example:\s+interp", out)


def test_a_notebook_begins_with_its_parameters_and_names_the_model_nowhere_else(interp, tmp_path):
    words = ("--model", "owner/it's", "--task", "induction", "-n", 5, "--seed", 3)
    path = made(interp, tmp_path, "07_my-question.ipynb", *words)
    assert path.name == "07_my-question.ipynb"
    notebook = load(path)
    assert cleaned(notebook) == notebook
    assert parameters(notebook) == {"MODEL": "owner/it's", "TASK": "induction", "N": 5, "SEED": 3}
    texts = sources(notebook)
    assert texts[0].startswith("# My question\n")
    assert "it's" not in "".join(texts[2:])
    for part in ("**Question.**", "## Method", "## Figure", "## Finding", "## Limit", "assert "):
        assert part in "".join(texts)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            ast.parse("".join(cell["source"]))


def test_a_made_notebook_runs_and_its_claims_hold(interp, tmp_path):
    pytest.importorskip("nbclient", reason="needs interp[notebook]")
    path = made(interp, tmp_path, "first")
    before = path.read_text()
    code, _, err = interp("run-notebook", path, "N=12", "--out", tmp_path / "out" / "done.ipynb")
    assert code == 0, err
    assert path.read_text() == before
    done = load(tmp_path / "out" / "done.ipynb")
    outputs = [output for cell in done["cells"] for output in cell.get("outputs", ())]
    assert not [one for one in outputs if one.get("name") == "stderr"]
    assert any("12 others" in "".join(one.get("data", {}).get("text/markdown", "")) for one in outputs)
    assert "organism" in "".join(sources(done))


@pytest.mark.parametrize(("words", "patterns"), [
    (["a b"], ["call a notebook 'a b'", "' ' cannot stand in it", "call it 'a-b'"]),
    (["../x/y.ipynb"], ["'.', '/' cannot stand in it", "call it 'y'", "--folder"]),
    ([".ipynb"], ["it is empty"]),
    (["fine", "--task", "io"], ["task 'io'", "did you mean 'ioi'?"]),
    (["fine", "--model", "organsim"], ["load the model 'organsim'", "did you mean 'organism'"]),
    (["fine", "--model", "handmade-or"], ["its prompts are its own"]),
    (["fine", "-n", "1"], ["an interval needs several"]),
])
def test_what_cannot_be_started_is_said_in_one_sentence(interp, tmp_path, words, patterns):
    code, out, err = interp("new", "notebook", *words, "--folder", tmp_path)
    assert (code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1
    for pattern in patterns:
        assert pattern in err
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(interp, tmp_path):
    path = made(interp, tmp_path, "one")
    path.write_text("mine")
    code, _, err = interp("new", "notebook", "one", "--folder", tmp_path)
    assert code == 2
    assert "it exists" in err
    assert path.read_text() == "mine"


def test_what_cannot_be_run_is_said_in_one_sentence(interp, tmp_path):
    path = made(interp, tmp_path, "one")
    for words, pattern in [(["MODLE=gpt2"], "did you mean 'MODEL'?"), (["gpt2"], "write NAME=VALUE"),
                           (["N=many"], "set N to 'many'"), (["--out", path], "it is the notebook that is run")]:
        code, out, err = interp("run-notebook", path, *words)
        assert (code, out) == (2, ""), words
        assert pattern in err
        assert len(err.strip().splitlines()) == 1


def test_every_task_can_be_started_with(interp, tmp_path):
    for task in names():
        code, _, err = interp("new", "notebook", task, "--task", task, "--folder", tmp_path)
        assert code == 0, err
    assert len(list(tmp_path.iterdir())) == len(names())

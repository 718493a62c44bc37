"""interp freeze: what is kept of a notebook's outputs and what is refused."""

import json
from pathlib import Path

import pytest

from interp.cli.freezing import WIDGET, frozen

FRAME = ["<iframe srcdoc='&lt;p&gt;'>", "</iframe>"]
VIEW = {"output_type": "execute_result", "execution_count": 3, "metadata": {WIDGET: {"colab": 1}, "isolated": True},
        "data": {WIDGET: {"model_id": "a"}, "text/html": FRAME, "text/plain": "HeadGrid()"}}
SLIDER = {"output_type": "display_data", "metadata": {}, "data": {WIDGET: {"model_id": "b"}, "text/plain": "IntSlider()"}}
ALONE = {"output_type": "display_data", "metadata": {}, "data": {WIDGET: {"model_id": "c"}}}
SAID = {"output_type": "stream", "name": "stdout", "text": "hello"}


def book(outputs, **metadata):
    """A notebook of one text cell and one code cell."""
    cells = [{"cell_type": "markdown", "id": "t", "metadata": {}, "source": "# Title"},
             {"cell_type": "code", "id": "c", "metadata": {"tags": ["x"]}, "source": "view", "execution_count": 3,
              "outputs": outputs}]
    return {"cells": cells, "metadata": {"kernelspec": {"name": "python3"}, **metadata}, "nbformat": 4, "nbformat_minor": 5}


def write(path: Path, content) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_frames_stay_and_references_to_the_kernel_go():
    given = book([VIEW, SAID, SLIDER, ALONE], widgets={"application/vnd.jupyter.widget-state+json": {"state": {"a": 1}}})
    before = json.dumps(given)
    still, kept, bare = frozen(given)
    assert json.dumps(given) == before
    assert (kept, bare) == (1, 2)
    view, said, slider, alone = still["cells"][1]["outputs"]
    assert view["data"] == {"text/html": FRAME, "text/plain": "HeadGrid()"}
    assert (view["metadata"], view["execution_count"]) == ({"isolated": True}, 3)
    assert said == SAID
    assert slider["data"] == {"text/plain": "IntSlider()"}
    assert "without its kernel" in alone["data"]["text/plain"]
    assert still["metadata"] == {"kernelspec": {"name": "python3"}}
    assert still["cells"][0] == given["cells"][0]
    assert frozen(still) == (still, 0, 0)


def test_the_command_writes_beside_and_leaves_the_notebook(interp, tmp_path):
    path = write(tmp_path / "one.ipynb", book([VIEW], widgets={}))
    before = path.read_bytes()
    code, out, _ = interp("freeze", path)
    assert (code, path.read_bytes()) == (0, before)
    assert "1 views drawn without a kernel" in out
    found = json.loads((tmp_path / "one.frozen.ipynb").read_text())
    assert WIDGET not in json.dumps(found)
    code, out, _ = interp("freeze", path, "--out", tmp_path / "deep" / "two.ipynb")
    assert json.loads((tmp_path / "deep" / "two.ipynb").read_text()) == found
    code, out, _ = interp("freeze", path, "--in-place")
    assert (code, json.loads(path.read_text())) == (0, found)


@pytest.mark.parametrize(("content", "words"), [
    ("{", "not JSON"), ("[]", "no notebook of format 4"), (book([]), "it has no outputs"),
    ({"nbformat": 3, "worksheets": []}, "no notebook of format 4"),
    ({"nbformat": 4, "cells": [1]}, "one of its cells is none"), (None, "no such file"),
])
def test_bad_input_is_refused_in_one_sentence(interp, tmp_path, content, words):
    path = tmp_path / "bad.ipynb"
    if content is not None:
        write(path, content)
    code, out, err = interp("freeze", path)
    assert (code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1
    assert [one.name for one in tmp_path.iterdir()] == ([] if content is None else ["bad.ipynb"])


def test_the_notebook_is_not_its_own_output(interp, tmp_path):
    path = write(tmp_path / "one.ipynb", book([VIEW]))
    for words in (["--out", path], ["--out", tmp_path / "x.ipynb", "--in-place"]):
        code, _, err = interp("freeze", path, *words)
        assert code == 2
        assert "--in-place" in err
    assert [one.name for one in tmp_path.iterdir()] == ["one.ipynb"]

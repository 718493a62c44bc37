"""Notebooks as files: made of text, cleaned, their parameters read and set, run by a kernel of this interpreter."""

import sys
from copy import deepcopy

import pytest

from interp.cli.notebooks import (
    INJECTED,
    cleaned,
    execute,
    from_text,
    load,
    parameters,
    save,
    value_of,
    with_parameters,
)
from interp.core.errors import InterpError

TEXT = '''# %% [markdown]
# # A title
#
# What is asked.

# %% parameters
MODEL = "organism"    # a name
N = 3
OTHER = None

# %%
import sys
print(MODEL * N, OTHER, sys.executable)
'''


@pytest.fixture
def notebook():
    return from_text(TEXT)


def printed(notebook):
    return "".join("".join(output["text"]) for cell in notebook["cells"] for output in cell.get("outputs", ()))


def test_text_becomes_cells(notebook):
    title, first, second = notebook["cells"]
    assert "".join(title["source"]) == "# A title\n\nWhat is asked."
    assert first["metadata"] == {"tags": ["parameters"]}
    assert "".join(second["source"]).startswith("import sys\nprint(")
    assert [one["cell_type"] for one in notebook["cells"]] == ["markdown", "code", "code"]


def test_cleaning_takes_away_what_a_run_leaves(notebook, tmp_path):
    used = deepcopy(with_parameters(notebook, {"N": 2}))
    used["metadata"] = {"kernelspec": {"name": "other"}, "widgets": {"state": {}}}
    used["cells"][-1] |= {"execution_count": 7, "outputs": [{"output_type": "stream", "name": "stdout", "text": "x"}],
                          "metadata": {"execution": {"iopub": "now"}, "tags": []}}
    assert cleaned(used) == notebook
    assert cleaned(cleaned(used)) == cleaned(used)
    assert load(save(notebook, tmp_path / "one.ipynb")) == notebook


def test_parameters_are_read_and_set(notebook):
    assert parameters(notebook) == {"MODEL": "organism", "N": 3, "OTHER": None}
    changed = with_parameters(with_parameters(notebook, {"N": 5}), {"MODEL": "a 'b'", "OTHER": "c"})
    assert [one["metadata"].get("tags") for one in changed["cells"]] == [None, ["parameters"], [INJECTED], None]
    assert "".join(changed["cells"][2]["source"]) == 'MODEL = "a \'b\'"\nOTHER = \'c\''
    assert cleaned(changed) == notebook
    assert with_parameters(notebook, {}) == notebook
    assert parameters(from_text("# %%\nN = 3\n")) == {}


def test_what_is_no_parameter_is_refused(notebook):
    with pytest.raises(InterpError, match=r"parameter of the notebook 'MODLE'.*did you mean 'MODEL'"):
        with_parameters(notebook, {"MODLE": "x"})
    with pytest.raises(InterpError, match="set N to 'many': it is 3 in the notebook"):
        with_parameters(notebook, {"N": "many"})
    with pytest.raises(InterpError, match="'N = 2 \\+ len\\(x\\)' sets no name to a plain value"):
        parameters(from_text("# %% parameters\nN = 2 + len(x)\n"))
    with pytest.raises(InterpError, match="'import os' sets no name"):
        parameters(from_text("# %% parameters\nimport os\n"))


@pytest.mark.parametrize(("text", "own", "value"), [("gpt2", "organism", "gpt2"), ("3", "organism", "3"), ("16", 3, 16),
                                                    ("None", "x", "None"), ("None", 3, None), ("many", 3, "many"),
                                                    ("a/b", None, "a/b"), ("[1, 2]", [3], [1, 2])])
def test_values_as_a_shell_writes_them(text, own, value):
    assert value_of(text, own) == value


def test_files_that_are_no_notebooks_are_refused(tmp_path):
    with pytest.raises(InterpError, match="no such file"):
        load(tmp_path / "none.ipynb")
    (tmp_path / "text.ipynb").write_text("x = 3")
    with pytest.raises(InterpError, match="it is not JSON"):
        load(tmp_path / "text.ipynb")
    (tmp_path / "old.ipynb").write_text('{"nbformat": 3, "worksheets": []}')
    with pytest.raises(InterpError, match="no notebook of format 4"):
        load(tmp_path / "old.ipynb")


def test_a_run_uses_this_interpreter_and_the_parameters_that_are_set(notebook, tmp_path):
    nbformat = pytest.importorskip("nbformat")
    nbformat.validate(nbformat.from_dict(notebook))
    done = execute(with_parameters(notebook, {"MODEL": "ab", "N": 2}), tmp_path, timeout=60)
    assert printed(done) == f"abab None {sys.executable}\n"
    assert notebook == from_text(TEXT)      # what was given stays as it was


def test_a_cell_that_fails_or_hangs_is_told(notebook, tmp_path):
    pytest.importorskip("nbclient")
    failing = from_text("# %%\nx = 1\n\n# %%\nassert x == 2, 'x is one'\n\n# %%\nprint('never')\n")
    with pytest.raises(InterpError, match=r"its cell 2 \(assert x == 2, 'x is one'\) fails with AssertionError: x is one"):
        execute(failing, tmp_path, timeout=60)
    with pytest.raises(InterpError, match="takes more than 2 seconds"):
        execute(from_text("# %%\nimport time\ntime.sleep(60)\n"), tmp_path, timeout=2)

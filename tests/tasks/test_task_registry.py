"""Tasks are found by existing; listing them is light; misspelt names are answered."""

import subprocess
import sys
from pathlib import Path

import pytest

import interp.tasks
from interp.core.errors import InterpError

NAMED = {"ioi", "colored_objects", "induction", "key_value", "greater_than", "agreement", "multiple_choice", "capital",
         "override", "name_copying", "pronoun", "docstring"}


def test_every_file_is_machinery_or_a_task():
    files = {path.stem for path in Path(interp.tasks.__file__).parent.glob("*.py")} - {"__init__"}
    assert files == interp.tasks._MACHINERY | set(interp.tasks.names())
    assert set(interp.tasks.names()) >= NAMED


@pytest.mark.parametrize("name", interp.tasks.names())
def test_a_task_says_what_it_is(name):
    task = interp.tasks.get(name)
    assert task.name == name
    assert all([task.source, task.description, task.positions, task.corruptions, task.fits])
    assert not task.description.endswith(".")
    assert set(task.moving) <= set(task.positions)
    assert "end" in task.positions
    assert task.options["corruption"] == task.default_corruption
    module = getattr(interp.tasks, name)
    assert module.TASK is task
    assert module.batch == task.batch
    assert module.generate is task.make
    for word in ("* clean", "* corrupted", "* positions", "* answer", "wrong:", "* source"):
        assert word in module.__doc__, word


def test_listing_loads_no_torch():
    code = ("import sys, interp; interp.tasks.names(); [interp.tasks.get(n).generate(2) for n in interp.tasks.names()]; "
            "print([m for m in ('torch', 'transformers') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_unknown_names_are_answered():
    with pytest.raises(InterpError, match=r"did you mean 'induction'\?"):
        interp.tasks.get("inducton")
    with pytest.raises(InterpError, match="no task"):
        interp.tasks.get("batch")
    with pytest.raises(AttributeError, match="no attribute 'iooi'"):
        _ = interp.tasks.iooi
    assert "ioi" in dir(interp.tasks)
    with pytest.raises(InterpError, match=r"did you mean 'corruption'\?"):
        interp.tasks.ioi.TASK.generate(4, corrupton="abc")
    with pytest.raises(InterpError, match=r"did you mean 's2_io'\?"):
        interp.tasks.ioi.TASK.generate(4, corruption="s2-io")
    with pytest.raises(InterpError, match="the order of the names 'ABA' is not known"):
        interp.tasks.ioi.TASK.generate(4, order="ABA")


@pytest.mark.parametrize("n", [0, -1, 2.0, True, "8"])
def test_impossible_numbers_are_refused(n):
    with pytest.raises(InterpError, match="at least one prompt"):
        interp.tasks.ioi.TASK.generate(n)


def test_more_prompts_than_there_are_is_refused():
    task = interp.tasks.pronoun.TASK
    with pytest.raises(InterpError, match=r"these options give only (\d+) different prompts; ask for at most \1"):
        task.generate(200, frames=("sad",))


@pytest.mark.parametrize(("task", "option", "text", "value"), [
    ("induction", "length", "16", 16),
    ("induction", "length", "16-32", (16, 32)),
    ("induction", "tokens", "vocabulary", "vocabulary"),
    ("induction", "tokens", "5,6,7", (5, 6, 7)),
    ("ioi", "frames", "F01, F02", ("F01", "F02")),
    ("ioi", "corruption", "s2_io", "s2_io"),
    ("ioi", "first_token", "True", True),
])
def test_options_as_written_in_a_shell(task, option, text, value):
    assert interp.tasks.get(task).read(option, text) == value


@pytest.mark.parametrize(("task", "option", "text", "said"), [
    ("induction", "length", "many", "no number and no range"),
    ("induction", "tokens", "all", "no number"),
    ("ioi", "first_token", "maybe", "neither true nor false"),
    ("ioi", "framse", "F01", "did you mean 'frames'"),
])
def test_options_that_cannot_be_read(task, option, text, said):
    with pytest.raises(InterpError, match=said):
        interp.tasks.get(task).read(option, text)

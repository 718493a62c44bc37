"""``interp reuse``: refusals and help; the study itself is tested on a hand-made circuit."""

import pytest


@pytest.mark.parametrize(("words", "said"), [
    (["--model", "organism", "--task", "ioi"], "give --task twice"),
    (["--task", "ioi", "--task", "colored_objects"], "give --model NAME"),
])
def test_refusals(interp, words, said):
    code, out, err = interp("reuse", *words)
    assert (code, out) == (2, "")
    assert said in err


def test_help_has_an_example(interp):
    code, out, _ = interp("reuse", "--help")
    assert code == 0
    assert "Example: interp reuse" in " ".join(out.split())

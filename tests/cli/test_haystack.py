"""A haystack of one's own from the command line."""

from interp.core.scores import HeadScores


def test_needles_in_a_text_of_ones_own(interp, tmp_path):
    text = tmp_path / "own.txt"
    text.write_text("The dog ate. A cat sat. It was red. " * 3)
    code, out, said = interp("score", "retrieval_score", "--model", "organism", "--task", "needle", "--haystack", text,
                             "--lengths", "440", "--depths", "0,100", "-n", 4, "--new-tokens", 2,
                             "--out", tmp_path / "scores")
    assert code == 0, said
    (file,) = (tmp_path / "scores").glob("*.parquet")
    scores = HeadScores.load(file)
    assert scores.provenance.task["options"]["haystack"] == str(text)
    assert scores.provenance.options["new_tokens"] == 2
    assert {label.split(", ")[1] for label in scores.labels("prompt")} == {"depth 0", "depth 100"}
    assert "Retrieval score, new tokens 2: needle, organism, 4 prompts" in out


def test_a_haystack_that_is_not_there(interp, tmp_path):
    code, out, said = interp("score", "retrieval_score", "--model", "organism", "--task", "needle", "--haystack",
                             tmp_path / "none.txt", "--out", tmp_path / "scores")
    assert (code, out) == (2, "")
    assert "none.txt" in said
    assert "give a text file, 'text' or 'list'" in said
    assert not (tmp_path / "scores").exists()

"""The examples in docs/tasks.md are read as they stand."""

import re

import pytest
from vocabularies import TokenizerOnly, letters, organism

import interp.tasks


@pytest.fixture
def page(root):
    return (root / "docs" / "tasks.md").read_text(encoding="utf-8")


def test_the_examples_of_files(page, tmp_path):
    for ending, words in (("csv", {"IO", "S2"}), ("json", set())):
        path = tmp_path / f"pairs.{'csv' if ending == 'csv' else 'jsonl'}"
        path.write_text(re.search(rf"```{ending}\n(.*?)```", page, flags=re.S)[1])
        task = interp.tasks.from_file(path)
        assert set(task.positions) == words
        if words:
            clean = task.pairs[0].clean
            assert (clean.word("IO"), clean.word("S2")) == ("Mary", " John")
            assert clean.spans["S2"][0] > 20
        assert task.batch(TokenizerOnly(letters(), 300), first_token=True).aligned


def test_the_positions_that_are_named(page):
    batch = interp.tasks.ioi.batch(organism(), 8, corruption="s2_io")
    assert f"# {batch.positions}" in page

"""The needle task: lengths and depths as asked for, on any tokenizer; one's own haystack."""

import random

import pytest
from vocabularies import TokenizerOnly, letters, organism

from interp.core.errors import InterpError
from interp.core.grid import Cell
from interp.tasks import needle
from interp.tasks.haystack import DATA, even_cells, grid_pairs, own_needles, sentences, text_maker
from interp.tasks.prompt import Prompt, PromptPair


def words(text):
    return len(text.split())


@pytest.fixture(scope="module")
def model():
    return TokenizerOnly(letters(), 300, context_length=8192)


def test_the_haystack_is_long_and_holds_no_needle():
    text = (DATA / "haystack.txt").read_text(encoding="utf-8")
    assert len(text.split()) >= 1500
    assert len(own_needles()) >= 10
    for item in own_needles():
        assert item.name not in text.lower() or item.name in ("river", "train", "baker", "doctor", "museum", "captain")
        for answer in item.answers:
            assert answer not in text
        assert len({answer[0] for answer in item.answers}) == len(item.answers) >= 3
        assert "{answer}" in item.sentence
        assert item.question.endswith("?")


def test_every_cell_comes_once_before_any_comes_twice():
    pairs = needle.generate(30, 0, lengths=(200, 400), depths=(0, 50, 100))
    cells = [Cell.parse(pair.frame) for pair in pairs]
    for turn in range(5):
        part = {(cell.length, cell.depth) for cell in cells[6 * turn : 6 * turn + 6]}
        assert part == {(length, depth) for length in (200, 400) for depth in (0, 50, 100)}
    assert needle.generate(7, 0, lengths=(200, 400), depths=(0, 50, 100)) == pairs[:7]
    assert needle.generate(7, 1, lengths=(200, 400), depths=(0, 50, 100)) != pairs[:7]


def test_prompts_are_as_long_and_needles_as_deep_as_asked():
    for pair in needle.generate(40, 3, lengths=(300, 2500), depths=(0, 30, 100)):
        cell = Cell.parse(pair.frame)
        text = pair.clean.text
        assert cell.length - 40 <= words(text) <= cell.length
        start, stop = pair.clean.spans["needle"]
        end = text.index("\n\nQuestion:")
        before, after = words(text[:start]), words(text[stop:end])
        depth = 100 * before / (before + after)
        assert depth <= cell.depth + 1e-9
        assert depth >= cell.depth - 100 * 45 / (before + after)
        assert cell.placed == pytest.approx(depth, abs=0.06)
        assert (before == 0) == (cell.depth == 0)
        assert (after == 0) == (cell.depth == 100)
        assert text[:start].rstrip()[-1:] in (".", "!", "?", "")
        assert text.endswith("\nAnswer:")
        assert pair.clean.word("answer") == pair.answer
        assert pair.clean.word("answer") in pair.clean.word("needle")
        assert text.count(pair.answer) == 1
        assert pair.corrupt.text == text.replace(pair.answer, pair.corrupt_answer)


def test_a_few_prompts_are_spread_over_the_grid():
    """Two of five depths are at least half of the text apart; any beginning of a turn holds every length and every depth
    equally often, give or take one; a whole turn every cell once."""
    for seed in range(40):
        cells = even_cells((200, 400, 800), (0, 25, 50, 75, 100), random.Random(seed))
        assert len(set(cells)) == len(cells) == 15
        assert abs(cells[0][1] - cells[1][1]) >= 50
        for n in range(1, 16):
            for axis, values in ((0, (200, 400, 800)), (1, (0, 25, 50, 75, 100))):
                times = [sum(cell[axis] == value for cell in cells[:n]) for value in values]
                assert max(times) - min(times) <= 1
        square = even_cells((1, 2, 3, 4), (0, 10, 20, 30, 40, 50), random.Random(seed))
        assert len(set(square)) == 24
    starts = {even_cells((1,), (0, 25, 50, 75, 100), random.Random(seed))[0] for seed in range(40)}
    assert starts == {(1, depth) for depth in (0, 25, 50, 75, 100)}
    pair = needle.generate(2, 0, lengths=400, depths=(0, 100))
    assert [Cell.parse(one.frame).placed for one in pair] in ([0, 100], [100, 0])


def test_where_the_needle_came_to_stand_is_recorded(model, tmp_path):
    """Sentences of ten letters each, a token a letter: asked for 49 % of ten or so, it stands behind whole ones."""
    path = tmp_path / "even.txt"
    path.write_text(" ".join(f"{letter * 8}." for letter in "abcdefghij"))
    batch = needle.batch(model, 6, haystack=str(path), lengths=(300, 420), depths=(0, 49, 100))
    asked = batch.clean.start, batch.span("needle"), batch.span("question")
    for pair, first, (start, stop), (asks, _) in zip(batch.prompts, *(one.tolist() for one in asked), strict=True):
        cell = Cell.parse(pair.frame)
        before, after = start - first, asks - stop - len("\n\nQuestion:")
        assert cell.placed == pytest.approx(100 * before / (before + after), abs=2)      # spaces between, a special token
        count = round((before + after) / 10)
        assert cell.placed == pytest.approx({0: 0, 49: 100 * (49 * count // 100) / count, 100: 100}[cell.depth], abs=0.06)
    plain = Cell.parse("length 60, depth 49, toy")
    assert (plain.placed, str(plain)) == (None, "length 60, depth 49, toy")
    assert Cell.parse(str(Cell(60, 49, "a, b", 40.0))) == Cell(60, 49, "a, b", 40.0)


def test_lengths_are_tokens_of_the_model(model):
    batch = needle.batch(model, lengths=(900, 2000), depths=(0, 100), needles=2)
    assert batch.n == 8
    assert batch.aligned
    for length, pair in zip(batch.clean.lengths.tolist(), batch.prompts, strict=True):
        assert Cell.parse(pair.frame).length - 350 <= length <= Cell.parse(pair.frame).length
    assert batch.provenance_dict()["options"]["lengths"] == (900, 2000)


def test_without_lengths_the_context_is_filled(model):
    batch = needle.batch(model, 10)
    assert max(batch.clean.lengths.tolist()) <= 4096
    assert batch.provenance_dict()["options"]["lengths"] == (819, 1638, 2458, 3277, 4096)


def test_lists_for_models_without_language():
    batch = needle.batch(organism(), 18, haystack="list", lengths=(60, 200, 440), depths=(0, 50, 100))
    assert batch.aligned
    for i, pair in enumerate(batch.prompts):
        cell, length = Cell.parse(pair.frame), int(batch.clean.lengths[i])
        assert cell.length - 4 <= length <= cell.length
        key, value = pair.clean.word("needle").split()
        assert pair.clean.text.startswith("List:")
        assert pair.clean.text.endswith(f"Query: {key}")
        assert pair.answer == f" {value}" == pair.clean.word("answer")
        place = int(batch.spans["needle"][i, 0])
        assert place == pytest.approx(2 + cell.depth / 100 * (length - 9), abs=4)
        assert pair.clean.text.split().count(key) == 2


def test_a_haystack_of_ones_own(tmp_path, model):
    path = tmp_path / "own.txt"
    path.write_text("The cat sat on the mat. It did not stay there long!  Why should it?\n\nNobody knows")
    parts = ("The cat sat on the mat.", "It did not stay there long!", "Why should it?", "Nobody knows")
    assert sentences(str(path)) == parts
    batch = needle.batch(model, 4, haystack=str(path), lengths=400, depths=50)
    assert all("The cat sat on the mat." in pair.clean.text for pair in batch.prompts)
    assert needle.TASK.read("haystack", "own,file.txt") == "own,file.txt"
    assert needle.TASK.read("lengths", "1000,2000") == (1000, 2000)


def test_refusals(tmp_path, model):
    with pytest.raises(InterpError, match=r"use the haystack nowhere.txt: .*No such file.*give a text file"):
        needle.batch(model, 4, haystack="nowhere.txt")
    (tmp_path / "one.txt").write_text("One sentence only.")
    with pytest.raises(InterpError, match="has 1 sentences"):
        needle.batch(model, 4, haystack=str(tmp_path / "one.txt"))
    with pytest.raises(InterpError, match=r"leaves .* tokens for the haystack"):
        needle.batch(model, 4, lengths=120)
    with pytest.raises(InterpError, match="percent, 0 to 100"):
        needle.batch(model, 4, depths=(0, 120))
    with pytest.raises(InterpError, match="there are words for 3 to"):
        needle.batch(organism(), 4, haystack="list", lengths=10)
    with pytest.raises(InterpError, match="did you mean 'lengths'"):
        needle.batch(model, 4, lenghts=(3,))
    item = own_needles()[0]
    (tmp_path / "with.txt").write_text("Once. " + item.sentence.format(answer=item.answers[0]) + " Twice.")
    with pytest.raises(ValueError, match="stands in the haystack already"):
        text_maker(str(tmp_path / "with.txt"), own_needles(), words)


def test_any_maker_of_context_question_and_answer_makes_a_grid():
    def make(rng: random.Random, length, depth, size):
        before = round(depth / 100 * (length - 3))
        ids = [1] * before + [rng.randrange(50, 60), *[1] * (length - 3 - before), 2]
        spans = {"needle": (before, before + 1), "answer": (before, before + 1)}
        clean, corrupt = (Prompt("", spans, row) for row in ((*ids,), (3, *ids[1:])))
        return PromptPair(clean, corrupt, ids[before], (9,), frame="toy")

    pairs = grid_pairs(6, 0, (10, 20), (0, 50, 100), make, len)
    assert {pair.frame for pair in pairs} == {f"length {n}, depth {d}, toy" for n in (10, 20) for d in (0, 50, 100)}

"""One's own prompts: token ids and files; every mistake is told with its place."""

import json

import numpy as np
import pytest
import torch
from vocabularies import TokenizerOnly, letters

from interp.core.errors import InterpError
from interp.tasks import from_file, from_tokens

MODEL = TokenizerOnly(letters(), 300, 40)


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def lines(*records):
    return "\n".join(json.dumps(record) for record in records)


GOOD = {"clean": "Mary saw John", "corrupt": "Jane saw John", "answer": "a", "wrong": "b"}


def test_token_ids():
    batch = from_tokens([[5, 6, 7], [8, 9]], [[5, 1, 7], [3, 9]], [10, 11], [12, [13, 14]],
                        positions={"one": 1, "last": -1, "range": (0, 2), "each": [2, (0, 1)]}, padding_side="left")
    assert batch.clean.rows() == [[5, 6, 7], [8, 9]]
    assert batch.spans["one"].tolist() == [[1, 2], [2, 3]]
    assert batch.spans["last"].tolist() == [[2, 3], [2, 3]]
    assert batch.spans["range"].tolist() == [[0, 2], [1, 3]]
    assert batch.spans["each"].tolist() == [[2, 3], [1, 2]]
    assert batch.answers.tolist() == [[10], [11]]
    assert batch.wrong[batch.wrong_mask].tolist() == [12, 13, 14]
    assert batch.aligned


def test_tensors_and_arrays_of_token_ids():
    clean = torch.tensor([[1, 2], [3, 4]])
    batch = from_tokens(clean, clean.flip(1), torch.tensor([5, 6]), np.array([[7, 8], [9, 10]]),
                        positions={"S": torch.tensor([0, 1])})
    same = from_tokens([[1, 2], [3, 4]], [[2, 1], [4, 3]], [5, 6], [[7, 8], [9, 10]], positions={"S": [0, 1]})
    assert batch.tokens_sha256() == same.tokens_sha256()
    assert batch.spans["S"].equal(same.spans["S"])
    assert from_tokens(clean, clean.flip(1), 5, 6).answers.tolist() == [[5], [5]]


@pytest.mark.parametrize(("parts", "said"), [
    ({"corrupt": [[1, 3]]}, "there are 2 clean prompts and 1 corrupted ones"),
    ({"clean": [], "corrupt": [], "answer": [], "wrong": []}, "there are no prompts"),
    ({"clean": [[], [1]]}, "prompt 0 of own tokens: it has no tokens"),
    ({"answer": [1]}, "answer has 1 entries for 2 prompts"),
    ({"corrupt": [[1, 2], [3, 9]]}, "prompt 0 of own tokens (the token ids 1 2): the corrupted prompt is equal"),
    ({"answer": [7, 8], "wrong": [7, 9]}, "right and wrong answers share the token '7'"),
    ({"positions": {"S": 2}}, "the position 'S' is not inside prompt 0, which has 2 tokens"),
    ({"positions": {"S": -3}}, "the position 'S' is not inside prompt 0"),
    ({"positions": {"S": [0]}}, "the position 'S' has 1 entries for 2 prompts"),
    ({"model": TokenizerOnly(None, 20, 1)}, "it has 2 tokens and the context of the model is 1"),
    ({"model": TokenizerOnly(None, 6, 9)}, "none of the 6 of the model"),
])
def test_bad_token_ids_are_refused(parts, said):
    good = {"clean": [[1, 2], [3, 4]], "corrupt": [[1, 5], [3, 6]], "answer": [7, 8], "wrong": [9, 9]}
    from_tokens(**good)
    with pytest.raises(InterpError) as caught:
        from_tokens(**good | parts)
    assert said in str(caught.value)


def test_csv(tmp_path):
    path = write(tmp_path / "pairs.csv", (
        "\ufeffclean,corrupt,answer,wrong,positions\n"
        'Mary saw John,Jane saw John,a,b,"{""S"": ""Mary"", ""end of S"": [3, 4]}"\n'
        '"Mary, said ""no""\nand left","Jane, said ""no""\nand left",'
        '"[""a"", ""c""]","[""b"", ""d""]","{""S"": ""Mary""}"\n'))
    task = from_file(path)
    assert (task.name, task.positions) == ("pairs", ("S",))
    assert task.pairs[1].clean.text == 'Mary, said "no"\nand left'
    batch = task.batch(MODEL)
    assert batch.n == 2
    assert batch.aligned
    assert batch.spans["S"].tolist() == [[1, 5], [1, 5]]
    assert batch.answer_mask.sum(1).tolist() == [1, 2]
    assert batch.provenance_dict()["options"] == {"file": "pairs.csv", "first_token": False}


def test_json_lines_say_the_same(tmp_path):
    row = 'Mary saw John,Jane saw John,a,b,"{""S"": [0, 4]}"'
    table = write(tmp_path / "a.csv", f"clean,corrupt,answer,wrong,positions\n{row}\n")
    listed = write(tmp_path / "a.jsonl", lines(GOOD | {"positions": {"S": ["Mary", 1]}}) + "\n\n")
    assert from_file(table).pairs == from_file(listed).pairs
    assert from_file(table).batch(MODEL).provenance_dict() | {"options": 0} == (
        from_file(listed).batch(MODEL).provenance_dict() | {"options": 0})


def test_token_ids_in_json_lines(tmp_path):
    path = write(tmp_path / "ids.jsonl", lines({"clean": [1, 2], "corrupt": [1, 3], "answer": 4, "wrong": [5, 6],
                                                "positions": {"S": [1, 2]}}))
    batch = from_file(path).batch(TokenizerOnly(None, 20, 9))
    assert batch.clean.rows() == [[1, 2]]
    assert batch.wrong.tolist() == [[5, 6]]
    assert batch.spans["S"].tolist() == [[1, 2]]


def test_some_of_a_file(tmp_path):
    path = write(tmp_path / "many.jsonl", lines(*({**GOOD, "clean": f"Mary saw {i:02d}"} for i in range(20))))
    task = from_file(path)
    some = task.generate(5, seed=1)
    assert some == task.generate(5, seed=1) != task.generate(5, seed=2)
    assert [pair for pair in task.pairs if pair in some] == some
    assert len(task.generate()) == 20
    with pytest.raises(InterpError, match="it holds 20; ask for 1 to 20"):
        task.batch(MODEL, 64)


def test_a_multi_token_answer_names_its_line_and_can_be_scored_by_its_first_token(tmp_path):
    task = from_file(write(tmp_path / "x.csv", "clean,corrupt,answer,wrong\none,two,a,b\none and,two and, mia, max\n"))
    with pytest.raises(InterpError, match=r"Cannot use x\.csv line 3 \('one and'\): the answer ' mia' is 4 tokens"):
        task.batch(MODEL)
    batch = task.batch(MODEL, first_token=True)
    assert batch.provenance_dict()["options"]["first_token"]
    assert letters().convert_ids_to_tokens(batch.answers[:, 0].tolist()) == ["a", "i"]


@pytest.mark.parametrize(("name", "text", "said"), [
    ("a.csv", "", "a.csv line 1: it has no 'clean'; give clean, corrupt, answer, wrong."),
    ("a.csv", "clean,corrupt,answer,wrong\n", "it holds no prompts"),
    ("a.csv", "clean,corrupt,anser,wrong\n1,2,3,4", "there is no field of a.csv line 1 of that name; did you mean 'answer'"),
    ("a.csv", "clean,corrupt,answer,wrong\n\na,b,c,d\na,b,c", "a.csv line 4: it has 3 cells for 4 columns"),
    ("a.csv", "clean,corrupt,answer,wrong\na,b,c,d,e", "it has 5 cells for 4 columns"),
    ("a.csv", "clean,corrupt,answer,wrong\na,b,,d", "a.csv line 2: its 'answer' is empty"),
    ("a.csv", "clean,corrupt,answer,wrong\na,b,c,d\na,b,c,d", "a.csv line 3: it repeats a.csv line 2"),
    ("a.csv", 'clean,corrupt,answer,wrong\na,"b', "it is no CSV"),
    ("a.csv", 'clean,corrupt,answer,wrong\n"a\nb",c,d,"[1"', "a.csv line 2: wrong is not JSON"),
    ("a.csv", "clean,corrupt,answer,wrong,positions\na,b,c,d,S", "positions is not JSON"),
    ("a.csv", 'clean,corrupt,answer,wrong,positions\na,b,c,d,"[1]"', "its positions are no JSON object"),
    ("a.jsonl", "", "it holds no prompts"),
    ("a.jsonl", lines(GOOD) + "\n{", "a.jsonl line 2: the line is not JSON"),
    ("a.jsonl", "[1]", "a.jsonl line 1: it is no JSON object"),
    ("a.jsonl", lines({"clean": "a", "corrupt": "b", "answer": "c"}), "it has no 'wrong'"),
    ("a.jsonl", lines(GOOD | {"wrong": None}), "its 'wrong' is empty"),
    ("a.jsonl", lines(GOOD | {"wrong": {}}), "its 'wrong' is no text"),
    ("a.jsonl", lines(GOOD | {"answer": True}), "its 'answer' is no text"),
    ("a.jsonl", lines(GOOD | {"clean": 3}), "its 'clean' is neither text nor a list of token ids"),
    ("a.jsonl", lines(GOOD | {"positions": {"S": "Zoe"}}), "'Zoe', the position 'S', occurs 0 times"),
    ("a.jsonl", lines(GOOD | {"positions": {"S": "a"}}), "'a', the position 'S', occurs 2 times"),
    ("a.jsonl", lines(GOOD | {"positions": {"S": ["a", 3]}}), "occurs 2 times"),
    ("a.jsonl", lines(GOOD | {"positions": {"S": 4}}), "is none of text, [text, k] and [start, stop]"),
    ("a.jsonl", lines(GOOD | {"positions": {"S": [4, 40]}}), "is not inside a prompt of 13 characters"),
    ("a.txt", "hello", "its ending '.txt' is none of .csv, .jsonl, .ndjson"),
])
def test_bad_files_are_refused_with_their_place(tmp_path, name, text, said):
    with pytest.raises(InterpError) as caught:
        from_file(write(tmp_path / name, text))
    assert said in str(caught.value)
    assert name in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InterpError, match="no such file"):
        from_file(tmp_path / "absent.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InterpError, match="is a directory"):
        from_file(tmp_path / "folder.csv")
    (tmp_path / "bytes.csv").write_bytes(b"clean,\xff")
    with pytest.raises(InterpError, match="not UTF-8"):
        from_file(tmp_path / "bytes.csv")


def test_equal_prompts_in_a_file_are_told_with_their_line(tmp_path):
    task = from_file(write(tmp_path / "x.jsonl", lines(GOOD, GOOD | {"corrupt": GOOD["clean"]})))
    with pytest.raises(InterpError, match=r"x\.jsonl line 2 .*the corrupted prompt is equal to the clean one"):
        task.batch(MODEL)

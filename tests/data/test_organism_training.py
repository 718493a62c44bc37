"""The organism's training: a stopped run goes on as if it had not stopped, and what is held out stays out."""

import importlib
import random
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from interp.tasks import capital, ioi, key_value, override
from interp.tasks.words import CAPITALS, NAMES, OBJECTS, PLACES, pairs

FOLDER = Path(__file__).resolve().parents[2] / "data" / "models" / "organism" / "training"


@pytest.fixture(scope="module")
def training():
    """The modules of the training, which are scripts beside each other."""
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        names = ("train", "curriculum", "repeats", "tokenizer")
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(FOLDER)):
            del sys.modules[name]


def test_a_resumed_run_is_the_same_run(training, tmp_path):
    plan = training.train.Plan(repeats=2, constant=3, decay=3, repeat_rows=2, mixture_rows=2, repeat_measure=2,
                               mixture_measure=50, save=50)
    training.train.Run(tmp_path / "straight", plan).train(6)
    training.train.Run(tmp_path / "stopped", plan).train(3)
    training.train.Run(tmp_path / "stopped", plan).train(6)
    one, other = (torch.load(tmp_path / name / "checkpoint.pt", weights_only=False) for name in ("straight", "stopped"))
    assert {**one["progress"], "seconds": 0} == {**other["progress"], "seconds": 0}
    assert one["progress"]["stage"] == "mixture"
    assert all(torch.equal(one["model"][name], other["model"][name]) for name in one["model"])
    first = training.train.Run(tmp_path / "new", plan).model.state_dict()
    assert any(not torch.equal(first[name], one["model"][name]) for name in first)


@pytest.mark.parametrize("kind", ["pairs", "in order"])
def test_what_repeats_ask_for_followed_the_same_token_before(training, kind):
    batch = training.repeats.repeats(random.Random(3), 500, 20, 96, kind)
    asked = 0
    for ids, weights in zip(batch.ids.tolist(), batch.weights.tolist(), strict=True):
        for i in range(2, len(ids)):
            followers = {ids[j + 1] for j in range(i - 1) if ids[j] == ids[i - 1]}
            if weights[i] and (kind == "pairs" or weights[i - 1]):      # in order, the first repeated token is a guess
                asked += 1
                assert followers == {ids[i]}
            if kind == "pairs" and weights[i]:
                assert not weights[i - 1]
    assert asked > 500


def test_a_fixed_number_of_places_back_tells_no_pair(training):
    """In order, the token one period back is the answer; no distance is right for more than a few of the pairs."""
    for kind, best in (("in order", 1.0), ("pairs", 0.5)):
        shares = []
        for seed in range(12):
            batch = training.repeats.repeats(random.Random(seed), 500, 1, 96, kind)
            ids, asked = batch.ids[0], batch.weights[0] > 0
            if len(set(ids.tolist())) > 11:
                hits = [(ids[k:] == ids[:-k])[asked[k:]].float().mean() for k in range(1, 40) if asked[k:].sum() > 20]
                shares.append(float(max(hits)))
        assert (min(shares) >= best) if kind == "in order" else (max(shares) <= best)


@pytest.fixture(scope="module")
def documents(training):
    lessons = training.curriculum.Curriculum(random.Random(1))
    return lessons.table, {name: [lessons.makers[name]() for _ in range(400)] for name in lessons.makers}


@pytest.mark.parametrize(("behaviour", "words"), [
    ("ioi", (*NAMES.held_out, *ioi.FRESH_NAMES)),
    ("key_value", (*key_value.entries().held_out, *ioi.FRESH_NAMES)),
    ("override", [half for pair in pairs(CAPITALS.held_out) for half in pair]),
    ("colored_objects", ("counter", *ioi.FRESH_NAMES)),
])
def test_held_out_words_stand_in_no_document_of_their_behaviour(documents, behaviour, words):
    table, drawn = documents
    out = {table[f" {word}"] for word in words}
    assert not any(out & set(ids) for ids, _ in drawn[behaviour])
    assert any(weight > 1 for _, weights in drawn[behaviour] for weight in weights) or behaviour == "key_value"


def test_held_out_places_and_objects_are_none_of_a_sentence_about_training_names(documents):
    table, drawn = documents
    out = {table[f" {word}"] for word in PLACES.held_out + OBJECTS.held_out}
    names = {table[f" {name}"] for name in NAMES.train}
    plain = [ids for ids, weights in drawn["ioi"]
             if {i for i, weight in zip(ids, weights, strict=True) if weight == 1.0} <= names]
    assert plain
    assert sum(bool(out & set(ids)) for ids in plain) < 0.1 * len(plain)


def test_fresh_and_held_out_frames_are_in_no_training(training):
    for task in (ioi, capital, override):
        assert not set(task.FRESH_FRAMES) & {*task.frames_of("train"), *task.frames_of("held_out")}
        assert set(task.FRESH_FRAMES) <= set(task.frames_of("all"))
    frames = training.curriculum.Curriculum(random.Random(0)).ioi_frames
    assert not {ioi.FRAMES[name] for name in (*ioi.HELD_OUT_FRAMES, *ioi.FRESH_FRAMES)} & set(frames)


def test_fresh_frames_and_names_are_of_words_that_are_tokens(training):
    vocabulary = set(training.tokenizer.vocabulary())
    for task in (ioi, capital, override):
        for name in task.FRESH_FRAMES:
            text = re.sub(r" ?\{\w+\}", "", task.FRAMES[name])
            pieces = [piece.replace(" ", "Ġ").replace("\n", "Ċ") for piece in training.tokenizer.pieces(text)]
            assert vocabulary.issuperset(pieces), task.FRAMES[name]
    assert vocabulary.issuperset(f"Ġ{name}" for name in ioi.FRESH_NAMES)

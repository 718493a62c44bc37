"""The workbench from everything it takes: models, scores, arrays; every view attached; what the model says is shown."""

from pathlib import Path

import numpy as np
import pytest
import torch
from run_examples import over_steps, retrieval

import interp
from interp.core.circuit import Circuit, Edge
from interp.core.errors import InterpError
from interp.core.head import Head
from interp.core.universe import Shape
from interp.engine.activations import activations
from interp.engine.forward import metric_values
from interp.engine.intervention import Intervention, Zero
from interp.measures import ablation, activation_patching, attention_entropy
from interp.models.sites import Site
from interp.models.tiny import tiny
from interp.views import attention_map, head_grid, head_state, live_view, token_strip, workbench
from interp.views.widgets.head_metric import SINK

CLEAN = [[5, 6, 7, 8, 9], [10, 11, 12], [13, 14, 15, 16]]
CORRUPT = [[5, 6, 7, 8, 4], [10, 11, 3], [13, 14, 15, 2]]


@pytest.fixture(scope="module")
def model():
    return interp.load(tiny("gpt2"), verify=False)


@pytest.fixture(scope="module")
def batch(model):
    return interp.tasks.from_tokens(CLEAN, CORRUPT, 20, 21, model=model)


@pytest.fixture(scope="module")
def scores(model, batch):
    return ablation(model, batch, kind="zero"), attention_entropy(model, batch)


@pytest.fixture(scope="module")
def circuit():
    edges = ("embed->L0H1.v", "L0H1->L2H3.k", "L2H3->logits.out")
    told = {"shape": Shape(3, 4).record(), "scores": {edge: 1.0 + i for i, edge in enumerate(edges)}}
    return Circuit(edges=tuple(map(Edge.parse, edges)), name="three", provenance=told)


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_model_is_read_prompt_by_prompt_without_its_padding(model, side):
    padded = interp.tasks.from_tokens(CLEAN, CORRUPT, 20, 21, model=model, padding_side=side)
    state = workbench(model, padded).state
    assert state.patterns.heads == (4, 4, 4)
    for i, row in enumerate(CLEAN):
        state.prompt = i
        assert [int(label.strip("<>")) for label in state.header["prompt"]["keys"]["labels"]] == row
        alone = interp.tasks.from_tokens([row], [CORRUPT[i]], 20, 21, model=model)
        site = Site("pattern", 2)
        expected = activations(model, alone, [site])[site][0].numpy()
        weights, seen = state.patterns.read(i, 2)
        assert np.abs(weights - expected).max() < 1e-5
        assert np.array_equal(seen[0], np.tril(np.ones((len(row), len(row)), bool)))
        assert 0 <= state.query < len(row)
    assert state.header["prompt"]["spans"] == {"end": [3, 4]}
    assert "3 of 3 prompts" in state.header["source"]


def test_scores_colour_the_heads_and_the_strongest_is_looked_at(model, batch, scores):
    state = workbench(model, batch, scores=scores[0]).state
    mean = scores[0].mean()
    best = Head(*(int(at) for at in np.unravel_index(np.abs(mean).argmax(), mean.shape)))
    assert state.selected == (best,)
    assert [metric["name"] for metric in state.header["metrics"]][-1] == SINK
    table = np.frombuffer(state.table, "<f4").reshape(-1, 3, 3, 4)
    assert np.allclose(table[0, 0], mean, atol=1e-5)
    for given in (scores[0], list(scores), scores):
        alone = workbench(given).state
        assert (alone.patterns, len(alone.heads)) == (None, 3)
    assert len(workbench(list(scores)).state.metrics) == 2
    assert workbench(scores[0], scores=[scores[1]]).state.metric == workbench(scores[0]).state.metric
    by_name = workbench(None, scores={"mine": mean}).state
    assert by_name.header["metrics"][0]["name"] == "mine"


def test_arrays_tuples_and_caches_show_the_same(model, batch):
    ids = torch.tensor([CLEAN[0]])
    network = tiny("gpt2")
    network.set_attn_implementation("eager")
    with torch.no_grad():
        attentions = network(ids, output_attentions=True).attentions
    whole = torch.stack(attentions)[:, 0]
    expected = whole.numpy()
    given = [whole, expected, attentions, whole[None], [layer[0] for layer in attentions],
             {f"blocks.{i}.attn.hook_pattern": layer for i, layer in enumerate(attentions)}]
    for one in given:
        state = workbench(one, tokens=["a", " b", " c", "\n", "</script>"]).state
        assert (state.patterns.heads, state.header["prompt"]["keys"]["labels"][1]) == ((4, 4, 4), "·b")
        assert np.allclose(state.patterns.read(0, 1)[0], expected[1], atol=1e-6)
        assert "live" not in state.payloads
    own = workbench(model, batch).state
    assert np.allclose(own.patterns.read(0, 1)[0], expected[1], atol=1e-5)
    assert workbench(whole[0]).state.patterns.heads == (4,)
    assert workbench(whole[0, 0]).state.patterns.heads == (1,)


def test_every_further_view_is_a_tab(model, batch, scores, circuit):
    patched = activation_patching(model, batch)
    given = {"patching": patched, "circuit": circuit, "overlap": {"one": circuit, "two": circuit}, "scatter": True}
    state = workbench(model, batch, scores=list(scores), **given).state
    assert sorted(state.payloads) == ["circuit", "live", "overlap", "patching", "scatter"]
    assert state.header["answers"] == ["circuit", "live"]
    assert state.threshold == state.payloads["circuit"]["start"]
    state.ask = {"kind": "circuit", "n": 1, "question": {"threshold": 1.5}}
    assert state.reply["answer"]["edges"] == 2
    small = workbench(training=over_steps(), retrieval=retrieval()).state
    assert sorted(small.payloads) == ["retrieval", "training"]
    assert list(small.heads) == [3, 3]


def test_the_live_answer_is_the_engines_number(model, batch):
    state = live_view(model, batch).state
    question = {"base": 0, "text": None, "do": "zero", "heads": [[1, 2]]}
    state.ask = {"kind": "live", "n": 1, "question": question}
    expected = metric_values(model, batch, Intervention("z", 1, 2, None, Zero())).mean()
    assert state.reply["answer"]["batch"]["after"][0] == pytest.approx(expected, rel=1e-4)
    texts = interp.tasks.random_texts(model, n=2, length=6)
    state = workbench(model, texts).state
    state.ask = {"kind": "live", "n": 1, "question": question}
    answer = state.reply["answer"]
    assert (answer["batch"], answer["difference"], len(answer["columns"])) == (None, None, 2)


def test_views_share_a_selection_with_python(model, batch):
    state = head_state(model, batch)
    views = [kind(state=state) for kind in (head_grid, attention_map, token_strip, workbench)]
    views[0].selected = ["L2H1", "0.3"]
    assert all(view.selected == (Head(2, 1), Head(0, 3)) for view in views)
    heard = []
    state.observe(lambda change: heard.append(change.new), "sel")
    state.sel = [[1, 1]]
    assert heard == [[[1, 1]]]
    state.request = [0, 1, 1, 7]
    assert (state.full_key["layer"], state.full_key["head"], state.full_key["n"]) == (1, 1, 7)
    with pytest.raises(InterpError, match="L7H0"):
        views[3].selected = "L7H0"


@pytest.mark.parametrize(("given", "options", "words"), [
    ((), {}, "neither patterns nor scores"), ((np.zeros(3),), {}, "shape"), (("nothing",), {}, "numbers"),
    ((np.full((1, 1, 2, 2), 7.0),), {}, "between 0 and 1"), ((np.ones((1, 1, 2, 2)) / 2,), {"tokens": ["a"]}, "tokens"),
    ((np.ones((1, 1, 2, 2)) / 2,), {"live": True}, "no model"), ((np.ones((1, 1, 2, 2)) / 2,), {"circuit": 3}, "circuit"),
    ((np.ones((1, 1, 2, 2)) / 2,), {"scores": {"x": np.zeros((2, 2))}}, "same model"),
])
def test_what_cannot_be_shown_is_said_in_a_sentence(given, options, words):
    with pytest.raises(InterpError) as refusal:
        workbench(*given, **options)
    said = str(refusal.value)
    assert words in said
    assert said.startswith("Cannot ")
    assert "\n" not in said


def test_a_model_needs_prompts_and_scores_must_be_of_it(model, batch, circuit):
    with pytest.raises(InterpError, match="no prompts"):
        workbench(model)
    other = Circuit(edges=circuit.edges[:1], provenance={"shape": Shape(9, 2).record()})
    with pytest.raises(InterpError, match="same model"):
        workbench(model, batch, overlap={"one": other, "two": other})
    with pytest.raises(InterpError, match="prompt 5"):
        workbench(model, batch).state.prompt = 5


def test_files_of_a_workbench(model, batch, scores, tmp_path: Path):
    shown = workbench(model, batch, scores=scores[0])
    page = shown.save(tmp_path / "all.html").read_text()
    assert page.startswith("<!doctype html>")
    table = shown.save(tmp_path / "heads.csv").read_text().splitlines()
    assert len(table) == 1 + 12
    with pytest.raises(InterpError, match="Export button"):
        shown.save(tmp_path / "heads.png")

"""The hand-made circuits by plain forward passes of the transformers model, without the engine or the measures."""

import math

import numpy as np
import pytest
import torch
from by_hand import ids_of, logit_diff, logits_with, removal_effects
from torch import Tensor

from interp.core.circuit import Circuit, Edge, Node
from interp.core.errors import InterpError
from interp.models.handmade import HANDMADE, KINDS, gate, induction, ioi, retrieval, sink
from interp.models.handmade.gates import GATES
from interp.models.handmade.induction import whisper_weights

NAMES = list(HANDMADE)
CASES = [(name, corruption) for name in NAMES for corruption in HANDMADE[name]().corruptions]
N = 24


@pytest.mark.parametrize(("name", "corruption"), CASES)
def test_the_stated_truth_is_the_effect_of_removing_each_head(name, corruption):
    made = HANDMADE[name]()
    pairs = made.pairs(N, seed=1, corruption=corruption)
    for kind in KINDS:
        if (corruption, kind) not in made.truths:
            continue
        for head, effect in removal_effects(made, pairs, kind).items():
            if head in made.truths[corruption, kind]:
                assert np.abs(effect).mean() > 0.9, (kind, head, effect)
            else:
                assert np.abs(effect).max() <= made.negligible, (kind, head, effect)


@pytest.mark.parametrize(("name", "corruption"), [case for case in CASES if case[0] not in {f"handmade-{k}" for k in GATES}])
def test_every_prompt_is_answered_rightly(name, corruption):
    made = HANDMADE[name]()
    pairs = made.pairs(100, seed=0, corruption=corruption)
    logits = logits_with(made, ids_of(pairs, "clean"), {})
    assert logits.argmax(dim=-1).tolist() == [pair.answer for pair in pairs]
    assert (logit_diff(pairs, logits_with(made, ids_of(pairs, "corrupt"), {})) <= 1e-4).all()


@pytest.mark.parametrize("kind", GATES)
def test_gates_compute_their_truth_table(kind):
    made = gate(kind)
    for a in (0, 1):
        for b in (0, 1):
            logits = logits_with(made, torch.tensor([[0, 1 + a, 1 + b, 7, 3]]), {})[0]
            assert float(logits[4]) == pytest.approx(GATES[kind].value(a, b), abs=1e-5)
            assert float(logits[5]) == 0.5


GATE_TABLE = {      # (a, b) by noising and by denoising; clean = 1,1 and corrupt = 0,0
    "or": ((0, 0), (1, 1)), "and": ((1, 1), (0, 0)), "xor": ((-1, -1), (1, 1)), "saturated": ((0, 0), (1, 1)),
    "cancel": ((1, -1), (1, -1)), "erased": ((0, 1), (0, 1)), "redundant": ((0, 0), (1, 1)),
}


@pytest.mark.parametrize("kind", GATES)
def test_gates_by_single_patches(kind):
    made = gate(kind)
    pairs = made.pairs(4)
    for direction, expected in zip(("noising", "denoising"), GATE_TABLE[kind], strict=True):
        effects = removal_effects(made, pairs, direction)
        for role, value in zip("ab", expected, strict=True):
            np.testing.assert_allclose(effects[made.heads[role]], value, atol=1e-5)


@pytest.mark.parametrize("beta", [1, 2, 5, 10, 100])
def test_induction_logits_by_hand(beta):
    """Weight on the match e^beta / (e^beta + n - 1), on every other key 1 / (...), times 10, plus the whisper."""
    made = induction(beta=beta, beta_previous=100)
    prompt = [0, 5, 9, 1, 7, 5]      # <bos> e i a g e: the match is the key "i", after "e"
    logits = logits_with(made, torch.tensor([prompt]), {})[0].double().numpy()
    total = math.exp(beta) + 5
    expected = np.zeros(21)
    np.add.at(expected, prompt, 10 * np.array([1, 1, math.exp(beta), 1, 1, 1]) / total)
    recent = np.exp(0.1 * np.arange(6))
    expected += 10 * whisper_weights().double().numpy()[:, prompt] @ (recent / recent.sum())
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_name_mover_logits_by_hand():
    """Ada and Ben went . Ben gave to: the mover's scores are beta for Ada and 0 for the eight others."""
    made = ioi(beta=2.0)
    word = {text: i for i, text in enumerate(made.vocabulary)}
    prompt = [0, *(word[w] for w in ("Ada", "and", "Ben", "went", ".", "Ben", "gave", "to"))]
    logits = logits_with(made, torch.tensor([prompt]), {})[0].double().numpy()
    e = math.exp
    # duplicate-token head at S2: <bos> scores 1, S1 2, S2 itself 0, the rest 0; it reports [name] of S1 and S2
    total = e(2) + e(1) + 7 - 2
    dup_s2 = (e(2) + 1 + 1) / total      # S1, and IO and S2 are names that it sees as well
    # at IO (position 1): keys <bos> (score 1) and itself (0); at S1 (position 3): <bos>, IO, "and", itself
    dup_io, dup_s1 = 1 / (e(1) + 1), 2 / (e(1) + 3)
    # at "and", "went", ".", "gave", "to": <bos> 1, the rest 0
    after = {n: 1 / (e(1) + n) for n in (2, 4, 5, 7, 8)}
    dup = np.array([0, dup_io, after[2], dup_s1, 2 * after[4], 2 * after[5], dup_s2, 3 * after[7], 3 * after[8]])
    at_bos = np.zeros(9)
    at_bos[0] = 0.5
    weights = np.exp(2 * (dup + at_bos))
    weights /= weights.sum()
    inhibit = {"Ada": weights[1], "Ben": weights[3] + weights[6]}
    scores = np.zeros(9)
    scores[[1, 3, 6]] = 1 - inhibit["Ada"], 1 - inhibit["Ben"], 1 - inhibit["Ben"]
    moved = np.exp(2 * scores) / np.exp(2 * scores).sum()
    at_bos[0] = 2 * moved[[1, 3, 6]].sum()
    backup = np.exp(2 * (scores + at_bos)) / np.exp(2 * (scores + at_bos)).sum()
    assert logits[word["Ada"]] == pytest.approx(10 * (moved + backup)[1], abs=1e-4)
    assert logits[word["Ben"]] == pytest.approx(10 * (moved + backup)[[3, 6]].sum(), abs=1e-4)


def test_the_backup_replaces_a_mover_that_is_zeroed_and_only_then():
    made = ioi()
    mover, backup = made.heads["name mover"], made.heads["backup name mover"]
    pairs = made.pairs(N)
    alone = removal_effects(made, pairs, "zero")
    assert np.abs(alone[mover]).max() < 1e-4
    assert np.abs(alone[backup]).max() < 1e-4
    np.testing.assert_allclose(removal_effects(made, pairs, "zero", also=(mover,))[backup], 10, atol=1e-3)
    resampled = removal_effects(made, pairs, "noising")
    np.testing.assert_allclose(resampled[mover], 10, atol=1e-3)
    assert np.abs(resampled[backup]).max() < 1e-4


def test_the_sink_head_rests_on_the_first_token_until_the_trigger():
    made = sink()
    made.model.set_attn_implementation("eager")
    kept: dict[int, Tensor] = {}
    attention = made.model.model.layers[0].self_attn
    handle = attention.register_forward_hook(lambda module, args, output: kept.update({0: output[1]}))
    for corruption in made.corruptions:
        pairs = made.pairs(N, corruption=corruption)
        logits_with(made, ids_of(pairs, "clean"), {})
        on_first = kept[0][:, made.heads["first-token sink"].head, :, 0]
        assert (on_first[:, :-1] > 0.999).all()
        assert (on_first[:, -1] > 0.999).all() if corruption == "dormant" else (on_first[:, -1] < 0.001).all()
    handle.remove()


def test_retrieval_writes_whole_value_strings():
    made = retrieval()
    for pair in made.pairs(N):
        prompt = torch.tensor([pair.clean])
        written = made.model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=2, do_sample=False,
                                      pad_token_id=0)
        needle = pair.positions["needle"]
        assert written[0, -2:].tolist() == list(pair.clean[needle : needle + 2])


@pytest.mark.parametrize("name", NAMES)
def test_circuit_and_prompts_are_sound(name):
    made = HANDMADE[name]()
    assert made.name == name
    assert Circuit.from_json(made.circuit.to_json()) == made.circuit
    assert made.true_heads == set(made.circuit.heads()) >= frozenset().union(*made.truths.values())
    assert set(made.circuit.roles.values()) >= {role for role, head in made.heads.items() if head in made.true_heads}
    for corruption in made.corruptions:
        pairs = made.pairs(8, seed=3, corruption=corruption)
        assert pairs == made.pairs(8, seed=3, corruption=corruption)
        assert all(pair.clean != pair.corrupt and len(pair.clean) == len(pair.corrupt) for pair in pairs)
        text = made.words(pairs[0].clean[1:])
        assert made.tokenizer(text)["input_ids"] == list(pairs[0].clean)
    weights, again = made.model.state_dict(), HANDMADE[name]().model.state_dict()
    assert all(torch.equal(weights[key], again[key]) and weights[key].dtype == torch.float32 for key in weights)
    with pytest.raises(InterpError, match="corruption"):
        made.pairs(4, corruption="nothing")
    with pytest.raises(InterpError, match="at least one"):
        made.pairs(0)


@pytest.mark.parametrize("name", NAMES)
def test_the_edges_are_what_the_weights_connect(name):
    """Among the nodes of a circuit there is an edge exactly where what one writes and what the other reads meet."""
    made = HANDMADE[name]()
    network, width = made.model.model, made.model.config.head_dim
    embeddings = [network.embed_tokens.weight, network.embed_positions.weight]
    varying = torch.cat([e - e.mean(dim=0) for e in embeddings]).T        # what is the same at all tokens carries nothing
    writes, reads = {Node("embed"): varying}, {(Node("logits"), "out"): made.model.lm_head.weight}
    for node in made.circuit.nodes:
        block = network.layers[node.layer or 0]
        rows = slice((node.head or 0) * width, ((node.head or 0) + 1) * width)
        if node.kind == "head":
            writes[node] = block.self_attn.o_proj.weight[:, rows]
            reads |= {(node, x): getattr(block.self_attn, f"{x}_proj").weight[rows] for x in "qkv"}
        elif node.kind == "mlp":
            writes[node], reads[node, "mlp"] = block.mlp.down_proj.weight, block.mlp.up_proj.weight
    met = {Edge(source, target, x) for source, write in writes.items() for (target, x), read in reads.items()
           if source.depth < target.depth and (read @ write).detach().abs().max() > 1e-5}
    assert met == set(made.circuit.edges)


def test_padding_leaves_the_circuits_alone():
    for name in NAMES:
        made = HANDMADE[name]()
        ids = ids_of(made.pairs(4), "clean")
        pads = torch.full((4, 3), 2)
        mask = torch.cat([torch.zeros_like(pads), torch.ones_like(ids)], dim=1)
        with torch.no_grad():
            alone = made.model(ids).logits[:, -1]
            padded = made.model(torch.cat([pads, ids], dim=1), attention_mask=mask).logits[:, -1]
        torch.testing.assert_close(padded, alone, atol=1e-5, rtol=0)

"""Networks whose attention patterns, hidden states or sinks are given, so that what the measures must answer is known."""

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from interp.models.handmade.weights import HeadWeights, MLPWeights, Residual, assemble
from interp.models.load import load
from interp.tasks import from_texts

WORDS = 16
NOTHING = -200.0
"""The score of a key that gets no weight."""


def uniform(length):
    """Every row spreads its weight evenly over what it may see."""
    return np.tril(np.ones((length, length))) / np.arange(1, length + 1)[:, None]


def onto(length, *keys):
    """Every row spreads its weight evenly over the ``keys`` that it may see; one that sees none attends to itself."""
    seen = np.zeros((length, length))
    seen[:, list(keys)] = 1
    seen = np.tril(seen)
    seen += np.diag(seen.sum(1) == 0)
    return seen / seen.sum(1, keepdims=True)


def own(length):
    """Every row attends to itself."""
    return np.eye(length)


def previous(length):
    """Every row attends to the one before it, the first to itself."""
    pattern = np.eye(length, k=-1)
    pattern[0, 0] = 1
    return pattern


def scores_of(patterns):
    """Scores [layer, head, row, key] whose softmax under the causal mask is ``patterns``."""
    patterns = np.asarray(patterns, dtype=np.float64)
    return np.where(patterns > 0, np.log(np.where(patterns > 0, patterns, 1)), NOTHING)


def patterned(scores, *, values=None, spare=1, dense=0.0, writes=None):
    """A plain network with the ``scores`` [layer, head, row, key] by position, whatever its tokens.

    values: norms of the values by position (1 each). writes: layer -> {position: vector in ``spare``}, added to the residual
    stream after that layer; ``dense``: what every token has in ``spare`` from the start, with changing signs.
    """
    scores = torch.as_tensor(np.asarray(scores), dtype=torch.float32)
    length = scores.shape[-1]
    space = Residual(tok=WORDS, pos=length, one=1, spare=spare)
    norms = torch.ones(length) if values is None else torch.tensor(values)
    value = space.read("pos", torch.diag(norms))
    silent = torch.zeros(space.d_model, length)
    blocks = [[HeadWeights(space.read("pos", one.T), space.read("pos"), value, silent) for one in layer] for layer in scores]
    mlps = {}
    for layer, by_position in (writes or {}).items():
        places = list(by_position)
        up = space.read("pos", torch.eye(length)[places])
        down = space.write("spare", torch.stack([torch.as_tensor(by_position[at]) for at in places], 1).float())
        mlps[layer] = MLPWeights(up, torch.zeros(len(places)), down, torch.zeros(space.d_model))
    network = assemble(space, blocks, torch.zeros(WORDS, space.d_model), mlps)
    with torch.no_grad():
        signs = 1.0 - 2.0 * (torch.arange(length)[:, None] * 7 + torch.arange(spare) * 3).bitwise_and(1)
        network.model.embed_positions.weight[:, space.slices["spare"]] = dense * signs
    return load(network, verify=False), space.slices["spare"].start


def texts(model, length, n=1):
    """``n`` prompts of ``length`` tokens, other ones in each."""
    return from_texts(model, [[(3 * i + at) % WORDS for at in range(length)] for i in range(n)])


def rotary():
    """A rotary network without any absolute position whose first token is a sink, since it alone can see no other token.

    Layer 0 attends to earlier tokens unlike one's own (``seen``); its MLP writes ``first`` where a token saw itself alone.
    The heads of layer 1 attend to ``first``: L1H0 with all its weight, L1H1 with no preference. One id again and again:
    every token sees only tokens like itself, and ``first`` is everywhere.
    """
    words, half, pairs, sharp = 8, 32, 8, 400.0
    space = Residual(tok=words, one=1, seen=words, first=1, rest=2 * half - 2 * words - 2)
    config = LlamaConfig(vocab_size=words, hidden_size=space.d_model, intermediate_size=words, num_hidden_layers=2,
                         num_attention_heads=2, num_key_value_heads=2, head_dim=2 * half, max_position_embeddings=128,
                         rope_parameters={"rope_type": "default", "rope_theta": 1e8}, tie_word_embeddings=False,
                         pad_token_id=None, bos_token_id=None, eos_token_id=None)
    with torch.random.fork_rng(devices=[]):
        network = LlamaForCausalLM(config).eval()
    slow = slice(half - pairs, half)         # half of the rotary pairs that turn by less than 1e-6 from token to token
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.fill_(1.0 if "norm" in name else 0.0)
        network.model.embed_tokens.weight.copy_(space.read("tok") + space.write("one", torch.ones(1, words)).T)
        reader, rest = (layer.self_attn for layer in network.model.layers)
        reader.q_proj.weight[slow] = -sharp * space.read("tok")
        reader.k_proj.weight[slow] = space.read("tok")
        reader.v_proj.weight[:words] = space.read("tok")
        reader.o_proj.weight[:, :words] = space.write("seen") * 0.5
        mlp = network.model.layers[0].mlp
        one = space.read("one", torch.ones(words, 1))
        mlp.gate_proj.weight.copy_(sharp * (space.read("tok") + space.read("seen") - one))
        mlp.up_proj.weight.copy_(one)
        mlp.down_proj.weight.copy_(space.write("first", torch.ones(1, words)) / sharp)
        rest.q_proj.weight[half - 1] = sharp * space.read("one")[0]
        rest.k_proj.weight[half - 1] = space.read("first")[0]
    return load(network, verify=False)

"""Writing the weights of a plain transformer by hand: named subspaces of the residual stream, heads as readings of them.

A head is four matrices. ``read`` makes rows that take a subspace out of the residual stream, ``write`` columns that put
something back, so a head's score is written as the formula it computes: stacking rows adds terms to q·k. ::

    space = Residual(tok=8, pos=16, one=1, out=8)
    q = torch.cat([5 * space.read("tok"), -5 * space.read("pos")])     # score = 5 [same token] - 5 [same position]
    k = torch.cat([space.read("tok"), space.read("pos")])
    HeadWeights(q, k, v=space.read("tok"), o=space.write("out"))
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from interp.models.plain import PlainConfig, PlainForCausalLM


class Residual:
    """Named orthogonal subspaces of the residual stream, laid out one after another."""

    def __init__(self, **sizes: int):
        self.sizes = dict(sizes)
        ends = torch.tensor(list(sizes.values())).cumsum(0).tolist()
        self.slices = {name: slice(end - size, end) for (name, size), end in zip(sizes.items(), ends, strict=True)}
        self.d_model: int = ends[-1]

    def read(self, name: str, matrix: Tensor | None = None) -> Tensor:
        """Rows [r, d_model] that give ``matrix`` [r, size] times the subspace ``name`` (the subspace itself without one)."""
        matrix = torch.eye(self.sizes[name]) if matrix is None else matrix
        rows = torch.zeros(matrix.shape[0], self.d_model)
        rows[:, self.slices[name]] = matrix
        return rows

    def write(self, name: str, matrix: Tensor | None = None) -> Tensor:
        """Columns [d_model, c] that add ``matrix`` [size, c] times a vector to the subspace ``name``."""
        matrix = torch.eye(self.sizes[name]) if matrix is None else matrix
        return self.read(name, matrix.T).T


@dataclass(frozen=True)
class HeadWeights:
    """One head: q and k [rows, d_model] (score = q·k), v [c, d_model], o [d_model, c]."""

    q: Tensor
    k: Tensor
    v: Tensor
    o: Tensor

    def silent(self) -> "HeadWeights":
        """The same attention and the same z, but nothing is written."""
        return HeadWeights(self.q, self.k, self.v, torch.zeros_like(self.o))

    def into(self, o: Tensor) -> "HeadWeights":
        """The same head with another output matrix."""
        return HeadWeights(self.q, self.k, self.v, o)


@dataclass(frozen=True)
class MLPWeights:
    """ReLU neurons: up [neuron, d_model] with bias [neuron], down [d_model, neuron] with bias [d_model]."""

    up: Tensor
    up_bias: Tensor
    down: Tensor
    down_bias: Tensor


def previous_token(space: Residual, beta: float, v: Tensor, o: Tensor) -> HeadWeights:
    """score = beta [position of key = position of query - 1]; the first position sees only itself."""
    size = space.sizes["pos"]
    back = torch.diag(torch.ones(size - 1), diagonal=1)      # query at t asks for t - 1: (back @ e_t) = e_{t-1}
    return HeadWeights(beta * space.read("pos", back), space.read("pos"), v, o)


def first_match(space: Residual, beta: float, null: int, v: Tensor, o: Tensor) -> HeadWeights:
    """score = beta ([same token] - [same position] + 1/2 [key is the token ``null``]).

    Attends to an earlier copy of the query's token; without one it rests on the ``null`` token (the first of the prompt).
    """
    rest = torch.zeros(1, space.sizes["tok"])
    rest[0, null] = 1
    q = torch.cat([space.read("tok"), -space.read("pos"), space.read("one") / 2])
    return HeadWeights(beta * q, torch.cat([space.read("tok"), space.read("pos"), space.read("tok", rest)]), v, o)


def one_hot(size: int, *indices: int) -> Tensor:
    """A row [1, size] with ones at ``indices``."""
    row = torch.zeros(1, size)
    row[0, list(indices)] = 1
    return row


def assemble(space: Residual, layers: Sequence[Sequence[HeadWeights]], unembed: Tensor,
             mlps: Mapping[int, MLPWeights] | None = None) -> PlainForCausalLM:
    """The model: token t is embedded as e_t in ``tok``, position p as e_p in ``pos`` and 1 in ``one``; logits are
    ``unembed`` [vocab, d_model] times the last residual stream. Scores are not scaled; float32, evaluation mode."""
    mlps = mlps or {}
    d_head = max(max(len(head.q), len(head.v)) for layer in layers for head in layer)
    neurons = max((len(mlp.up) for mlp in mlps.values()), default=0)
    config = PlainConfig(
        vocab_size=space.sizes["tok"], hidden_size=space.d_model, num_hidden_layers=len(layers),
        num_attention_heads=len(layers[0]), head_dim=d_head, intermediate_size=neurons,
        max_position_embeddings=space.sizes["pos"], attention_scale=1.0, bos_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        model = PlainForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.model.embed_tokens.weight.copy_(space.read("tok"))
        model.model.embed_positions.weight.copy_(space.read("pos") + space.write("one", torch.ones(1, space.sizes["pos"])).T)
        model.lm_head.weight.copy_(unembed)
        for block, heads in zip(model.model.layers, layers, strict=True):
            for h, head in enumerate(heads):
                at = h * d_head
                block.self_attn.q_proj.weight[at : at + len(head.q)] = head.q
                block.self_attn.k_proj.weight[at : at + len(head.k)] = head.k
                block.self_attn.v_proj.weight[at : at + len(head.v)] = head.v
                block.self_attn.o_proj.weight[:, at : at + len(head.v)] = head.o
        for layer, mlp in mlps.items():
            block = model.model.layers[layer].mlp
            block.up_proj.weight[: len(mlp.up)], block.up_proj.bias[: len(mlp.up)] = mlp.up, mlp.up_bias
            block.down_proj.weight[:, : len(mlp.up)] = mlp.down
            block.down_proj.bias.copy_(mlp.down_bias)
    return model

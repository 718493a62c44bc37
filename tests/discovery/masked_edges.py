"""The slow path of circuits of edges: a plain transformer written out, in which every receiver sums what it is sent.

Senders inside the circuit send what they compute, the others what they sent in the corrupted run. No code of the engine.
"""

import numpy as np
import torch
from torch import Tensor

from interp.engine.edges import Edges
from interp.models.plain import PlainConfig, PlainForCausalLM
from interp.models.tiny import randomise
from interp.tasks import from_tokens


def network(layers: int = 2, heads: int = 2, seed: int = 0, neurons: int = 12) -> PlainForCausalLM:
    """A random plain transformer in float64."""
    made = PlainForCausalLM(PlainConfig(vocab_size=31, hidden_size=16, num_hidden_layers=layers, num_attention_heads=heads,
                                        head_dim=8, intermediate_size=neurons))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        randomise(made)
    return made.double().eval()


def pairs(n: int = 3, length: int = 6, seed: int = 0, vocab: int = 31):
    """Pairs of random prompts of one length that differ in two tokens."""
    generator = torch.Generator().manual_seed(seed)
    clean = torch.randint(3, vocab, (n, length), generator=generator)
    corrupt = clean.clone()
    for at in (1, 3):
        corrupt[:, at] = (clean[:, at] - 3 + 7 + at) % (vocab - 3) + 3
    return from_tokens(clean, corrupt, 11, 13, positions={"A": 1})


def metric_of_circuit(made: PlainForCausalLM, batch, edges: Edges, chosen: np.ndarray) -> np.ndarray:
    """Difference of the two answers' logits when only the ``chosen`` edges [edge] carry the clean run, [prompt]."""
    with torch.no_grad():
        sent = _run(made, batch.corrupt.ids, edges, np.ones(len(edges), dtype=bool), None)[0]
        logits = _run(made, batch.clean.ids, edges, chosen, sent)[1][:, -1]
    return (logits[:, 11] - logits[:, 13]).numpy()


def _run(made: PlainForCausalLM, ids: Tensor, edges: Edges, chosen: np.ndarray, other: list[Tensor] | None
         ) -> tuple[list[Tensor], Tensor]:
    model, config = made.model, made.config
    width, live = config.head_dim, [model.embed_tokens(ids) + model.embed_positions.weight[:ids.shape[1]]]
    receivers = iter(range(len(edges.receivers)))

    def read() -> Tensor:
        receiver = next(receivers)
        start, count = int(edges.start[receiver]), int(edges.before[receiver])
        return sum(live[i] if chosen[start + i] else other[i] for i in range(count))

    for block in model.layers:
        attention = block.self_attn
        parts = []
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
            rows = projection.weight.split(width)
            parts.append([read() @ rows[head].T for head in range(config.num_attention_heads)])
        causal = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
        for head, (q, k, v) in enumerate(zip(*parts, strict=True)):
            scores = (q @ k.transpose(1, 2) * attention.scaling).masked_fill(~causal, -torch.inf)
            live.append(scores.softmax(-1) @ v @ attention.o_proj.weight[:, head * width:(head + 1) * width].T)
        if block.mlp is not None:
            live.append(block.mlp(read()))
    return live, made.lm_head(read())

"""Find the circuit of every compiled program by trying edge after edge: ``python truth.py`` (a minute).

Writes ``circuits/compiled/<program>.<ablation>.json``. The path is a slow one of its own: a transformer of this file, in
float64, in which every receiver (q, k and v of a head, an MLP, the output) reads a sum over senders (embedding, heads, MLPs)
of what each writes in this run, or, where the edge is outside of the circuit, what stands in its place:

* ``resample``: what the sender writes in the corrupted prompt's own run;
* ``zero``: nothing;
* ``mean``: the mean of what it writes over all clean prompts, at the same position.

Edges are tried from the output down, receiver by receiver; one stays out if without it the logit difference (answer less
wrong answer) changes on no prompt by more than ``TOLERANCE`` from that of the whole model. Trying in the opposite order of
senders is noted as ``other_order``: where it gives another circuit, there is more than one. ``noising`` and ``denoising``
count the edges that alone change the metric, taken out of the whole model or put back into the corrupted run.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from interp.core.circuit import Circuit
from interp.models.compiled import COMPILED, Compiled

HERE = Path(__file__).resolve().parent
CIRCUITS = HERE.parents[1] / "circuits" / "compiled"
N, SEED, TOLERANCE = 256, 20, 1e-3
ABLATIONS = ("resample", "zero", "mean")
Edge = tuple[str, str]


@dataclass(frozen=True)
class Slow:
    """The weights of a compiled program, and its nodes in the order of computation."""

    weights: dict[str, Tensor]
    layers: int
    heads: int
    size: int

    @classmethod
    def of(cls, made: Compiled) -> "Slow":
        config = made.model.config
        return cls({name: x.double() for name, x in made.model.state_dict().items()}, config.num_hidden_layers,
                   config.num_attention_heads, config.head_dim)

    def edges(self) -> list[Edge]:
        """Every edge, from the embedding up."""
        found, senders = [], ["embed"]
        for layer in range(self.layers):
            heads = [f"L{layer}H{head}" for head in range(self.heads)]
            found += [(sender, f"{head}.{read}") for head in heads for read in "qkv" for sender in senders]
            senders += heads
            found += [(sender, f"mlp{layer}.mlp") for sender in senders]
            senders.append(f"mlp{layer}")
        return found + [(sender, "logits.out") for sender in senders]

    def run(self, ids: Tensor, outside: Iterable[Edge] = (), instead: dict[str, Tensor] | None = None
            ) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits at the last token [prompt, word], and what each node writes [prompt, position, width]."""
        w, out = self.weights, frozenset(outside)
        positions = torch.arange(ids.shape[1])
        written = {"embed": w["model.embed_tokens.weight"][ids] + w["model.embed_positions.weight"][positions]}

        def read(receiver: str) -> Tensor:
            return sum(instead[sender] if (sender, receiver) in out else x for sender, x in written.items())

        for layer in range(self.layers):
            name, new = f"model.layers.{layer}", {}
            for head in range(self.heads):
                rows = slice(head * self.size, (head + 1) * self.size)
                q, k, v = (read(f"L{layer}H{head}.{part}") @ w[f"{name}.self_attn.{part}_proj.weight"][rows].T
                           for part in "qkv")
                pattern = (q @ k.transpose(1, 2) * self.size**-0.5).softmax(dim=-1)
                new[f"L{layer}H{head}"] = pattern @ v @ w[f"{name}.self_attn.o_proj.weight"][:, rows].T
            written |= new
            hidden = read(f"mlp{layer}.mlp") @ w[f"{name}.mlp.up_proj.weight"].T + w[f"{name}.mlp.up_proj.bias"]
            written[f"mlp{layer}"] = hidden.relu() @ w[f"{name}.mlp.down_proj.weight"].T + w[f"{name}.mlp.down_proj.bias"]
        return read("logits.out")[:, -1] @ w["lm_head.weight"].T, written


def truth(made: Compiled, ablation: str, tolerance: float = TOLERANCE) -> Circuit:
    """The circuit of a program under one ablation."""
    slow, pairs = Slow.of(made), made.pairs(N, SEED)
    clean, corrupt = (torch.tensor([getattr(pair, side) for pair in pairs]) for side in ("clean", "corrupt"))
    rows, answer, wrong = torch.arange(N), *(torch.tensor([getattr(p, side) for p in pairs]) for side in ("answer", "wrong"))
    there = slow.run(corrupt)[1]
    here = slow.run(clean)[1]
    instead = {"resample": there, "zero": {name: torch.zeros_like(x) for name, x in here.items()},
               "mean": {name: x.mean(dim=0, keepdim=True).expand_as(x) for name, x in here.items()}}[ablation]
    edges = slow.edges()

    def metric(ids: Tensor, outside: Iterable[Edge], instead: dict[str, Tensor]) -> Tensor:
        logits = slow.run(ids, outside, instead)[0]
        return logits[rows, answer] - logits[rows, wrong]

    whole = metric(clean, (), instead)

    def reduced(order: list[Edge]) -> list[Edge]:
        outside: list[Edge] = []
        for edge in order:
            if float((metric(clean, [*outside, edge], instead) - whole).abs().max()) <= tolerance:
                outside.append(edge)
        return [edge for edge in edges if edge not in outside]

    receivers = list(dict.fromkeys(receiver for _, receiver in edges))[::-1]
    kept = reduced([edge for r in receivers for edge in edges if edge[1] == r])
    other = reduced([edge for r in receivers for edge in edges[::-1] if edge[1] == r])
    alone = {"noising": [e for e in edges if float((metric(clean, [e], instead) - whole).abs().max()) > tolerance]}
    if ablation == "resample":
        low = metric(corrupt, (), here)
        alone["denoising"] = [e for e in edges if float((metric(corrupt, [e], here) - low).abs().max()) > tolerance]
    facts = {"ablation": ablation, "n": N, "seed": SEED, "tolerance": tolerance, "edges": len(edges),
             "other_order": [" -> ".join(edge) for edge in other] if other != kept else "the same circuit",
             **{direction: len(found) for direction, found in alone.items()},
             "alone beyond the circuit": sorted({"->".join(e) for some in alone.values() for e in some if e not in kept})}
    return Circuit.from_json(json.dumps({
        "name": f"{made.name} under {ablation} ablation", "model": made.name, "task": made.computes, "provenance": facts,
        "citation": "found by trying every edge: data/compiled/truth.py", "nodes": [],
        "edges": ["->".join(edge) for edge in kept]}))


if __name__ == "__main__":
    CIRCUITS.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for name in COMPILED:
        made = COMPILED[name]()
        for ablation in ABLATIONS:
            found = truth(made, ablation)
            found.save(CIRCUITS / f"{name.removeprefix('compiled-')}.{ablation}.json")
            print(name, ablation, len(found.edges), dict(found.provenance), flush=True)

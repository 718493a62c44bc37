"""Measure how well the circuits are planted, and try every edge: ``python check.py [name ...]`` (a minute each).

Writes ``figures`` into ``<name>.json`` and the circuits into ``circuits/planted``: ``<name>.json``, the planted one, and
``<name>.<ablation>.json``, what trying edge after edge leaves, as for the compiled programs (``data/compiled/truth.py``, the
same slow path in float64) but for the tolerance: weights that are trained do nothing exactly, so an edge stays out if the
logit difference changes on no prompt by more than a part (``TOLERANCE``) of what separates clean and corrupted prompts on
average. ``provenance`` of the planted circuit says where the two differ, what a finer tolerance leaves besides, how much the
strongest edge outside of it moves by itself, and how much all of them move together.

Figures, on prompts that were never trained on (``held_out``), of pairs whose outputs differ: ``accuracy``, share of prompts
whose output at the last token is the program's (of a number: nearest to it among the multiples of 1 / length); ``iia``,
interchange accuracy: what an aligned node writes is exchanged for what it writes in the other prompt's run, in the program
and in the model, and the outputs agree (mean over nodes); ``iia_edges``, the same of random sets of the circuit's edges;
``iia_shuffled``, of the program's node and every other node of the model of that kind; ``outside``, mean size of the change
of the metric when all edges outside of the circuit are exchanged, as a part of what the whole run changes; ``noise``, how
large what nodes outside of the circuit write is, as a part of what those within write.
"""

import itertools
import json
import random
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from interp.core.circuit import Circuit
from interp.models.compiled import COMPILED, Compiled
from interp.models.handmade.handmade import TokenPair
from interp.models.planted import PLANTED, Planted

sys.path.append(str(Path(__file__).resolve().parents[1] / "compiled"))

from train import CIRCUITS, HERE, circuit_of, held_out
from truth import ABLATIONS, Slow, truth

N, SEED, TOLERANCE, SETS = 256, 30, 0.1, 16
FINER = (0.05, 0.02, 0.01)
Edge = tuple[str, str]


@dataclass(frozen=True)
class Exchange:
    """Both models on the same pairs of prompts, ready to have edges exchanged."""

    program: Slow
    model: Slow
    clean: Tensor
    corrupt: Tensor
    there: tuple[Mapping[str, Tensor], Mapping[str, Tensor]]

    @classmethod
    def of(cls, made: Planted, pairs: Sequence[TokenPair]) -> "Exchange":
        clean, corrupt = (torch.tensor([getattr(pair, side) for pair in pairs]) for side in ("clean", "corrupt"))
        both = Slow.of(COMPILED[made.program]()), Slow.of(made)
        return cls(*both, clean, corrupt, tuple(one.run(corrupt)[1] for one in both))

    def agree(self, made: Compiled, of_program: Iterable[Edge], of_model: Iterable[Edge]) -> float:
        """Share of prompts with the same output when these edges carry the other prompt; NaN where none is asked for."""
        wanted = self.program.run(self.clean, of_program, self.there[0])[0]
        return agreement(made, wanted, self.model.run(self.clean, of_model, self.there[1])[0])


def agreement(made: Compiled, wanted: Tensor, found: Tensor) -> float:
    """Share of prompts whose logits at the last token [prompt, word] give the output that is wanted."""
    if made.numerical:
        at = made.vocabulary.index("value")
        return float(((found[:, at] - wanted[:, at]).abs() < 0.5 / made.length).double().mean())
    labels = wanted.argmax(dim=-1)
    asked = torch.tensor([made.vocabulary[label].startswith("=") for label in labels.tolist()])
    return float((found.argmax(dim=-1) == labels)[asked].double().mean())


def unseen(made: Planted, n: int, seed: int) -> list[TokenPair]:
    """Pairs of prompts that were never trained on, with different outputs of the program."""
    program, found, turn = COMPILED[made.program](), [], 1000 * seed
    while len(found) < n:
        drawn, turn = program.pairs(25 * n, turn), turn + 1
        kept = held_out(torch.tensor([p.clean for p in drawn])) & held_out(torch.tensor([p.corrupt for p in drawn]))
        found += itertools.compress(drawn, kept.tolist())
    return found[:n]


def figures(made: Planted, n: int = N, seed: int = SEED) -> dict[str, float]:
    """How well the circuit is planted; see the module."""
    circuit = {_edge(old): _edge(new) for old, new in circuit_of(made.program, made.alignment).items()}
    exchange, rng = Exchange.of(made, unseen(made, n, seed)), random.Random(seed)
    high, low = exchange.program, exchange.model
    nodes = {old: [edge for edge in circuit if edge[0] == old] for old in made.alignment}

    def node(old: str, new: str) -> float:
        return exchange.agree(made, nodes[old], [edge for edge in low.edges() if edge[0] == new])

    def others(old: str) -> list[str]:
        kind, senders = made.alignment[old][:3] == "mlp", {edge[0] for edge in low.edges()} - {"embed"}
        return sorted(name for name in senders - {made.alignment[old]} if (name[:3] == "mlp") == kind)

    sets = [[edge for edge in circuit if rng.random() < 0.5] for _ in range(SETS)]
    outside = [edge for edge in low.edges() if edge not in circuit.values()]
    written = low.run(exchange.clean)[1]
    sizes = {name: float(x[:, 1:].square().sum(-1).mean().sqrt()) for name, x in written.items() if name != "embed"}
    inside = set(made.alignment.values())
    words = itertools.product([made.vocabulary.index(word) for word in made.tokens], repeat=made.length)
    prompts = torch.tensor([(made.vocabulary.index("<bos>"), *ids) for ids in words])
    prompts = prompts[held_out(prompts)]
    found = {
        "accuracy": agreement(made, high.run(prompts)[0], low.run(prompts)[0]),
        "iia": _mean(node(old, new) for old, new in made.alignment.items()),
        "iia_edges": _mean(exchange.agree(made, some, [circuit[edge] for edge in some]) for some in sets),
        "iia_shuffled": _mean(node(old, new) for old in made.alignment for new in others(old)),
        "outside": moved(made, exchange, outside),
        "noise": _mean(x for name, x in sizes.items() if name not in inside) / _mean(sizes[name] for name in inside),
    }
    return {name: round(value, 4) for name, value in found.items()}


def moved(made: Planted, exchange: Exchange, edges: Iterable[Edge]) -> float:
    """Mean size of the metric's change when some edges are exchanged, as a part of what exchanging all changes."""
    before = exchange.model.run(exchange.clean)[0]
    whole = exchange.model.run(exchange.corrupt)[0]
    after = exchange.model.run(exchange.clean, edges, exchange.there[1])[0]
    if made.numerical:
        one, other = (torch.full((len(before),), made.vocabulary.index(word)) for word in ("value", "zero"))
    else:
        one, other = before.argmax(dim=-1), whole.argmax(dim=-1)
    rows = torch.arange(len(before))
    metric = [x[rows, one] - x[rows, other] for x in (before, whole, after)]
    return float((metric[2] - metric[0]).abs().mean() / (metric[1] - metric[0]).abs().mean())


def circuits(made: Planted) -> dict[str, Circuit]:
    """The planted circuit, and what trying every edge finds under each ablation."""
    planted = list(circuit_of(made.program, made.alignment).values())
    exchange = Exchange.of(made, made.pairs(N, SEED))
    alone = {"->".join(edge): moved(made, exchange, [edge]) for edge in exchange.model.edges()}
    outside = {name: x for name, x in alone.items() if name not in planted}
    pairs = made.pairs(N, 20)                       # those of the truth
    gap = _mean(abs(a - b) for a, b in zip(*_metrics(made, pairs), strict=True))
    found = {how: truth(made, how, TOLERANCE * gap) for how in ABLATIONS}
    kept = {how: [str(edge) for edge in circuit.edges] for how, circuit in found.items()}
    finer = {f"{part:.0%}": truth(made, "resample", part * gap) for part in FINER}
    facts = {
        "planted": f"interchange-intervention training on edges, with those of {made.program}: data/planted/train.py",
        "gap": round(gap, 4), "tolerance": f"{TOLERANCE:.0%} of the gap, on every prompt",
        "weakest within, of the gap": round(min(alone[name] for name in planted), 4),
        "strongest outside, of the gap": {(best := max(outside, key=outside.get)): round(outside[best], 4)},
        "all outside, of the gap": round(moved(made, exchange, [_edge(name) for name in outside]), 4),
        "trying every edge": {how: {"needed besides": [name for name in names if name not in planted],
                                    "not needed": [name for name in planted if name not in names]}
                              for how, names in kept.items()},
        "resample at a finer tolerance, besides": {
            part: [str(edge) for edge in circuit.edges if str(edge) not in planted] for part, circuit in finer.items()},
    }
    roles = {new: f"{old} of {made.program}" for old, new in made.alignment.items()}
    ends = sorted({node for edge in planted for node in (edge.split("->")[0], edge.split("->")[1].rsplit(".", 1)[0])})
    text = json.dumps({
        "name": f"{made.name} as planted", "model": made.name, "task": made.computes, "provenance": facts,
        "citation": "planted by training: data/planted/train.py; tried edge by edge: data/planted/check.py",
        "nodes": [{"node": name} | ({"role": roles[name]} if name in roles else {}) for name in ends], "edges": planted})
    return {"": Circuit.from_json(text)} | {f".{how}": circuit for how, circuit in found.items()}


def _metrics(made: Planted, pairs: Sequence[TokenPair]) -> tuple[list[float], list[float]]:
    """The logit difference of the clean and of the corrupted prompts."""
    slow = Slow.of(made)
    found = []
    for side in ("clean", "corrupt"):
        logits = slow.run(torch.tensor([getattr(pair, side) for pair in pairs]))[0]
        found.append([float(row[pair.answer] - row[pair.wrong]) for row, pair in zip(logits, pairs, strict=True)])
    return found[0], found[1]


def _edge(name: str) -> Edge:
    sender, receiver = name.split("->")
    return sender, receiver


def _mean(values: Iterable[float]) -> float:
    known = [x for x in values if x == x]
    return sum(known) / len(known)


if __name__ == "__main__":
    torch.set_num_threads(1)
    (CIRCUITS / "planted").mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or [name.removeprefix("planted-") for name in PLANTED]:
        made, file = PLANTED[f"planted-{name}"](), HERE / f"{name}.json"
        facts = json.loads(file.read_text(encoding="utf-8")) | {"figures": figures(made)}
        file.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        print(name, facts["figures"], flush=True)
        for ending, circuit in circuits(made).items():
            circuit.save(CIRCUITS / "planted" / f"{name}{ending}.json")
            print(name, ending, len(circuit.edges), dict(circuit.provenance), flush=True)

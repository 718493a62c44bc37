"""Plant the circuits of compiled programs in dense models: ``python train.py [name ...]`` (minutes each on one core).

Writes ``<name>.safetensors`` and ``<name>.json`` beside this file; ``check.py`` then measures how well the circuit is
planted. From a seed, on one thread: a second run on the same machine writes the same weights.

The model is a plain transformer (no norms) of 2 layers of 4 heads, d_model 32, from random weights. The nodes of the
program's circuit are aligned with nodes of it, and with these its edges. Each step draws pairs of prompts, half of them of
one or two words (so that high counts are no rarity), and takes

* the behaviour: the model's output at every position is the program's;
* interchanges (Geiger et al. 2022): of each pair a random set of the circuit's edges carries the other prompt's run, in the
  program and in the model, and the outputs are the same. Exchanging a node is one such set, all edges that leave it;
* strictness (Gupta et al. 2024): a random set of the other edges is exchanged besides, and the logits stay as they were.

The published losses exchange nodes and leave open which edges matter between those that do; on edges the truth is one of
edges. One prompt in five is never trained on (``held_out``).
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from exchange import run
from safetensors.torch import save_file
from torch import Tensor

from interp.core.circuit import Circuit
from interp.models.compiled import COMPILED, Compiled
from interp.models.plain import PlainConfig

sys.path.append(str(Path(__file__).resolve().parents[1] / "compiled"))

from truth import Slow

HERE = Path(__file__).resolve().parent
CIRCUITS = HERE.parents[1] / "circuits"
BATCH, SEED, SMOOTHING, STRICT = 64, 0, 0.01, 1.0


@dataclass(frozen=True)
class Plan:
    """Which program is planted, where its nodes go, how long it is trained and at which rate (the largest of the cycle)."""

    program: str
    alignment: dict[str, str]
    steps: int
    rate: float
    layers: int = 2


PLANS = {
    "reverse": Plan("compiled-reverse", {"L2H0": "L1H2"}, 1500, 1.5e-3),
    "share": Plan("compiled-share", {"mlp0": "mlp0", "L1H0": "L1H1"}, 3000, 2e-3),
    "same": Plan("compiled-same", {"L0H0": "L0H2", "mlp0": "mlp0"}, 3000, 1.5e-3),
}


def held_out(ids: Tensor) -> Tensor:
    """Whether prompts [prompt, position] are kept from the training: one in five, a matter of all of their tokens."""
    return (ids * 3 ** torch.arange(ids.shape[1])).sum(dim=1) % 5 == 0


def names_of_edges(shape: PlainConfig) -> list[str]:
    """The edges in the order of ``exchange.run``."""
    slow = Slow({}, shape.num_hidden_layers, shape.num_attention_heads, shape.head_dim)
    return ["->".join(edge) for edge in slow.edges()]


def shape_of(program: Compiled, layers: int) -> PlainConfig:
    """The shape of the dense model of a program."""
    return PlainConfig(vocab_size=len(program.vocabulary), hidden_size=32, num_hidden_layers=layers, num_attention_heads=4,
                       head_dim=8, intermediate_size=64, max_position_embeddings=program.length + 1, causal=False)


def started(shape: PlainConfig, generator: torch.Generator) -> dict[str, Tensor]:
    """Random weights: every map keeps the size of what it is given, about."""
    d, wide, hidden = shape.hidden_size, shape.num_attention_heads * shape.head_dim, shape.intermediate_size
    sizes = {"model.embed_tokens.weight": (shape.vocab_size, d, 1.0),
             "model.embed_positions.weight": (shape.max_position_embeddings, d, 1.0),
             "lm_head.weight": (shape.vocab_size, d, d**-0.5)}
    for layer in range(shape.num_hidden_layers):
        name = f"model.layers.{layer}"
        sizes |= {f"{name}.self_attn.{part}_proj.weight": (wide, d, d**-0.5) for part in "qkv"}
        sizes |= {f"{name}.self_attn.o_proj.weight": (d, wide, wide**-0.5),
                  f"{name}.mlp.up_proj.weight": (hidden, d, d**-0.5), f"{name}.mlp.up_proj.bias": (hidden, 0.0),
                  f"{name}.mlp.down_proj.weight": (d, hidden, hidden**-0.5), f"{name}.mlp.down_proj.bias": (d, 0.0)}
    return {name: (std * torch.randn(*size, generator=generator)).requires_grad_() for name, (*size, std) in sizes.items()}


def train(plan: Plan, seed: int = SEED) -> tuple[dict[str, Tensor], PlainConfig]:
    """The weights of a model with a planted circuit."""
    program, random = COMPILED[plan.program](), torch.Generator().manual_seed(seed)
    shape, of_program = shape_of(program, plan.layers), {n: x.detach() for n, x in program.model.state_dict().items()}
    weights, high, low = started(shape, random), names_of_edges(program.model.config), names_of_edges(shape)
    edges = circuit_of(plan.program, plan.alignment)
    at_high, at_low = [high.index(edge) for edge in edges], [low.index(aligned) for aligned in edges.values()]
    words = torch.tensor([program.vocabulary.index(word) for word in program.tokens])
    outputs = torch.tensor([word.startswith("=") for word in program.vocabulary])
    adam = torch.optim.Adam(weights.values(), lr=plan.rate, betas=(0.9, 0.98))      # a sudden gradient takes no leap
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, plan.rate, plan.steps, cycle_momentum=False)

    def draw() -> Tensor:
        drawn = words[torch.randint(len(words), (3 * BATCH, program.length), generator=random)]
        few = words[torch.randint(len(words), (3 * BATCH // 2, 2), generator=random)]
        drawn[::2] = few.gather(1, torch.randint(2, (len(few), program.length), generator=random))
        ids = torch.cat([torch.full((len(drawn), 1), program.vocabulary.index("<bos>")), drawn], dim=1)
        return ids[~held_out(ids)][: 2 * BATCH]

    def scattered(n: int) -> Tensor:
        """Random sets of n edges [prompt, n]: of each prompt another share."""
        return torch.rand(BATCH, n, generator=random) < torch.rand(BATCH, 1, generator=random)

    def off(logits: Tensor, wanted: Tensor) -> Tensor:
        """How far outputs are from those that are wanted, at every word of the prompts."""
        logits, wanted = logits[:, 1:].flatten(0, 1), wanted[:, 1:].flatten(0, 1)
        if program.numerical:
            return change(logits, wanted)
        labels = wanted.argmax(dim=-1)
        asked = outputs[labels]                     # the program leaves its output open at the others
        return torch.nn.functional.cross_entropy(logits[asked], labels[asked], label_smoothing=SMOOTHING)

    def change(logits: Tensor, before: Tensor) -> Tensor:
        """Mean square of the change of logits; of a number, in tenths of it."""
        if program.numerical:
            logits, before = (10 * x[..., -2:] for x in (logits, before))
        return (logits - before).square().mean()

    for step in range(plan.steps):
        ids = draw()
        here, chosen = ids[:BATCH], scattered(len(edges))
        with torch.no_grad():
            asked, sent = run(of_program, program.model.config, ids)
            mask = torch.zeros(BATCH, len(high))
            mask[:, at_high] = chosen.float()
            exchanged = run(of_program, program.model.config, here, mask, sent[BATCH:])[0]
        logits, sent = run(weights, shape, ids)
        mask = torch.zeros(BATCH, len(low))
        mask[:, at_low] = chosen.float()
        some = scattered(len(low)).float()
        some[:, at_low] = mask[:, at_low]
        both, others = run(weights, shape, here.repeat(2, 1), torch.cat([mask, some]), sent[BATCH:].repeat(2, 1, 1, 1)
                           )[0].split(BATCH)
        parts = off(logits, asked), off(both, exchanged), change(others[:, 1:], both[:, 1:])
        adam.zero_grad()
        (parts[0] + parts[1] + STRICT * parts[2]).backward()
        torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
        adam.step()
        schedule.step()
        if step % 250 == 249:
            print(step + 1, *(f"{part.item():.5f}" for part in parts), flush=True)
    return {name: x.detach().contiguous() for name, x in weights.items()}, shape


def circuit_of(program: str, alignment: Mapping[str, str]) -> dict[str, str]:
    """The edges of the program's circuit under resample ablation -> the edges of the model in their place."""
    circuit = Circuit.load(CIRCUITS / "compiled" / f"{program.removeprefix('compiled-')}.resample.json")
    at = {"embed": "embed", "logits": "logits"} | dict(alignment)
    return {str(edge): f"{at[str(edge.source)]}->{at[str(edge.target)]}.{edge.input}" for edge in circuit.edges}


def main(names: list[str]) -> None:
    torch.set_num_threads(1)
    for name in names:
        plan = PLANS[name]
        weights, shape = train(plan)
        program = COMPILED[plan.program]()
        config = {part: getattr(shape, part) for part in (
            "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "head_dim", "intermediate_size",
            "max_position_embeddings", "causal")}
        save_file(weights, HERE / f"{name}.safetensors", metadata={"format": "pt"})
        facts = {"name": name, "computes": program.computes, "program": plan.program, "alignment": plan.alignment,
                 "training": {"steps": plan.steps, "pairs per step": BATCH, "rate": plan.rate, "seed": SEED}, "figures": {},
                 "vocabulary": program.vocabulary, "tokens": program.tokens, "length": program.length,
                 "distinct": program.distinct, "numerical": program.numerical, "config": config}
        (HERE / f"{name}.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:] or list(PLANS))

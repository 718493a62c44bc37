"""Prompts, models and interventions that the engine's tests share."""

import torch

from interp.engine.intervention import Intervention, Value
from interp.models.plain import PlainConfig, PlainForCausalLM
from interp.models.tiny import randomise, tiny
from interp.tasks.batch import Batch
from interp.tasks.own import from_tokens

CLEAN = ([5, 11, 42, 8, 19, 77, 30], [5, 23, 8, 61, 17, 33, 9, 50, 12],
         [5, 70, 14, 28, 36, 91, 44, 20, 63], [5, 13, 55, 71, 82, 6, 27])
CORRUPT = ([5, 11, 58, 8, 19, 40, 30], [5, 23, 8, 45, 17, 33, 66, 50, 12],
           [5, 70, 31, 28, 15, 91, 44, 20, 63], [5, 13, 55, 90, 82, 6, 27])
SPANS = {"S": [(2, 3), (3, 4), (2, 3), (3, 4)], "phrase": [(3, 5), (4, 7), (3, 6), (1, 3)]}
"""Two lengths; ``S`` is one token, ``phrase`` two or three."""


def batch_of(padding_side: str = "right", rows: range | list[int] = range(4), **options) -> Batch:
    """The prompts above, or some of them, as a batch."""
    def pick(all_):
        return [all_[i] for i in rows]

    return from_tokens(pick(CLEAN), pick(CORRUPT), pick([21, 22, 23, 24]), pick([31, 32, 33, 34]),
                       positions={name: pick(span) for name, span in SPANS.items()}, padding_side=padding_side, **options)


def equal_length_batch(n: int = 4, length: int = 8, seed: int = 0, padding_side: str = "right") -> Batch:
    """Random pairs of one length that differ in the third token, named ``S``, and in the fifth."""
    generator = torch.Generator().manual_seed(seed)
    clean = torch.randint(3, 97, (n, length), generator=generator)
    corrupt = clean.clone()
    corrupt[:, 2] = (clean[:, 2] - 3 + 17) % 94 + 3
    corrupt[:, 4] = (clean[:, 4] - 3 + 29) % 94 + 3
    return from_tokens(clean, corrupt, 21, 31, positions={"S": 2}, padding_side=padding_side)


def model_of(architecture: str, seed: int = 0, **options):
    """A tiny random model, loaded."""
    import interp

    return interp.load(tiny(architecture, seed, **options))


def linear_network(layers: int = 2):
    """Uniform patterns, no norm, no MLP, in float64, loaded."""
    import interp

    network = PlainForCausalLM(PlainConfig(vocab_size=97, hidden_size=32, num_hidden_layers=layers))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        randomise(network)
    for layer in network.model.layers:
        torch.nn.init.zeros_(layer.self_attn.q_proj.weight)
        torch.nn.init.zeros_(layer.self_attn.k_proj.weight)
    return interp.load(network.double().eval(), verify=False)


def on_head(what: str, layer: int, head: int | None, value: Value, positions=None, **options) -> Intervention:
    """An intervention on one head."""
    return Intervention(what, layer, head, positions, value, **options)

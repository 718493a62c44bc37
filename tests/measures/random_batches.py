"""Batches of random tokens for the tiny models, and models of every decoder architecture."""

import random

from interp.models.load import load
from interp.models.tiny import DECODERS, VOCAB, tiny
from interp.tasks.build import build
from interp.tasks.prompt import Prompt, PromptPair

FEW = ("gpt2", "llama", "gpt_neox", "gemma2", "gpt_oss")  # biases; grouped heads; parallel; post-norms and caps; sinks
__all__ = ["DECODERS", "FEW", "model_of", "random_batch", "shallow"]


def shallow(architecture, seed=0, **options):
    """A tiny network of two layers, of one of ``FEW``."""
    layers = {"n_layer": 2} if architecture == "gpt2" else {"num_hidden_layers": 2}
    if architecture in ("gemma2", "gpt_oss"):
        layers["layer_types"] = ["sliding_attention", "full_attention"]
    return tiny(architecture, seed, **layers, **options)


def model_of(architecture, seed=0, **overrides):
    return load(tiny(architecture, seed, **overrides), verify=False)


def random_batch(n=3, lengths=(7,), seed=0, padding_side="right", vocab=VOCAB, differ=(1, 3, 4), **more):
    """Pairs of random prompts that differ in the tokens ``differ``, with the spans A (token 1), B (tokens 3 and 4)."""
    rng = random.Random(seed)
    pairs = []
    for i in range(n):
        length = lengths[i % len(lengths)]
        clean = [rng.randrange(3, vocab) for _ in range(length)]
        corrupt = list(clean)
        for at in differ:
            corrupt[at] = 3 + (clean[at] - 3 + rng.randrange(1, vocab - 3)) % (vocab - 3)
        answer, *wrong = rng.sample(range(3, vocab), 3)
        spans = {"A": (1, 2), "B": (3, 5)}
        pairs.append(PromptPair(Prompt("", spans, tuple(clean)), Prompt("", spans, tuple(corrupt)), answer, tuple(wrong)))
    return build(pairs, None, name="random", vocab_size=vocab, padding_side=padding_side, **more)

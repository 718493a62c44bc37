"""A loop of plain hooks on the transformers model, prompts in one batch: what one writes without a library."""

from typing import Any

import torch
from torch import Tensor

from benchmarks.harness.shapes import Pairs
from benchmarks.harness.timing import Contender


def all_heads(network: Any, pairs: Pairs, *, last_only: bool) -> Contender:
    """z of each head in turn taken from the clean run, at all positions: metric of each patched run [layer, head].

    ``last_only`` asks transformers for the logits of the last position alone, which spares most of the unembedding.
    """
    name = "plain hooks, last position's logits" if last_only else "plain hooks"
    keep = {"logits_to_keep": 1} if last_only else {}
    blocks, size = network.transformer.h, network.config.n_embd // network.config.n_head

    def run() -> Tensor:
        clean: dict[int, Tensor] = {}
        found = torch.empty(len(blocks), network.config.n_head)
        with torch.no_grad():
            kept = [block.attn.c_proj.register_forward_pre_hook(lambda _, z, layer=layer: clean.update({layer: z[0]}))
                    for layer, block in enumerate(blocks)]
            network(pairs.clean, use_cache=False, logits_to_keep=1)
            for hook in kept:
                hook.remove()
            for layer, block in enumerate(blocks):
                for head in range(network.config.n_head):
                    columns = slice(head * size, (head + 1) * size)

                    def patch(_: Any, given: tuple, layer: int = layer, columns: slice = columns) -> tuple:
                        z = given[0].clone()
                        z[..., columns] = clean[layer][..., columns]
                        return (z,)

                    hook = block.attn.c_proj.register_forward_pre_hook(patch)
                    found[layer, head] = pairs.metric(network(pairs.corrupt, use_cache=False, **keep).logits)
                    hook.remove()
        return found

    return Contender(name, run, warm=False)


def baseline(network: Any, pairs: Pairs) -> float:
    """The metric of the corrupted run."""
    with torch.no_grad():
        return float(pairs.metric(network(pairs.corrupt, use_cache=False).logits))

"""Edges by others: TransformerLens' attribution, and a loop of plain hooks that patches one edge per forward pass.

An edge is patched by handing one receiver, and nobody else, the residual stream with one sender's contribution exchanged;
everything behind the receiver is computed anew.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformer_lens.tools.analysis.attribution_patching import EdgeAttributionConfig, attribution_patch

from benchmarks.harness.shapes import Pairs
from benchmarks.harness.timing import Contender
from benchmarks.peers.transformer_lens import VERSION


def attribution(bridge: Any, pairs: Pairs) -> Contender:
    """``attribution_patch(granularity="edge")`` on the first pair: its scores by edge and position."""
    def metric(logits: Tensor) -> Tensor:
        return logits[0, -1, pairs.answer[0]] - logits[0, -1, pairs.wrong[0]]

    how = EdgeAttributionConfig(granularity="edge")

    def run() -> Any:
        for parameter in bridge.parameters():
            parameter.requires_grad_(True)
        return attribution_patch(bridge, pairs.clean[:1], pairs.corrupt[:1], metric, how)

    return Contender(VERSION, run, warm=False, part="one pair")


def summed(found: Any, edges: Any) -> np.ndarray:
    """Its scores summed over positions, in the order of ``edges`` [edge]."""
    total = np.zeros(len(edges))
    for (sender, receiver), score in found.edge_scores.items():
        total[edges.index(f"{name_of(sender)}->{name_of(receiver)}")] += score
    return total


def name_of(node: Any) -> str:
    """A node of TransformerLens as the project writes it."""
    into = {"q_input": ".q", "k_input": ".k", "v_input": ".v"}.get(node.kind, "")
    plain = {"embed": "embed", "mlp_out": f"mlp{node.layer}", "mlp_in": f"mlp{node.layer}.mlp", "logits": "logits.out"}
    return plain.get(node.kind, f"L{node.layer}H{node.head}{into}")


def loop(network: Any, pairs: Pairs, names: Sequence[str], every: int) -> Contender:
    """Patch the edges ``names`` (``L0H3->L4H1.k``), clean into corrupted run, one forward pass each: metric [edge]."""
    def run(writes: tuple[dict, dict]) -> Tensor:
        clean, corrupt = writes
        with torch.no_grad():
            return torch.stack([pairs.metric(patched(network, pairs, name, clean, corrupt)) for name in names])

    def setup() -> tuple[dict, dict]:
        return writes(network, pairs.clean), writes(network, pairs.corrupt)

    return Contender("plain hooks, one edge a pass", run, setup, times=every / len(names), warm=False,
                     part=f"{len(names)} of {every:,} edges measured, the rest extrapolated")


def writes(network: Any, ids: Tensor) -> dict[str, Tensor]:
    """What each sender adds to the residual stream: name -> [prompt, position, width]."""
    found: dict[str, Tensor] = {}
    config = network.config
    size = config.n_embd // config.n_head

    def embed(_: Any, given: tuple) -> None:
        found["embed"] = given[0]

    def heads(module: Any, given: tuple, layer: int) -> None:
        for head in range(config.n_head):
            part = slice(head * size, (head + 1) * size)
            found[f"L{layer}H{head}"] = given[0][..., part] @ module.weight[part]

    def mlp(_: Any, __: tuple, out: Tensor, layer: int) -> None:
        found[f"mlp{layer}"] = out

    with ExitStack() as stack, torch.no_grad():
        stack.callback(network.transformer.h[0].register_forward_pre_hook(embed).remove)
        for layer, block in enumerate(network.transformer.h):
            stack.callback(block.attn.c_proj.register_forward_pre_hook(partial(heads, layer=layer)).remove)
            stack.callback(block.mlp.register_forward_hook(partial(mlp, layer=layer)).remove)
        network(ids, use_cache=False, logits_to_keep=1)
    return found


def patched(network: Any, pairs: Pairs, name: str, clean: dict[str, Tensor], corrupt: dict[str, Tensor]) -> Tensor:
    """Logits of the corrupted run at the last position, one edge carrying what its sender writes in the clean run."""
    sender, _, rest = name.partition("->")
    receiver, _, into = rest.rpartition(".")
    change = clean[sender] - corrupt[sender]
    if into == "out":
        hook = network.transformer.ln_f.register_forward_pre_hook(lambda _, given: (given[0] + change,))
    elif into == "mlp":
        block = network.transformer.h[int(receiver.removeprefix("mlp"))]
        hook = block.ln_2.register_forward_pre_hook(lambda _, given: (given[0] + change,))
    else:
        layer, head = (int(part) for part in receiver.removeprefix("L").split("H"))
        hook = _head_input(network, layer, head, into, change)
    logits = network(pairs.corrupt, use_cache=False, logits_to_keep=1).logits
    hook.remove()
    return logits


def _head_input(network: Any, layer: int, head: int, into: str, change: Tensor) -> Any:
    """q, k or v of one head computed from the changed stream; only its columns are multiplied again."""
    block, width = network.transformer.h[layer], network.config.n_embd
    size = width // network.config.n_head
    start = "qkv".index(into) * width + head * size
    columns = slice(start, start + size)
    seen = {}

    def keep(_: Any, given: tuple) -> None:
        seen["x"] = given[0]

    def project(module: Any, _: tuple, out: Tensor) -> Tensor:
        read.remove()
        out[..., columns] = block.ln_1(seen["x"] + change) @ module.weight[:, columns] + module.bias[columns]
        return out

    read = block.ln_1.register_forward_pre_hook(keep)
    return block.attn.c_attn.register_forward_hook(project)

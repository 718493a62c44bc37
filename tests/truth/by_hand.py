"""The slow, independent path of the truth tests: heads removed by plain PyTorch hooks, no code of engine or measures."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from interp.core.head import Head
from interp.models.handmade import HandMade, TokenPair


def ids_of(pairs: list[TokenPair], side: str) -> Tensor:
    return torch.tensor([getattr(pair, side) for pair in pairs])


def z_of(made: HandMade, ids: Tensor) -> dict[Head, Tensor]:
    """z [prompt, position, d_head] of every head, by hooks on the output projections."""
    found: dict[Head, Tensor] = {}
    handles = []
    for layer, block in enumerate(made.model.model.layers):
        def keep(module, args, layer=layer):
            for h, z in enumerate(args[0].split(made.model.config.head_dim, dim=-1)):
                found[Head(layer, h)] = z.clone()
        handles.append(block.self_attn.o_proj.register_forward_pre_hook(keep))
    with torch.no_grad():
        made.model(ids)
    for handle in handles:
        handle.remove()
    return found


def logits_with(made: HandMade, ids: Tensor, edits: Mapping[Head, Tensor | float]) -> Tensor:
    """Last logits [prompt, vocab] with z of some heads replaced."""
    handles, width = [], made.model.config.head_dim
    for layer, block in enumerate(made.model.model.layers):
        def edit(module, args, layer=layer):
            z = args[0].clone()
            for head, value in edits.items():
                if head.layer == layer:
                    z[..., head.head * width : (head.head + 1) * width] = value
            return (z, *args[1:])
        handles.append(block.self_attn.o_proj.register_forward_pre_hook(edit))
    with torch.no_grad():
        logits = made.model(ids).logits[:, -1]
    for handle in handles:
        handle.remove()
    return logits


def logit_diff(pairs: list[TokenPair], logits: Tensor) -> np.ndarray:
    return np.array([float(row[pair.answer] - row[pair.wrong]) for row, pair in zip(logits, pairs, strict=True)])


def removal_effects(made: HandMade, pairs: list[TokenPair], kind: str, also: tuple[Head, ...] = ()
                    ) -> dict[Head, np.ndarray]:
    """What removing each head alone changes (with ``also`` zeroed before and after), per prompt; larger = matters more."""
    clean, corrupt = ids_of(pairs, "clean"), ids_of(pairs, "corrupt")
    z_clean, z_corrupt = z_of(made, clean), z_of(made, corrupt)
    on = corrupt if kind == "denoising" else clean
    base = logit_diff(pairs, logits_with(made, on, dict.fromkeys(also, 0.0)))
    effects = {}
    for head in z_clean:
        value = {"noising": z_corrupt[head], "denoising": z_clean[head], "zero": torch.zeros(()),
                 "mean": z_clean[head].mean(dim=0, keepdim=True)}[kind]
        changed = logit_diff(pairs, logits_with(made, on, {**dict.fromkeys(also, 0.0), head: value}))
        effects[head] = changed - base if kind == "denoising" else base - changed
    return effects

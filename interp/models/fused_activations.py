"""Activations that transformers writes out in several tensor operations, replaced by torch's single one."""

import torch
from torch import nn

_PROBE = (-12.0, 12.0, 4801)


def fuse_activations(network: nn.Module) -> None:
    """In modules that are ours: every GELU written out in Python becomes ``nn.GELU``, where it gives the same to 1e-6.

    GPT-2's takes eight passes over the widest tensor of the network; torch's takes one.
    """
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if (fused := _fused(child)) is not None:
                setattr(parent, name, fused)


def _fused(module: nn.Module) -> nn.Module | None:
    """torch's own activation that does what this one does, if it is a GELU of another class."""
    if "gelu" not in type(module).__name__.lower() or isinstance(module, nn.GELU) or len(list(module.children())):
        return None
    if list(module.parameters()) or list(module.buffers()):
        return None
    x = torch.linspace(*_PROBE)
    with torch.no_grad():
        own = module(x)
        for kind in ("tanh", "none"):
            candidate = nn.GELU(approximate=kind)
            if float((candidate(x) - own).abs().max()) <= 1e-6 * 12:
                return candidate.train(module.training)
    return None

"""A second set of modules on the same weights, so that a network in memory can be worked on and stay as it is."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from interp.models.attention_tap import IMPLEMENTATION
from interp.models.corrections import correct
from interp.models.fused_activations import fuse_activations


def with_same_weights(network: nn.Module, device: Any, dtype: torch.dtype | None) -> nn.Module:
    """A second set of modules on the same weights, which are frozen in it; with its own configuration."""
    memo: dict[int, Any] = {}
    for name, parameter in network.named_parameters():
        own = parameter.detach().to(device=device, dtype=_dtype_of(network, name, parameter, dtype))
        memo[id(parameter)] = nn.Parameter(own, requires_grad=False)
    twin = copy.deepcopy(network, memo)
    saved = network.state_dict().keys()
    for prefix, module in twin.named_modules():
        for name, buffer in module._buffers.items():
            whole = f"{prefix}.{name}".removeprefix(".")
            if buffer is not None:
                kind = _dtype_of(network, whole, buffer, dtype) if whole in saved else None
                module._buffers[name] = buffer.to(device=device, dtype=kind)
    correct(twin)
    fuse_activations(twin)
    set_attention(twin, IMPLEMENTATION)
    if dtype is not None:
        twin.config.dtype = dtype
    return twin.eval()


def _dtype_of(network: nn.Module, name: str, tensor: Tensor, dtype: torch.dtype | None) -> torch.dtype | None:
    """The dtype that a weight gets: the one asked for, save where transformers keeps float32 (as it does when loading)."""
    if dtype is None or not tensor.is_floating_point():
        return None
    kept = set(getattr(network, "_keep_in_fp32_modules_strict", None) or ())
    if dtype == torch.float16:
        kept |= set(getattr(network, "_keep_in_fp32_modules", None) or ())
    low = dtype in (torch.float16, torch.bfloat16)
    return torch.float32 if low and kept.intersection(name.split(".")) else dtype


def set_attention(network: nn.Module, implementation: str) -> None:
    """Choose the attention implementation in every configuration of a network, also where transformers would refuse to."""
    for module in network.modules():
        config = getattr(module, "config", None)
        if hasattr(config, "_attn_implementation"):
            config._attn_implementation = implementation

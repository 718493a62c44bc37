"""Faults of transformers' eager attention that would make a model something else than what it was trained to be."""

from typing import Any

import torch
from torch import nn


def correct(network: nn.Module) -> None:
    """Mend, on modules that are ours, what transformers (5.9 to 5.23) computes wrongly with eager attention.

    Falcon with alibi: the model adds alibi to the mask, and the eager branch of its attention adds it again; the sdpa
    branch, the default, does not. It is handed zeros instead, so that it counts once.
    """
    for module in network.modules():
        if type(module).__name__ == "FalconAttention":
            module.register_forward_pre_hook(_alibi_once, with_kwargs=True)


def _alibi_once(module: nn.Module, args: Any, kwargs: Any) -> Any:
    mask, alibi = kwargs.get("attention_mask"), kwargs.get("alibi")
    if alibi is None or mask is None or mask.dim() != 4 or mask.shape[1] == 1:      # a mask per head has alibi in it
        return None
    return args, {**kwargs, "alibi": torch.zeros_like(alibi)}

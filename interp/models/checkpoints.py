"""Checkpoints of a shipped model's training: ``load("organism", revision="step-200")``.

A checkpoint is one safetensors file in the model's folder ``checkpoints/``. To stay small it keeps eight bits per weight:
of a matrix, rows of int8 and one float32 scale per row (the largest weight of the row is 127 steps from zero, so that no
weight is further from its true value than half a step, 0.4 % of the row's largest); vectors are kept as they are.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

FOLDER = "checkpoints"
_SCALE = ".scale"


def checkpoints(folder: Path) -> dict[str, Path]:
    """Name (``step-200``) -> file of the checkpoints beside a model, in the order of training."""
    found = {int(match[1]): path for path in (folder / FOLDER).glob("step_*.safetensors")
             if (match := re.fullmatch(r"step_(\d+)", path.stem))}
    return {f"step-{step}": found[step] for step in sorted(found)}


def pack(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights as a checkpoint keeps them; the inverse, up to half a step per weight, of ``unpack``."""
    packed = {}
    for name, weight in weights.items():
        weight = weight.detach().float().cpu()
        if weight.dim() < 2:
            packed[name] = weight.clone()
            continue
        scale = weight.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / 127
        packed[name] = (weight / scale[:, None]).round().to(torch.int8)
        packed[name + _SCALE] = scale
    return packed


def unpack(path: Path) -> dict[str, Tensor]:
    """The weights of a checkpoint, float32, by the names that the network has for them."""
    stored = load_file(path)
    return {name: weight.float() * stored[name + _SCALE][:, None] if weight.dtype == torch.int8 else weight
            for name, weight in stored.items() if not name.endswith(_SCALE)}

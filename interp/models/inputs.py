"""What a network is fed: position ids that make padding exact, and small random inputs for the checks at load."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from interp.core.errors import InterpError


def with_positions(network: nn.Module, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs, with ``position_ids`` that count real tokens from 0 where the mask has padding.

    Networks that make positions from the mask or from the padding tokens themselves, or need none, get none.
    """
    mask = inputs.get("attention_mask")
    if mask is None or mask.dim() != 2 or "position_ids" in inputs or "input_ids" not in inputs or bool(mask.all()):
        return dict(inputs)
    if "position_ids" not in inspect.signature(network.forward).parameters:
        return dict(inputs)
    if any(hasattr(module, "create_position_ids_from_input_ids") for module in network.modules()):     # RoBERTa's kin
        return dict(inputs)
    positions = (mask.long().cumsum(-1) - 1).clamp(min=0)
    return {**inputs, "position_ids": positions[:, -inputs["input_ids"].shape[1]:]}


def sample_inputs(network: nn.Module, n: int = 1, length: int = 5, seed: int = 0) -> dict[str, Tensor]:
    """Random tokens (for an encoder-decoder two of them less for the decoder) or a random image, on the network's device."""
    config, generator = network.config, torch.Generator().manual_seed(seed)
    parameter = next(network.parameters())
    if network.main_input_name == "pixel_values":
        vision = getattr(config, "vision_config", config)
        size = getattr(vision, "image_size", 224)
        height, width = size if isinstance(size, (tuple, list)) else (size, size)
        shape = (n, getattr(vision, "num_channels", 3), height, width)
        return {"pixel_values": torch.randn(shape, generator=generator).to(parameter)}
    if network.main_input_name != "input_ids":
        raise InterpError(f"load {type(network).__name__}", f"it takes {network.main_input_name}",
                          "choose a model of tokens or of images")
    vocabulary = network.get_input_embeddings().num_embeddings
    forbidden = getattr(config, "pad_token_id", None)

    def draw(count: int) -> Tensor:
        ids = torch.randint(0, vocabulary, (n, count), generator=generator)
        ids = torch.where(ids == forbidden, (ids + 1) % vocabulary, ids) if isinstance(forbidden, int) else ids
        return ids.to(parameter.device)

    tokens = {"input_ids": draw(length)}
    tokens["attention_mask"] = torch.ones_like(tokens["input_ids"])
    if getattr(config, "is_encoder_decoder", False):
        tokens["decoder_input_ids"] = draw(max(length - 2, 2))
    return tokens

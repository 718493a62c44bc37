"""TransformerLens-native models: weights under TransformerLens' property names beside a ``config.json`` of its options.

Such a folder holds ``model.safetensors`` with keys like ``blocks.0.attn.W_Q`` [head, d_model, d_head] and a ``config.json``
whose entry ``tl_config`` has the options of ``TransformerBridgeConfig`` (n_layers, d_model, n_heads, d_head, n_ctx, d_vocab,
attn_only, normalization_type, ...). Biases that the file does not have are zero; any other gap is an error.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from interp.core.errors import InterpError


def is_native_folder(path: str | Path) -> bool:
    """Whether a folder holds a TransformerLens-native model (its ``config.json`` has an entry ``tl_config``)."""
    file = Path(path) / "config.json"
    if not file.is_file():
        return False
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError:
        return False
    return isinstance(config, dict) and isinstance(config.get("tl_config"), dict)


def load_native(path: str | Path, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> Any:
    """The TransformerBridge of a native folder, in evaluation mode.

    Raises:
        InterpError: the folder is not a native model, its options are not ones that TransformerLens has, or weights are
            missing, superfluous or of another shape than the configuration says.
    """
    from safetensors.torch import load_file

    folder = Path(path)
    asked = f"load the TransformerLens-native model {str(folder)!r}"
    if not is_native_folder(folder):
        raise InterpError(asked, "it has no config.json with an entry 'tl_config'", "give the folder of such a model")
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise InterpError(asked, "it has no model.safetensors", "put the weights there, named as TransformerLens does")
    options = json.loads((folder / "config.json").read_text(encoding="utf-8"))["tl_config"]
    return native_bridge(options, load_file(str(weights)), asked=asked, device=device, dtype=dtype)


def native_bridge(options: dict[str, Any], weights: dict[str, Tensor], *, asked: str = "build a native TransformerBridge",
                  device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> Any:
    """A native TransformerBridge from options and weights in memory (see ``load_native``, which raises the same)."""
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge.sources.native import boot
    from transformer_lens.utilities.tl_checkpoint_conversion import convert_tl_checkpoint

    try:
        config = TransformerBridgeConfig.from_dict({**options, "init_weights": False})
        with torch.random.fork_rng(devices=[]):
            bridge = boot(config, device=device, dtype=dtype, model_name=str(options.get("model_name", "native")))
        state = convert_tl_checkpoint(weights, bridge.cfg)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise InterpError(asked, f"TransformerLens refuses it ({error})".replace("\n", " "),
                          "correct tl_config or the names and shapes of the weights") from error
    own = bridge.state_dict()
    absent = sorted(own.keys() - state.keys())
    state |= {key: torch.zeros_like(own[key]) for key in absent if key.endswith(".bias")}
    missing = [key for key in absent if not key.endswith(".bias")]
    unknown = sorted(state.keys() - own.keys())
    if missing or unknown:
        raise InterpError(asked, "; ".join(filter(None, (missing and f"weights are missing ({', '.join(missing)})",
                                                         unknown and f"weights fit nothing ({', '.join(unknown)})"))),
                          "make tl_config and the weights agree")
    wrong = [f"{key} is {list(value.shape)} and not {list(own[key].shape)}" for key, value in state.items()
             if value.shape != own[key].shape]
    if wrong:
        raise InterpError(asked, "; ".join(wrong), "make tl_config and the weights agree")
    bridge.load_state_dict(state, strict=True)
    return bridge.eval()

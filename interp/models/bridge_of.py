"""``bridge_of``: a transformers network as a TransformerBridge, offline, on a copy of its weights."""

import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from interp.core.errors import InterpError
from interp.models.bridge_repairs import after_bridging, before_bridging
from interp.models.inputs import sample_inputs


def bridge_of(network: nn.Module, tokenizer: Any = None, *, check: bool = True) -> Any:
    """A ``TransformerBridge`` with the weights of a transformers network, which stays as it was: the bridge works on a copy.

    Nothing is fetched. The bridge is in evaluation mode with eager attention, carries ``tokenizer`` unchanged (with a
    padding token where it had none) and records the dtype and device of the weights.

    Args:
        check: compare the logits of bridge and network on a few tokens; some networks are bridged wrongly.

    Raises:
        InterpError: TransformerLens does not know the architecture, or its bridge gives other logits.
    """
    from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

    architecture = type(network).__name__
    asked = f"make a TransformerBridge of {architecture}"
    if architecture not in SUPPORTED_ARCHITECTURES:
        raise InterpError(asked, "TransformerLens does not know this architecture", "use the transformers backend")
    inner = copy.deepcopy(network).eval()
    inner.set_attn_implementation("eager")
    expected = _probe(inner) if check else None
    try:
        with torch.random.fork_rng(devices=[]):    # it initialises layers that then receive the weights
            bridge = build_bridge_from_module(inner, architecture, hf_config=inner.config,
                                              model_name=getattr(network, "name_or_path", "") or architecture,
                                              post_adapter_hook=partial(before_bridging, config=inner.config))
    except (RuntimeError, ValueError, KeyError, AttributeError, NotImplementedError) as error:
        raise InterpError(asked, f"TransformerLens fails on it ({type(error).__name__}: {error})".rstrip("."),
                          "use the transformers backend") from error
    bridge.eval()
    after_bridging(bridge)
    if expected is not None:
        difference = float((_probe(bridge.original_model) - expected).abs().max())
        if not difference <= _tolerance(expected, next(network.parameters()).dtype):
            raise InterpError(asked, f"the bridge's logits differ from the network's by {difference:.2g}",
                              "use the transformers backend")
    if tokenizer is not None:
        _attach(bridge, tokenizer)
    return bridge


def _tolerance(x: Tensor, dtype: torch.dtype) -> float:
    size = float(x.abs().max())
    return 1e-4 * max(1.0, size) if dtype == torch.float32 else 0.05 * size


def _probe(network: Any) -> Tensor:
    """Logits (or last hidden state) on a few fixed tokens or pixels."""
    with torch.no_grad():
        out = network(**sample_inputs(network, length=12))
    return out.logits if hasattr(out, "logits") else out.last_hidden_state


def _attach(bridge: Any, tokenizer: Any) -> None:
    """Give the bridge a tokenizer without its public setter, which loads the tokenizer again from the Hub."""
    tokenizer = copy.deepcopy(tokenizer)
    if tokenizer.pad_token is None and tokenizer.eos_token is not None:
        tokenizer.pad_token = tokenizer.eos_token
    special = {i for i in (tokenizer.bos_token_id, tokenizer.cls_token_id) if i is not None}
    ids = tokenizer("a").input_ids
    bridge._tokenizer = tokenizer
    bridge.cfg.tokenizer_prepends_bos = len(ids) > 1 and ids[0] in special
    bridge.cfg.tokenizer_appends_eos = len(ids) > 1 and ids[-1] == tokenizer.eos_token_id

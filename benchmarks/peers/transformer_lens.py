"""TransformerLens' own functions on a bridge of the same weights, as its users call them, without gradients."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from transformer_lens import patching

from benchmarks.harness.shapes import Pairs
from benchmarks.harness.timing import Contender

VERSION = "TransformerLens 4.3"


def all_positions(bridge: Any, pairs: Pairs, what: str = "out") -> Contender:
    """``get_act_patch_attn_head_WHAT_all_pos``: metric of each patched run [layer, head]."""
    function = getattr(patching, f"get_act_patch_attn_head_{what}_all_pos")
    return Contender(VERSION, partial(_run, function, bridge, pairs), partial(_cache, bridge, pairs), warm=False)


def by_position(bridge: Any, pairs: Pairs, what: str, layer: int, positions: Sequence[int]) -> Contender:
    """``get_act_patch_attn_head_WHAT_by_pos`` on one layer and some positions, the rest extrapolated.

    The metric of each patched run [position, head]. Each costs the same, a forward pass through the whole model.
    """
    function = getattr(patching, f"get_act_patch_attn_head_{what}_by_pos")
    heads, layers, length = bridge.cfg.n_heads, bridge.cfg.n_layers, pairs.clean.shape[1]
    cells = pd.DataFrame([(layer, p, h) for p in positions for h in range(heads)], columns=["layer", "pos", "head"])
    where = "" if len(positions) == length else f", {len(positions)} of its {length} positions"

    def run(cache: Any) -> Tensor:
        found = _run(function, bridge, pairs, cache, index_axis_names=None, index_df=cells)
        return found.reshape(len(positions), heads)

    return Contender(VERSION, run, partial(_cache, bridge, pairs), times=layers * length / len(positions),
                     part=f"layer {layer}{where} measured, the rest extrapolated", warm=False)


def baseline(bridge: Any, pairs: Pairs) -> float:
    """The metric of the corrupted run."""
    with torch.no_grad():
        return float(pairs.metric(bridge(pairs.corrupt)))


def _cache(bridge: Any, pairs: Pairs) -> Any:
    with torch.no_grad():
        return bridge.run_with_cache(pairs.clean)[1]


def _run(function: Callable[..., Tensor], bridge: Any, pairs: Pairs, cache: Any, **cells: Any) -> Tensor:
    with torch.no_grad():
        return function(bridge, pairs.corrupt, cache, pairs.metric, **cells)

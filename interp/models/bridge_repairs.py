"""What TransformerLens 4.3 gets wrong in a bridge of some networks, put right where a bridge is made by ``bridge_of``.

Each repair is judged like every bridge: by its logits, which ``bridge_of`` compares with the network's.
"""

from typing import Any

import torch
from torch import Tensor, nn


def before_bridging(adapter: Any, config: Any) -> None:
    """Repairs of the adapter, to be made before it takes the network apart.

    Falcon's later architecture interleaves its fused projection by key-value head (the group's queries, its key, its
    value); TransformerLens splits it as if all queries came first.
    """
    if type(adapter).__name__ == "FalconArchitectureAdapter" and getattr(adapter.cfg, "new_decoder_architecture", False):
        attention = adapter.component_mapping["blocks"].submodules["attn"]
        attention.split_qkv_matrix = _split_by_group
        adapter.cfg.n_key_value_heads = config.num_kv_heads    # 1 by multi_query, which the later architecture ignores


def _split_by_group(attention: Any) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
    fused, groups, size = attention.query_key_value, attention.num_kv_heads, attention.head_dim

    def parts(whole: Tensor) -> list[Tensor]:
        grouped = whole.detach().clone().unflatten(0, (groups, -1, size))
        return [grouped[:, :-2].flatten(0, 2), grouped[:, -2].flatten(0, 1), grouped[:, -1].flatten(0, 1)]

    made = []
    biases: list[Tensor | None] = [None] * 3 if fused.bias is None else list(parts(fused.bias))
    for weight, bias in zip(parts(fused.weight), biases, strict=True):
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, dtype=weight.dtype, device=weight.device)
        linear.weight = nn.Parameter(weight)
        linear.bias = None if bias is None else nn.Parameter(bias)
        made.append(linear)
    return made[0], made[1], made[2]


def after_bridging(bridge: Any) -> None:
    """Repairs of a finished bridge.

    * OLMo-2 rotates in float32; transformers casts queries and keys back, the bridge leaves them so and then fails in lower
      precision.
    * Falcon with ALiBi gets its position bias within the attention mask and once more by itself; the bridge adds both.
    """
    dtype = bridge.cfg.dtype
    for block in bridge._modules.get("blocks", ()):
        attention = block._modules.get("attn")
        if attention is None:
            continue
        if dtype != torch.float32:
            for name in ("hook_rot_q", "hook_rot_k"):
                if name in attention._modules:
                    attention._modules[name].register_forward_hook(lambda module, args, out: out.to(dtype))
        if type(attention.original_component).__name__ == "FalconAttention":
            attention.register_forward_pre_hook(_without_alibi, with_kwargs=True)


def _without_alibi(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    return args, {**kwargs, "alibi": None}

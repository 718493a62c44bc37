"""The attention stacks of a TransformerBridge: which blocks, what shape, and which seam each of their sites has."""

from typing import Any

from torch import Tensor, nn

from interp.models.backend import Stack
from interp.models.bridge_sites import (
    Install,
    at_argument,
    at_converted,
    at_flat,
    at_hook,
    at_key,
    at_result,
    at_returned,
    at_shared_method,
    at_softmax,
    at_sum,
    swap,
)

Layers = dict[int, tuple[Any, Any]]
"""Layer -> (block, attention of that block)."""

_PLACES = (("blocks", "attn", None), ("decoder_blocks", "self_attn", "self"), ("encoder_blocks", "attn", "encoder"),
           ("decoder_blocks", "cross_attn", "cross"))


def find_attention(bridge: Any) -> dict[str, Layers]:
    """Attention kind -> its layers, in the order self, encoder, vision, cross."""
    found: dict[str, Layers] = {}
    for blocks, name, kind in _PLACES:
        having = [block for block in bridge._modules.get(blocks, ())
                  if name in block._modules and "o" in block._modules[name]._modules]
        layers = {layer: (block, block._modules[name]) for layer, block in enumerate(having)}
        if layers:
            found[kind or _kind(bridge)] = layers
    return found


def _kind(bridge: Any) -> str:
    if getattr(bridge.cfg, "is_visual_model", False):
        return "vision"
    return "encoder" if getattr(bridge.cfg, "attention_dir", "causal") == "bidirectional" else "self"


def stack_of(bridge: Any, kind: str, layers: Layers) -> Stack:
    """The shape of one stack, read off its first layer and the configuration."""
    block, attention = next(iter(layers.values()))
    family = _family(bridge, attention)
    n_heads = int(attention.config.n_heads)
    d_head = _width(attention.o.original_component, "in") // n_heads
    leaf = attention.original_component
    n_kv = n_heads if family == "latent" else int(getattr(attention.config, "n_key_value_heads", None) or n_heads)
    return Stack(
        kind, n_layers=len(layers), n_heads=n_heads, n_kv_heads=n_kv, d_head=d_head,
        d_qk=leaf.qk_head_dim if family == "latent" else d_head, d_model=int(bridge.cfg.d_model),
        causal=kind == "self", rotary=family in ("rotary", "latent", "joint", "gptj", "native_rotary"),
        windows=_windows(bridge, len(layers)) if kind == "self" else (None,) * len(layers),
        learned_sink=getattr(leaf, "sinks", None) is not None, parallel=_is(block, "ParallelBlockBridge"),
        post_norm="ln1_post" in block._modules)


def _windows(bridge: Any, n_layers: int) -> tuple[int | None, ...]:
    config = getattr(bridge.original_model, "config", None)
    size = getattr(config, "sliding_window", None)
    if size is None or getattr(config, "use_sliding_window", True) is False:
        return (None,) * n_layers
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * n_layers
    return tuple(size if kind == "sliding_attention" else None for kind in kinds if kind.endswith("attention"))[:n_layers]


def _width(projection: Any, side: str) -> int:
    rows, columns = projection.weight.shape
    return rows if (type(projection).__name__ == "Conv1D") == (side == "in") else columns


def _is(component: Any, name: str) -> bool:
    return any(parent.__name__ == name for parent in type(component).__mro__)


def _family(bridge: Any, attention: Any) -> str:
    """How TransformerLens bridges this attention."""
    if _is(attention, "MLAAttentionBridge"):
        return "latent"
    if _is(attention, "JointQKVPositionEmbeddingsAttentionBridge"):
        return "joint"
    if _is(attention, "JointQKVAttentionBridge"):
        return "plain"
    if _is(attention, "PositionEmbeddingsAttentionBridge"):
        return "rotary"
    leaf = type(attention.original_component).__name__
    if leaf == "NativeAttention":
        return "native" if attention.original_component.rotary is None else "native_rotary"
    known = {"GPTJAttention": "gptj", "OPTAttention": "opt", "BertAttention": "delegated", "RobertaAttention": "delegated",
             "ViTAttention": "delegated", "T5Attention": "delegated", "BartAttention": "delegated"}
    return known.get(leaf, "unknown")


def seams(bridge: Any, kind: str, block: Any, attention: Any) -> dict[str, Install]:
    """What -> seam, for every site of one layer that can be read and edited."""
    found = _attention_seams(bridge, attention)
    if _is(block, "ScaledResidualBlockBridge"):    # what reaches the stream is no tensor of the network
        return found | {"resid_pre": at_hook(block.hook_in), "resid_post": at_hook(block.hook_out)}
    post = block._modules.get("ln1_post")
    write = attention.o.hook_out if post is None else post.hook_out
    found["attn_write"] = at_hook(write)
    if kind == "cross":
        return found
    found |= {"resid_pre": at_hook(block.hook_in), "resid_post": at_hook(block.hook_out)}
    return found | _resid_mid(bridge, block, write) | _mlp_seams(block)


def _resid_mid(bridge: Any, block: Any, write: nn.Module) -> dict[str, Install]:
    """The stream between (self-)attention and what follows, where there is one such stream."""
    modules, config = block._modules, getattr(bridge.original_model, "config", None)
    if "mlp" not in modules or _is(block, "ParallelBlockBridge") \
            or getattr(config, "apply_residual_connection_post_layernorm", False):
        return {}
    if "hook_resid_mid" in modules:
        return {"resid_mid": at_hook(modules["hook_resid_mid"])}
    if _normed_stream(bridge):
        return {"resid_mid": at_hook(modules["ln1"].hook_out)}
    return {"resid_mid": at_sum(block.hook_in, write)}


def _normed_stream(bridge: Any) -> bool:
    """Whether a norm follows each addition to the residual stream (BERT, BART, OPT-350m) instead of preceding each part."""
    adapter = bridge.adapter
    if getattr(getattr(bridge.original_model, "config", None), "do_layer_norm_before", True) is False:
        return True
    if _is(adapter, "BartFamilyArchitectureAdapter"):
        return not adapter.has_final_stack_norm
    return _is(adapter, "BertArchitectureAdapter") or _is(adapter, "RobertaArchitectureAdapter")


def _attention_seams(bridge: Any, attention: Any) -> dict[str, Install]:
    family, modules = _family(bridge, attention), attention._modules
    n_heads = int(attention.config.n_heads)
    n_kv = int(getattr(attention.config, "n_key_value_heads", None) or n_heads)
    leaf = attention.original_component
    found: dict[str, Install] = {}
    if family == "latent":
        q = modules["q_proj"] if leaf.q_lora_rank is None else modules["q_b_proj"]
        found["q_pre"] = at_flat(q.hook_out, n_heads)
        found |= {what: at_hook(modules[f"hook_{what}"], swap, swap) for what in ("q", "k", "v")}
    else:
        found |= {"q_pre": at_flat(modules["q"].hook_out, n_heads), "k_pre": at_flat(modules["k"].hook_out, n_kv),
                  "v": at_flat(modules["v"].hook_out, n_kv)}
        if getattr(attention.config, "gated_q_proj", False):    # query and gate lie side by side in each head
            del found["q_pre"]
        found |= _rotated(family, attention, leaf, found)
    if family in ("gptj", "opt", "delegated", "unknown"):
        found |= {"scores": at_softmax(attention, "scores"), "pattern": at_softmax(attention, "pattern")}
    elif family in ("native", "native_rotary"):
        found |= {"scores": at_softmax(attention, "scores"), "pattern": at_hook(attention.hook_pattern)}
    else:
        found |= {"scores": at_hook(attention.hook_attn_scores), "pattern": at_hook(attention.hook_pattern)}
    o = modules["o"]
    found["z"] = at_flat(o.hook_in, n_heads)
    found["result"] = at_result(o, lambda: output_weights(o.original_component, n_heads))
    found["attn_out"] = at_hook(o.hook_out)
    return found


def _rotated(family: str, attention: Any, leaf: nn.Module, found: dict[str, Install]) -> dict[str, Install]:
    """Query and key as they meet, where that place can be reached."""
    if family == "rotary":
        if not hasattr(attention, "hook_rot_q") or getattr(attention.config, "qk_norm_after_rope", False):
            return {}
        return {"q": at_hook(attention.hook_rot_q, swap, swap), "k": at_hook(attention.hook_rot_k, swap, swap)}
    if family == "joint":
        return {what: at_returned(attention, "_apply_rotary_pos_emb", i) for i, what in enumerate("qk")}
    if family == "native_rotary":
        return {what: at_shared_method(attention, leaf.rotary, "apply_rope", i) for i, what in enumerate("qk")}
    if family == "gptj":
        return {"q": at_argument(leaf, "_attn", 0), "k": at_key(leaf, "_attn", "layer_past")}
    if family == "opt":
        return {"q": at_flat(attention.q.hook_out, int(attention.config.n_heads), leaf.scaling), "k": found["k_pre"]}
    if family in ("plain", "native", "delegated"):
        return {"q": found["q_pre"], "k": found["k_pre"]}
    return {}


def _mlp_seams(block: Any) -> dict[str, Install]:
    mlp = block._modules.get("mlp")
    if mlp is None:
        return {}
    inner = mlp.name is None or _is(mlp, "BloomMLPBridge")
    out = at_converted(mlp._modules["out"].hook_out) if inner else at_hook(mlp.hook_out)
    post = block._modules.get("ln2_post")
    return {"mlp_out": out, "mlp_write": out if post is None else at_hook(post.hook_out)}


def output_weights(o: Any, n_heads: int) -> Tensor:
    """W_O of an output projection, [head, d_head, d_model]."""
    weight = o.weight if type(o).__name__ == "Conv1D" else o.weight.T
    return weight.unflatten(0, (n_heads, -1))

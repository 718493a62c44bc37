"""Linear layers as per-head weights, and fused query-key-value projections taken apart and put together again."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from interp.core.errors import InterpError
from interp.models.recording import Core, close

_SEPARATE = (("q_proj", "k_proj", "v_proj"), ("query", "key", "value"), ("q", "k", "v"), ("q_lin", "k_lin", "v_lin"),
             ("wq", "wk", "wv"), ("query_proj", "key_proj", "value_proj"))
_FUSED = ("c_attn", "qkv_proj", "query_key_value", "Wqkv", "qkv", "in_proj")
_LATENT = ("q_b_proj", "q_proj")


def is_linear(module: nn.Module) -> bool:
    """Whether the module is a linear map: ``nn.Linear`` or transformers' ``Conv1D`` (GPT-2)."""
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def matrix(module: nn.Module) -> Tensor:
    """The weights of a linear layer as [in, out]."""
    return module.weight if type(module).__name__ == "Conv1D" else module.weight.T


@dataclass(frozen=True)
class Projections:
    """Where q, k and v come from.

    Attributes:
        modules: one fused linear layer, or those of q, k and v; of q alone in latent attention.
        layout: ``separate``; ``blocks`` (all of q, then all of k, then all of v); ``grouped`` (for each key-value head its
            queries, its key, its value); ``latent`` (keys and values are no linear maps of the residual stream).
    """

    modules: tuple[nn.Module, ...]
    layout: str
    n_heads: int
    n_kv_heads: int
    d_qk: int
    d_head: int

    def split(self, fused: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[..., out] of a fused layer -> q [..., head, d_qk], k [..., kv_head, d_qk], v [..., kv_head, d_head]."""
        if self.layout == "blocks":
            sizes = (self.n_heads * self.d_qk, self.n_kv_heads * self.d_qk, self.n_kv_heads * self.d_head)
            q, k, v = fused.split(sizes, -1)
            return q.unflatten(-1, (-1, self.d_qk)), k.unflatten(-1, (-1, self.d_qk)), v.unflatten(-1, (-1, self.d_head))
        grouped = fused.unflatten(-1, (self.n_kv_heads, -1, self.d_qk))
        return grouped[..., :-2, :].flatten(-3, -2), grouped[..., -2, :], grouped[..., -1, :]

    def join(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The inverse of ``split``."""
        if self.layout == "blocks":
            return torch.cat([x.flatten(-2) for x in (q, k, v)], -1)
        q = q.unflatten(-2, (self.n_kv_heads, -1))
        return torch.cat([q, k.unsqueeze(-2), v.unsqueeze(-2)], -2).flatten(-3)

    def per_head(self, which: str, whole: Tensor) -> Tensor:
        """The part of q, k or v of a linear layer's output (or of its weights, [..., out]): [..., head, d]."""
        index = "qkv".index(which)
        if self.layout in ("blocks", "grouped"):
            return self.split(whole)[index]
        return whole.unflatten(-1, (-1, self.d_head if which == "v" else self.d_qk))

    def module(self, which: str) -> nn.Module | None:
        """The linear layer that makes q, k or v; None where none does."""
        if self.layout in ("blocks", "grouped"):
            return self.modules[0]
        index = "qkv".index(which)
        return self.modules[index] if index < len(self.modules) else None

    def weights(self, which: str) -> tuple[Tensor, Tensor | None]:
        """Weights [head, d_model, d] and bias [head, d] of q, k or v (of key-value heads for k and v)."""
        if self.layout == "latent":
            raise InterpError(f"take the weights of {which} per head",
                              "in latent attention a norm lies between two projections, so q, k and v are no linear maps",
                              "choose a model without it")
        linear = self.module(which)
        weight = self.per_head(which, matrix(linear)).movedim(-2, 0)
        return weight, None if linear.bias is None else self.per_head(which, linear.bias)


def find_projections(core: Core, outputs: Mapping[nn.Module, Tensor | None], kv_heads: int | None) -> Projections | None:
    """The projections of an attention module, checked against the values it really used; None where they are not of a
    known form (then there is no site before the rotary embedding, and no weights per head)."""
    children = dict(core.module.named_children())
    heads, d_qk, d_head = core.q.shape[1], core.q.shape[-1], core.v.shape[-1]
    values = core.v.transpose(1, 2)

    def gives(found: Projections) -> bool:
        fused = outputs.get(found.module("v"))
        if fused is None or fused.shape[-1] != _width(found):
            return False
        v = found.per_head("v", fused)
        return close(v.repeat_interleave(values.shape[-2] // v.shape[-2], -2), values)

    if hasattr(core.module, "kv_lora_rank"):
        q = next((children[name] for name in _LATENT if children.get(name) is not None), None)
        return None if q is None else Projections((q,), "latent", heads, core.k.shape[1], d_qk, d_head)
    for names in _SEPARATE:
        if all(is_linear(children[n]) if n in children else False for n in names):
            found = Projections(tuple(children[n] for n in names), "separate", heads, core.k.shape[1], d_qk, d_head)
            if gives(found):
                return found
    for name in _FUSED:
        for layout in ("blocks", "grouped"):
            for n_kv in dict.fromkeys((kv_heads or core.k.shape[1], core.k.shape[1])):
                if name in children and is_linear(children[name]) and heads % n_kv == 0:
                    found = Projections((children[name],), layout, heads, n_kv, d_qk, d_head)
                    if gives(found):
                        return found
    return None


def _width(found: Projections) -> int:
    q, k, v = found.n_heads * found.d_qk, found.n_kv_heads * found.d_qk, found.n_kv_heads * found.d_head
    return v if found.layout == "separate" else q + k + v

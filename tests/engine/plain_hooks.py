"""The slow path: forward hooks on the untouched transformers model, one prompt at a time, without padding.

It knows where each architecture's projections are and nothing of the engine or of the backends. A pattern is edited through
what it does: the pattern that transformers itself reports is changed, multiplied with the values, and put in the place of z.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

import torch
from torch import Tensor

from interp.models.tiny import tiny

Edit = tuple[str, int, Callable[[Tensor], Tensor]]
"""what, layer, function of [position, head, d] ([head, query, key] for a pattern)."""

ATTENTION = {
    "gpt2": "transformer.h.{}.attn", "gptj": "transformer.h.{}.attn", "gpt_neox": "gpt_neox.layers.{}.attention",
    "opt": "model.decoder.layers.{}.self_attn", "falcon": "transformer.h.{}.self_attention",
    "falcon_new": "transformer.h.{}.self_attention", "falcon_alibi": "transformer.h.{}.self_attention",
    "bloom": "transformer.h.{}.self_attention",
}
OUT = {"gpt2": "c_proj", "gptj": "out_proj", "gpt_neox": "dense", "opt": "out_proj", "falcon": "dense",
       "falcon_new": "dense", "falcon_alibi": "dense", "bloom": "dense"}
NORMED = ("qwen3", "olmo2")
"""Architectures with a norm between the projection of q and k and their use."""


class Plain:
    """A tiny model of an architecture, and hooks by site name."""

    def __init__(self, architecture: str, seed: int = 0):
        self.architecture = architecture
        self.model = tiny(architecture, seed)
        if architecture != "falcon_alibi":      # transformers adds its alibi twice in the eager branch, once by default
            self.model.config._attn_implementation = "eager"
        config = self.model.config
        self.heads = config.num_attention_heads
        self.width = config.hidden_size
        shared = {"falcon": 1, "falcon_new": 2}.get(architecture)
        self.kv_heads = shared or getattr(config, "num_key_value_heads", None) or self.heads

    def attention(self, layer: int) -> torch.nn.Module:
        return self.model.get_submodule(ATTENTION.get(self.architecture, "model.layers.{}.self_attn").format(layer))

    def place(self, what: str, layer: int) -> tuple[torch.nn.Module, Callable, Callable]:
        """The module whose output holds q, k or v; how to read it as [position, head, d]; how to write it back."""
        attention, heads, kv = self.attention(layer), self.heads, self.kv_heads
        if self.architecture == "gpt2":
            return attention.c_attn, *_columns("qkv".index(what) * self.width, self.width, heads)
        if self.architecture == "phi3":
            d = self.width // heads
            start = {"q": 0, "k": heads * d, "v": (heads + kv) * d}[what]
            return attention.qkv_proj, *_columns(start, (heads if what == "q" else kv) * d, heads if what == "q" else kv)
        if self.architecture == "falcon":
            d = self.width // heads
            return attention.query_key_value, *_columns({"q": 0, "k": heads * d, "v": (heads + 1) * d}[what],
                                                        d * (heads if what == "q" else 1), heads if what == "q" else 1)
        if self.architecture == "falcon_new":
            return attention.query_key_value, *_grouped(what, kv, heads // kv)
        if self.architecture in ("gpt_neox", "bloom", "falcon_alibi"):
            return attention.query_key_value, *_grouped(what, heads, 1)
        if self.architecture == "deepseek_v3":
            return {"q": (attention.q_b_proj, *_columns(0, heads * 12, heads)),
                    "k without rotary": (attention.kv_b_proj, *_head_columns(heads, slice(0, -10))),
                    "k with rotary": (attention.kv_a_proj_with_mqa, *_head_columns(1, slice(-4, None))),
                    "v": (attention.kv_b_proj, *_head_columns(heads, slice(-10, None)))}[what]
        if self.architecture == "gemma3" and what != "v":
            return getattr(attention, f"{what}_norm"), *_transposed()
        name = f"{what}_norm" if self.architecture in NORMED and what != "v" else f"{what}_proj"
        return getattr(attention, name), *_columns(0, None, heads if what == "q" else kv)

    def forward(self, ids: Sequence[int], edits: Sequence[Edit] = (), capture: Sequence[tuple[str, int]] = ()
                ) -> tuple[Tensor, dict[tuple[str, int], Tensor]]:
        """Logits [position, vocab] and captured activations of one prompt."""
        captured: dict[tuple[str, int], Tensor] = {}
        with ExitStack() as stack:
            for what, layer, change in edits:
                if what == "pattern":
                    before, values = self._pattern(ids, layer)
                    z = torch.einsum("hqk,khd->qhd", change(before), values)
                    stack.enter_context(self._hook("z", layer, lambda _, z=z: z))
                else:
                    stack.enter_context(self._hook(what, layer, change))
            for what, layer in capture:
                if what == "pattern":
                    captured[what, layer] = self._pattern(ids, layer)[0]
                else:
                    keep = partial(captured.setdefault, (what, layer))
                    stack.enter_context(self._hook(what, layer, lambda x, keep=keep: keep(x.clone())))
            with torch.no_grad():
                logits = self.model(torch.tensor([list(ids)])).logits[0]
        return logits, captured

    def _pattern(self, ids: Sequence[int], layer: int) -> tuple[Tensor, Tensor]:
        """The pattern [head, query, key] that transformers reports, and the values repeated over groups [key, head, d]."""
        if self.architecture == "falcon_alibi":
            return self._alibi_pattern(ids, layer)
        found = {}
        with self._hook("v", layer, lambda x: found.setdefault("v", x.clone())), torch.no_grad():
            pattern = self.model(torch.tensor([list(ids)]), output_attentions=True).attentions[layer][0]
        return pattern, found["v"].repeat_interleave(self.heads // self.kv_heads, dim=1)

    def _alibi_pattern(self, ids: Sequence[int], layer: int) -> tuple[Tensor, Tensor]:
        """softmax((q · k + slope · key) / sqrt(d)) over keys up to the query, with slopes 1/4, 1/16, 1/64, 1/256."""
        found = self.forward(ids, capture=[(what, layer) for what in "qkv"])[1]
        q, k, v = (found[what, layer] for what in "qkv")
        slopes = 2.0 ** (-2 * torch.arange(1, 5))
        scores = torch.einsum("qhd,khd->hqk", q, k) + slopes[:, None, None] * torch.arange(len(ids))
        hidden = torch.ones(len(ids), len(ids)).triu(1).bool()
        return (scores / q.shape[2] ** 0.5).masked_fill(hidden, -torch.inf).softmax(dim=-1), v

    def _hook(self, what: str, layer: int, change: Callable[[Tensor], Tensor]):
        if what == "z":
            out = getattr(self.attention(layer), OUT.get(self.architecture, "o_proj"))

            def before(_, args):
                z = args[0][0].unflatten(-1, (self.heads, -1))
                return (change(z).flatten(1)[None], *args[1:])

            return out.register_forward_pre_hook(before)
        module, read, write = self.place(what, layer)
        return module.register_forward_hook(lambda _, __, out: write(out, change(read(out))))


def _rows(out: Tensor) -> Tensor:
    """[position, everything else] of the output of a module for one prompt, of shape [1, (1,) position, ...]."""
    return out.flatten(0, out.dim() - 2) if out.dim() == 3 or out.shape[1] == 1 else out[0].flatten(1)


def _transposed():
    """An output [1, head, position, d]."""
    return (lambda out: out[0].transpose(0, 1)), (lambda out, new: new.transpose(0, 1)[None])


def _columns(start: int, size: int | None, heads: int):
    """Columns start:start+size of an output [1, position, width], split into heads."""
    def read(out: Tensor) -> Tensor:
        flat = _rows(out)
        return flat[:, start:None if size is None else start + size].unflatten(-1, (heads, -1))

    def write(out: Tensor, new: Tensor) -> Tensor:
        flat = _rows(out).clone()
        flat[:, start:None if size is None else start + size] = new.flatten(1)
        return flat.view_as(out)

    return read, write


def _grouped(what: str, kv: int, group: int):
    """Outputs that hold, for each group, its queries, then its key, then its value."""
    part = {"q": slice(0, group), "k": slice(group, group + 1), "v": slice(group + 1, group + 2)}[what]

    def read(out: Tensor) -> Tensor:
        return out[0].unflatten(-1, (kv, group + 2, -1))[:, :, part].flatten(1, 2)

    def write(out: Tensor, new: Tensor) -> Tensor:
        parts = out[0].unflatten(-1, (kv, group + 2, -1)).clone()
        parts[:, :, part] = new.unflatten(1, (kv, -1))
        return parts.view_as(out)

    return read, write


def _head_columns(heads: int, part: slice):
    """Some of the columns of each head."""
    def read(out: Tensor) -> Tensor:
        return _rows(out).unflatten(-1, (heads, -1))[..., part]

    def write(out: Tensor, new: Tensor) -> Tensor:
        parts = _rows(out).unflatten(-1, (heads, -1)).clone()
        parts[..., part] = new
        return parts.view_as(out)

    return read, write

"""The slow, independent path: plain PyTorch hooks on a transformers model as transformers made it, no code of interp
but the configurations of the networks.

z is read and written at the input of the output projection; q, k and v at the output of their projections (rotary
embedding and norms per head act on each head and token alone, so exchanging heads before them is the same); the pattern at
the softmax.
"""

import contextlib
from types import SimpleNamespace

import torch
from torch import nn

from interp.models.tiny import tiny

LLAMA_LIKE = ("llama", "qwen2", "qwen3", "mistral", "mixtral", "gemma2", "gemma3", "gpt_oss", "olmo2", "deepseek_v3", "phi3")


def untouched(name, **options):
    """A tiny network as transformers made it, with the attention implementation whose softmax can be tapped.

    In that implementation transformers 5 adds Falcon's alibi twice (to the mask, and again to the scores), which the default
    one does not; the second time is taken out here, and a test says that this is the default network.
    """
    network = tiny(name, attn_implementation="eager", **options)
    if name == "falcon_alibi":
        for layer in range(network.config.num_hidden_layers):
            attention(name, network, layer).register_forward_pre_hook(
                lambda _, args, given: (args, {**given, "alibi": torch.zeros_like(given["alibi"])}), with_kwargs=True
            )
    return network


def attention(name, model, layer):
    if name in LLAMA_LIKE:
        return model.model.layers[layer].self_attn
    if name == "opt":
        return model.model.decoder.layers[layer].self_attn
    if name == "gpt_neox":
        return model.gpt_neox.layers[layer].attention
    block = model.transformer.h[layer]
    return block.attn if name in ("gpt2", "gptj") else block.self_attention


def shape(name, model):
    """Heads, key-value heads and sizes, from the configuration."""
    c = model.config
    heads = c.num_attention_heads
    kv = getattr(c, "num_key_value_heads", None) or heads
    if name.startswith("falcon"):
        kv = {"falcon": 1, "falcon_new": c.num_kv_heads, "falcon_alibi": heads}[name]
    size = getattr(c, "head_dim", None) or c.hidden_size // heads
    d_z = c.v_head_dim if name == "deepseek_v3" else size
    return SimpleNamespace(layers=c.num_hidden_layers, heads=heads, kv=kv, size=size, d_z=d_z)


def slot(name, model, layer, component):
    """(module, "in" or "out", function from its tensor to a writable view [batch, position, head, d])."""
    a, s = attention(name, model, layer), shape(name, model)
    if component == "z":
        out = next(getattr(a, n) for n in ("o_proj", "c_proj", "dense", "out_proj") if hasattr(a, n))
        return out, "in", lambda t: t.unflatten(-1, (s.heads, s.d_z))
    index = "qkv".index(component)
    n = s.heads if component == "q" else s.kv
    if name == "gpt2":
        width = s.heads * s.size
        return a.c_attn, "out", lambda t: t[..., index * width : (index + 1) * width].unflatten(-1, (n, s.size))
    if name == "phi3":
        start = (0, s.heads, s.heads + s.kv)[index] * s.size
        return a.qkv_proj, "out", lambda t: t[..., start : start + n * s.size].unflatten(-1, (n, s.size))
    if name in ("gpt_neox", "bloom", "falcon_alibi"):
        return a.query_key_value, "out", lambda t: t.unflatten(-1, (s.heads, 3, s.size))[..., index, :]
    if name == "falcon":
        return (
            a.query_key_value,
            "out",
            lambda t: t.unflatten(-1, (s.heads + 2, s.size))[
                ..., slice(0, s.heads) if component == "q" else slice(s.heads + index - 1, s.heads + index), :
            ],
        )
    if name == "falcon_new":
        group = s.heads // s.kv

        def view(t):
            grouped = t.unflatten(-1, (s.kv, group + 2, s.size))
            return grouped[..., :group, :] if component == "q" else grouped[..., group + index - 1, :]

        return a.query_key_value, "out", view
    if name == "deepseek_v3":
        nope, rope = model.config.qk_nope_head_dim, model.config.qk_rope_head_dim
        if component == "q":
            return a.q_b_proj, "out", lambda t: t.unflatten(-1, (s.heads, nope + rope))
        part = slice(0, nope) if component == "k" else slice(nope, None)
        return a.kv_b_proj, "out", lambda t: t[:, 0].unflatten(-1, (s.heads, nope + s.d_z))[..., part]
    if name == "olmo2" and component in "qk":  # its norm is over all heads at once: exchange after it
        return getattr(a, f"{component}_norm"), "out", lambda t: t.unflatten(-1, (n, s.size))
    return getattr(a, f"{component}_proj"), "out", lambda t: t.unflatten(-1, (n, s.size))


@contextlib.contextmanager
def hooked(module, side, change):
    """``change(tensor) -> tensor`` at the input or output of a module."""
    if side == "in":
        handle = module.register_forward_pre_hook(lambda _, args: (change(args[0]), *args[1:]))
    else:
        handle = module.register_forward_hook(lambda _, args, out: change(out))
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def tapped_softmax(change):
    """``change(layer, pattern) -> pattern`` at every softmax of an attention (four axes), in order."""
    real, calls = nn.functional.softmax, []

    def softmax(x, *args, **kwargs):
        out = real(x, *args, **kwargs)
        if x.dim() != 4:
            return out
        calls.append(0)
        return change(len(calls) - 1, out)

    nn.functional.softmax = torch.nn.functional.softmax = softmax
    try:
        yield
    finally:
        nn.functional.softmax = torch.nn.functional.softmax = real


def head_view(name, view, tensor, head):
    """The writable part of ``tensor`` that belongs to one head (falcon_new keeps queries by group)."""
    part = view(tensor)
    if part.dim() == 5:
        return part[:, :, head // part.shape[3], head % part.shape[3]]
    return part[:, :, head]


@torch.no_grad()
def patched_logits(name, model, inputs, layer, head, component, replace, rows=None):
    """Logits of ``inputs`` with one head's activation replaced: ``replace`` maps the activation [batch, position, d] (of a
    pattern [batch, query, key]) to its new value; ``rows`` [batch, position] (bool) limits where."""

    def put(old):
        new = replace(old.clone())
        return new if rows is None else torch.where(rows[..., None], new, old)

    if component == "pattern":

        def change(at, pattern):
            if at == layer:
                pattern = pattern.clone()
                n_keys = inputs["input_ids"].shape[1]  # a learned sink is one more column
                pattern[:, head, :, :n_keys] = put(pattern[:, head, :, :n_keys])
            return pattern

        with tapped_softmax(change):
            return model(**inputs).logits

    if name == "deepseek_v3" and component == "k":
        return _deepseek_keys(model, inputs, layer, head, put)

    module, side, view = slot(name, model, layer, component)

    def change(tensor):
        tensor = tensor.clone()
        part = head_view(name, view, tensor, head)
        part.copy_(put(part))
        return tensor

    with hooked(module, side, change):
        return model(**inputs).logits


@torch.no_grad()
def read(name, model, inputs, layer, head, component):
    """One head's activation in the untouched run."""
    seen = []
    patched_logits(name, model, inputs, layer, head, component, lambda old: (seen.append(old.clone()), old)[1])
    return seen[0]


def _deepseek_keys(model, inputs, layer, head, put):
    """A head's key is its own part and a rotary part that all heads share: it exists only where attention is computed."""
    from transformers.models.deepseek_v3 import modeling_deepseek_v3 as code

    real, calls = code.eager_attention_forward, []

    def forward(module, query, key, *args, **kwargs):
        calls.append(0)
        if len(calls) - 1 == layer:
            key = key.clone()
            key[:, head] = put(key[:, head])
        return real(module, query, key, *args, **kwargs)

    code.eager_attention_forward = forward
    try:
        return model(**inputs).logits
    finally:
        code.eager_attention_forward = real

"""A slow path that shares nothing with the backend: transformers models with their attention written out head by head.

``slow_run(model, architecture, inputs, changes)`` runs an untouched transformers model whose file's eager attention function
(or, where attention is computed inline, its small methods) is replaced for the time of the call by a loop over heads in
which ``changes`` are made by hand. Modules are addressed by the names that the architecture's file gives them.
"""

import contextlib
import sys
import types

import torch
import torch.nn.functional as F

LLAMA = {"block": "model.layers.{}", "core": "self_attn", "out": "self_attn.o_proj", "mlp": "mlp"}
GPT = {"block": "transformer.h.{}", "core": "attn", "out": "attn.c_proj", "mlp": "mlp"}
NAMES = {
    "gpt2": {"self": GPT},
    "gptj": {"self": GPT | {"out": "attn.out_proj"}},
    "gpt_neox": {"self": {"block": "gpt_neox.layers.{}", "core": "attention", "out": "attention.dense", "mlp": "mlp"}},
    "opt": {"self": {"block": "model.decoder.layers.{}", "core": "self_attn", "out": "self_attn.out_proj", "mlp": "fc2"}},
    "bloom": {"self": {"block": "transformer.h.{}", "core": "self_attention", "out": "self_attention.dense",
                       "mlp": "mlp.dense_4h_to_h"}},
    "bert": {"encoder": {"block": "bert.encoder.layer.{}", "core": "attention.self", "out": "attention.output.dense",
                         "mlp": "output.dense"}},
    "vit": {"vision": {"block": "vit.layers.{}", "core": "attention", "out": "attention.o_proj", "mlp": "mlp"}},
    "t5": {
        "encoder": {"block": "encoder.block.{}", "core": "layer.0.SelfAttention", "out": "layer.0.SelfAttention.o",
                    "mlp": "layer.1.DenseReluDense"},
        "self": {"block": "decoder.block.{}", "core": "layer.0.SelfAttention", "out": "layer.0.SelfAttention.o",
                 "mlp": "layer.2.DenseReluDense"},
        "cross": {"block": "decoder.block.{}", "core": "layer.1.EncDecAttention", "out": "layer.1.EncDecAttention.o"},
    },
    "bart": {
        "encoder": {"block": "model.encoder.layers.{}", "core": "self_attn", "out": "self_attn.out_proj", "mlp": "fc2"},
        "self": {"block": "model.decoder.layers.{}", "core": "self_attn", "out": "self_attn.out_proj", "mlp": "fc2"},
        "cross": {"block": "model.decoder.layers.{}", "core": "encoder_attn", "out": "encoder_attn.out_proj"},
    },
}
for _name in ("falcon", "falcon_new", "falcon_alibi"):
    NAMES[_name] = {"self": GPT | {"core": "self_attention", "out": "self_attention.dense"}}
for _name in ("llama", "qwen2", "qwen3", "mistral", "mixtral", "gemma2", "gemma3", "phi3", "gpt_oss", "deepseek_v3",
              "olmo2"):
    NAMES[_name] = {"self": LLAMA}
INLINE = ("gptj", "falcon", "falcon_new", "falcon_alibi", "bloom")
# What residual stream between attention and MLP enters, by a module of the block that reads it and nothing else.
AFTER_ATTENTION = {
    "gpt2": "ln_2", "llama": "post_attention_layernorm", "qwen2": "post_attention_layernorm",
    "phi3": "post_attention_layernorm", "qwen3": "post_attention_layernorm", "mistral": "post_attention_layernorm",
    "mixtral": "post_attention_layernorm",
    "gemma2": "pre_feedforward_layernorm", "gemma3": "pre_feedforward_layernorm", "opt": "final_layer_norm", "olmo2": "mlp",
    "bloom": "post_attention_layernorm", "gpt_oss": "post_attention_layernorm", "deepseek_v3": "post_attention_layernorm",
    "falcon_alibi": "post_attention_layernorm", "vit": "layernorm_after",
}


def module(model, architecture, attention, layer, part):
    names = NAMES[architecture][attention]
    block = names["block"].format(layer)
    return model.get_submodule(block if part == "block" else f"{block}.{names[part]}")


class Book:
    """Changes asked for, and everything seen, by (what, layer, attention); tensors in the layout of ``Site``."""

    def __init__(self, changes):
        self.changes, self.seen = changes, {}

    def pass_by(self, key, tensor):
        if key in self.changes:
            tensor = self.changes[key](tensor)
        self.seen[key] = tensor.clone()         # Falcon adds to its MLP's output in place
        return tensor

    def rows(self, key, tensor):
        """[B, H, T, d] by way of [B, T, H, d]."""
        return self.pass_by(key, tensor.transpose(1, 2)).transpose(1, 2)


def heads_one_by_one(book, place):
    """A replacement of a file's eager attention function. ``place`` maps a module to (layer, attention)."""
    def attention(mod, query, key, value, mask, scaling=None, dropout=0.0, softcap=None, position_bias=None, **_):
        layer, kind = place[mod]
        q, k, v = (book.rows((what, layer, kind), x) for what, x in (("q", query), ("k", key), ("v", value)))
        scaling = q.shape[-1] ** -0.5 if scaling is None else scaling
        heads, share = q.shape[1], q.shape[1] // k.shape[1]
        scores = []
        for h in range(heads):
            s = q[:, h] @ k[:, h // share].transpose(-1, -2) * scaling
            if softcap is not None:
                s = softcap * torch.tanh(s / softcap)
            if position_bias is not None:
                s = s + position_bias[:, h]
            if mask is not None:
                s = s + mask[:, 0]
            scores.append(s)
        scores = book.pass_by(("scores", layer, kind), torch.stack(scores, 1))
        top = scores.max(-1, keepdim=True).values
        weights = (scores - top).exp()
        total = weights.sum(-1, keepdim=True)
        if hasattr(mod, "sinks"):
            total = total + (mod.sinks.view(1, -1, 1, 1) - top).exp()
        pattern = book.pass_by(("pattern", layer, kind), weights / total)
        z = torch.stack([pattern[:, h] @ v[:, h // share] for h in range(heads)], 2)
        return book.pass_by(("z", layer, kind), z), pattern

    return attention


@contextlib.contextmanager
def replaced(thing, name, value):
    before = getattr(thing, name)
    own = name in vars(thing)
    setattr(thing, name, value)
    try:
        yield
    finally:
        if own:
            setattr(thing, name, before)
        else:
            delattr(thing, name)


@contextlib.contextmanager
def inline(model, architecture, book, place):
    """GPT-J, Falcon and Bloom: their small methods replaced, one model each."""
    file = sys.modules[type(model).__module__]
    with contextlib.ExitStack() as stack:
        if architecture == "gptj":
            def attend(mod):
                run = heads_one_by_one(book, place)

                def _attn(query, key, value, mask=None):
                    z, pattern = run(mod, query.float(), key.float(), value, mask)
                    return z.transpose(1, 2), pattern

                return _attn

            for mod in place:
                stack.enter_context(replaced(mod, "_attn", attend(mod)))
            yield
            return

        softmaxes = types.SimpleNamespace(**{name: getattr(F, name) for name in dir(F) if not name.startswith("__")})
        running = []

        def softmax(scores, dim, dtype=None):
            layer, kind = place[running[-1]]
            scores = book.pass_by(("scores", layer, kind), scores)
            return book.pass_by(("pattern", layer, kind), torch.softmax(scores.float(), dim).to(dtype))

        softmaxes.softmax = softmax
        stack.enter_context(replaced(file, "F", softmaxes))
        for mod, (layer, kind) in place.items():
            handle = mod.register_forward_pre_hook(lambda m, _: running.append(m))
            stack.callback(handle.remove)
            out = dict(mod.named_children())["dense"]
            heads = mod.num_heads

            def entering(_, args, layer=layer, kind=kind, heads=heads):
                z = args[0].view(*args[0].shape[:2], heads, -1)
                return (book.pass_by(("z", layer, kind), z).flatten(2), *args[1:])

            stack.callback(out.register_forward_pre_hook(entering).remove)
            stack.enter_context(_split(architecture, mod, layer, kind, book))
        if architecture == "falcon_alibi":                  # its mask has alibi in it already; eager attention adds it again
            for mod in place:
                handle = mod.register_forward_pre_hook(_without_alibi, with_kwargs=True)
                stack.callback(handle.remove)
        if architecture in ("falcon", "falcon_new"):
            turn = file.apply_rotary_pos_emb

            def turned(q, k, cos, sin, *rest):
                q, k = turn(q, k, cos, sin, *rest)
                layer, kind = place[running[-1]]
                share = q.shape[1] // running[-1].num_kv_heads if architecture == "falcon_new" else 1
                k = book.rows(("k", layer, kind), k[:, ::share]).repeat_interleave(share, 1)
                return book.rows(("q", layer, kind), q), k

            stack.enter_context(replaced(file, "apply_rotary_pos_emb", turned))
        yield


def _without_alibi(_, args, kwargs):
    return args, kwargs | {"alibi": kwargs["alibi"] * 0}


@contextlib.contextmanager
def _split(architecture, mod, layer, kind, book):
    """The method that takes the fused projection apart: v (and, without rotary embedding, q and k) pass by here."""
    name = "_reshape" if architecture == "bloom" else "_split_heads"
    own = getattr(mod, name)

    def split(fused):
        q, k, v = own(fused)
        if architecture == "bloom":
            return tuple(book.rows((what, layer, kind), x) for what, x in (("q", q), ("k", k), ("v", v)))
        if architecture == "falcon_alibi":
            return tuple(book.pass_by((what, layer, kind), x) for what, x in (("q", q), ("k", k), ("v", v)))
        share = q.shape[2] // mod.num_kv_heads if architecture == "falcon_new" else 1
        return q, k, book.pass_by(("v", layer, kind), v[:, :, ::share]).repeat_interleave(share, 2)

    with replaced(mod, name, split):
        yield


def slow_run(model, architecture, inputs, changes=None):
    """Logits of the untouched model with ``changes`` {(what, layer, attention): function}, and everything seen on the way.

    what: q, k, v, scores, pattern, z, attn_out, mlp_out, resid_pre, resid_mid, resid_post.
    """
    book = Book(changes or {})
    place, handles = {}, []
    for kind in NAMES[architecture]:
        layer = 0
        while True:
            try:
                core = module(model, architecture, kind, layer, "core")
            except AttributeError:
                break
            place[core] = (layer, kind)
            handles += list(_outside(model, architecture, kind, layer, book))
            layer += 1
    set_eager(model)
    file = sys.modules[type(model).__module__]
    with contextlib.ExitStack() as stack:
        for handle in handles:
            stack.callback(handle.remove)
        if architecture in INLINE:
            stack.enter_context(inline(model, architecture, book, place))
        else:
            stack.enter_context(replaced(file, "eager_attention_forward", heads_one_by_one(book, place)))
        logits = model(**inputs, use_cache=False).logits if architecture != "vit" else model(**inputs).logits
    return logits, book.seen


def _outside(model, architecture, kind, layer, book):
    """Hooks outside of attention."""
    def leaving(what):
        def hook(_, args, output):
            first = output if isinstance(output, torch.Tensor) else output[0]
            shape = first.shape
            if first.dim() == 2:                              # OPT's MLP works on [batch · position, d_model]
                first = first.view(*book.seen["resid_pre", layer, kind].shape)
            new = book.pass_by((what, layer, kind), first).view(shape)
            return new if isinstance(output, torch.Tensor) else (new, *output[1:])

        return hook

    def entering(what):
        def hook(_, args, kwargs):
            if args:
                return (book.pass_by((what, layer, kind), args[0]), *args[1:]), kwargs
            return args, kwargs | {"hidden_states": book.pass_by((what, layer, kind), kwargs["hidden_states"])}

        return hook

    def in_place(_, args):
        """The tensor is the residual stream itself: what is written into it both the norm and the addition see."""
        key = ("resid_mid", layer, kind)
        stream = args[0].reshape(book.seen["resid_pre", layer, kind].shape).clone()
        args[0].copy_(book.pass_by(key, stream).view(args[0].shape))

    get = module(model, architecture, kind, layer, "block")
    if kind != "cross":
        yield get.register_forward_pre_hook(entering("resid_pre"), with_kwargs=True)
        yield get.register_forward_hook(leaving("resid_post"))
        yield module(model, architecture, kind, layer, "mlp").register_forward_hook(leaving("mlp_out"))
    yield module(model, architecture, kind, layer, "out").register_forward_hook(leaving("attn_out"))
    if architecture in AFTER_ATTENTION:
        yield get.get_submodule(AFTER_ATTENTION[architecture]).register_forward_pre_hook(in_place)


def set_eager(model, implementation="eager"):
    for mod in model.modules():
        if hasattr(getattr(mod, "config", None), "_attn_implementation"):
            mod.config._attn_implementation = implementation

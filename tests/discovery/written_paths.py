"""The slow path of path patching: a plain transformer written out, one sender at a time. No code of the engine."""

import torch
from torch import Tensor

from interp.models.plain import PlainForCausalLM


class Written:
    """One pass: ``edits`` by (what, layer) get each activation [prompt, position, head, …] and return what takes its place;
    ``kept`` holds what then stood there."""

    def __init__(self, made: PlainForCausalLM, ids: Tensor, edits=None):
        self.kept, edits = {}, edits or {}

        def at(what, layer, x):
            x = edits.get((what, layer), lambda y: y)(x.clone())
            self.kept[what, layer] = x.clone()
            return x

        model, config = made.model, made.config
        heads, length = config.num_attention_heads, ids.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool).tril()
        with torch.no_grad():
            x = at("embed", 0, model.embed_tokens(ids) + model.embed_positions.weight[:length])
            for layer, block in enumerate(model.layers):
                attention = block.self_attn
                q, k, v = (at(name, layer, projection(x).unflatten(-1, (heads, -1))) for name, projection in (
                    ("q", attention.q_proj), ("k", attention.k_proj), ("v", attention.v_proj)))
                scores = torch.einsum("bqhd,bkhd->bhqk", q, k) * attention.scaling
                pattern = scores.masked_fill(~causal, -torch.inf).softmax(-1)
                z = at("z", layer, torch.einsum("bhqk,bkhd->bqhd", pattern, v))
                x = x + attention.o_proj(z.flatten(2))
                if block.mlp is not None:
                    x = x + at("mlp", layer, block.mlp(x))
            self.logits = made.lm_head(x)[:, -1]


def path_patched(made, batch, sender, receivers, frozen, mlps_frozen, tokens, receiver_tokens=None):
    """Loss of logit(11) − logit(13) through paths from a sender (what, layer, head) into receivers {(what, layer): heads};
    no receivers: the logits. ``tokens``: indices where the sender is patched (and frozen, by ``position``)."""
    clean, corrupt = (Written(made, side.ids) for side in (batch.clean, batch.corrupt))
    what, layer, head = sender
    layers, receiver_tokens = range(made.config.num_hidden_layers), tokens if receiver_tokens is None else receiver_tokens
    every = list(range(batch.clean.ids.shape[1]))
    edits, seen = {}, {}

    def freeze(key, at):
        def edit(x):
            x[:, at] = clean.kept[key][:, at]
            return x
        return edit

    def then(one, two):
        return lambda x: two(one(x))

    def keep(key):
        def edit(x):
            seen[key] = x.clone()
            return x
        return edit

    for i in layers:
        if frozen == "qkv":
            edits |= {(name, i): freeze((name, i), every) for name in "qkv"}
        else:
            edits["z", i] = freeze(("z", i), tokens if frozen == "position" else every)
        if mlps_frozen:
            edits["mlp", i] = freeze(("mlp", i), tokens if frozen == "position" else every)
    for key in receivers:
        edits[key] = then(keep(key), edits.get(key, lambda x: x))

    def send(x):
        for token in tokens:
            if what == "z":
                x[:, token, head] = corrupt.kept[what, layer][:, token, head]
            else:
                x[:, token] = corrupt.kept[what, layer][:, token]
        return x

    edits[what, layer] = then(edits.get((what, layer), lambda x: x), send)
    patched = Written(made, batch.clean.ids, edits)
    if receivers:
        def replace(key, heads):
            def edit(x):
                for token in receiver_tokens:
                    x[:, token, list(heads)] = seen[key][:, token, list(heads)]
                return x
            return edit

        patched = Written(made, batch.clean.ids, {key: replace(key, heads) for key, heads in receivers.items()})
    values = [logits[:, 11] - logits[:, 13] for logits in (clean.logits, patched.logits)]
    return (values[0] - values[1]).numpy()

"""The slow path for edges: forward hooks on the untouched transformers model, one prompt and one edge at a time.

An edge is patched by handing its receiver, and nobody else, the residual stream with the sender's contribution exchanged:
the head's columns of q, k or v are recomputed from norm(x + Δ), the MLP is called on norm(x + Δ), the final norm reads x +
Δ. It knows the modules of each architecture and nothing of the engine.
"""

from contextlib import ExitStack
from types import SimpleNamespace

import torch
from torch import Tensor

from interp.models.tiny import tiny

LLAMA = {"blocks": "model.layers", "attention": "self_attn", "norms": ("input_layernorm", "post_attention_layernorm"),
         "qkv": "separate", "out": "o_proj", "mlp": ("mlp", "mlp"), "final": "model.norm"}
POST = LLAMA | {"norms": ("input_layernorm", "pre_feedforward_layernorm"),
                "post": ("post_attention_layernorm", "post_feedforward_layernorm")}
BLOOM = {"blocks": "transformer.h", "attention": "self_attention", "norms": ("input_layernorm", "post_attention_layernorm"),
         "qkv": "grouped", "out": "dense", "mlp": ("mlp", "mlp"), "final": "transformer.ln_f"}
TABLE = {
    "gpt2": {"blocks": "transformer.h", "attention": "attn", "norms": ("ln_1", "ln_2"), "qkv": "c_attn", "out": "c_proj",
             "mlp": ("mlp", "mlp"), "final": "transformer.ln_f"},
    "gpt_neox": {"blocks": "gpt_neox.layers", "attention": "attention", "qkv": "grouped", "out": "dense",
                 "norms": ("input_layernorm", "post_attention_layernorm"), "mlp": ("mlp", "mlp"), "parallel": True,
                 "final": "gpt_neox.final_layer_norm"},
    "gptj": {"blocks": "transformer.h", "attention": "attn", "norms": ("ln_1", "ln_1"), "qkv": "separate", "out": "out_proj",
             "mlp": ("mlp", "mlp"), "parallel": True, "final": "transformer.ln_f"},
    "opt": {"blocks": "model.decoder.layers", "attention": "self_attn", "qkv": "separate", "out": "out_proj",
            "norms": ("self_attn_layer_norm", "final_layer_norm"), "mlp": ("fc1", "fc2"),
            "final": "model.decoder.final_layer_norm"},
    "bloom": BLOOM, "falcon_alibi": BLOOM,
    "falcon": BLOOM | {"qkv": "falcon", "norms": ("input_layernorm", "input_layernorm"), "parallel": True},
    "falcon_new": BLOOM | {"norms": ("ln_attn", "ln_mlp"), "parallel": True},
    "phi3": LLAMA | {"qkv": "qkv_proj"}, "gemma2": POST, "gemma3": POST, "olmo2": POST | {"norms": (None, None)},
}
KV_HEADS = {"falcon": 1, "falcon_new": 2}


class PlainEdges:
    """A tiny model of an architecture, run with one edge changed."""

    def __init__(self, architecture: str, seed: int = 0, dtype: torch.dtype = torch.float64, **options):
        self.table = LLAMA | TABLE.get(architecture, {})
        self.architecture, self.model = architecture, tiny(architecture, seed, **options).to(dtype)
        config = self.model.config
        self.layers, self.heads = config.num_hidden_layers, config.num_attention_heads
        self.kv = KV_HEADS.get(architecture) or getattr(config, "num_key_value_heads", None) or self.heads
        self.final = self.model.get_submodule(self.table["final"])
        self.blocks = [self._block(layer) for layer in range(self.layers)]

    def _block(self, layer: int) -> SimpleNamespace:
        block = self.model.get_submodule(self.table["blocks"])[layer]
        attention = getattr(block, self.table["attention"])
        norms = [None if name is None else getattr(block, name) for name in self.table["norms"]]
        post = [getattr(block, name) for name in self.table.get("post", ())] or [None, None]
        return SimpleNamespace(block=block, attention=attention, norms=norms, post=post,
                               out=getattr(attention, self.table["out"]),
                               mlp=[getattr(block, name) for name in self.table["mlp"]])

    def projection(self, layer: int, what: str):
        """The linear layer of q, k or v, and the columns of each head in its output."""
        attention, kind = self.blocks[layer].attention, self.table["qkv"]
        index, count = "qkv".index(what), self.heads if what == "q" else self.kv
        if kind == "separate":
            module = getattr(attention, f"{what}_proj")
            width = self._width(module)
            return module, torch.arange(width).view(count, -1)
        module = getattr(attention, "query_key_value" if kind in ("grouped", "falcon") else kind)
        size = self._width(module) // (self.heads + 2 * self.kv)
        columns = torch.arange(self._width(module)).view(-1, size)
        if kind == "grouped":
            parts = columns.view(self.kv, -1, size)
            return module, parts[:, :-2].flatten(0, 1) if what == "q" else parts[:, index - 3]
        start = (0, self.heads, self.heads + self.kv)[index]
        return module, columns[start:start + count]

    def _width(self, module) -> int:
        return module.weight.shape[1 if type(module).__name__ == "Conv1D" else 0]

    def writes(self, ids) -> dict:
        """What each sender writes in an untouched run, [position, d_model], and the sums before a post-norm."""
        found: dict = {}
        with ExitStack() as stack:
            def keep(handle):
                stack.callback(handle.remove)

            keep(self.blocks[0].block.register_forward_pre_hook(
                lambda _, args, kwargs: found.update(embed=(args[0] if args else kwargs["hidden_states"])[0]),
                with_kwargs=True))
            for layer, block in enumerate(self.blocks):
                def out(module, args, output, layer=layer):
                    z = args[0].reshape(args[0].shape[-2], self.heads, -1)
                    weight = module.weight if type(module).__name__ == "Conv1D" else module.weight.T
                    for head, part in enumerate(weight.view(self.heads, z.shape[-1], -1)):
                        found["head", layer, head] = z[:, head] @ part
                    found["sum", layer] = output.reshape(args[0].shape[-2], -1).clone()

                def mlp(_, args, output, layer=layer):
                    output = output[0] if isinstance(output, tuple) else output
                    added = args[1] if self.architecture == "bloom" else 0      # its MLP adds the residual stream itself
                    found["mlp", layer] = (output - added).reshape(-1, output.shape[-1]).clone()

                keep(block.out.register_forward_hook(out))
                keep((block.post[1] or block.mlp[1]).register_forward_hook(mlp))
            with torch.no_grad():
                self.model(torch.tensor([list(ids)]))
        return found

    def difference(self, clean: dict, corrupt: dict, sender: tuple, scale: float = 1.0) -> Tensor:
        """What the sender's part of the residual stream changes by as its output moves from clean to corrupt."""
        key = sender if sender[0] != "embed" else "embed"
        moved = scale * (corrupt[key] - clean[key])
        norm = self.blocks[sender[1]].post[0] if sender[0] == "head" else None
        if norm is None:
            return moved
        with torch.no_grad():
            total = clean["sum", sender[1]]
            return norm(total + moved) - norm(total)

    def logits(self, ids, receiver: tuple = (), change: Tensor | None = None) -> Tensor:
        """Logits of the last token; ``receiver`` (``("q", 1, 0)``, ``("mlp", 1)``, ``("output",)``) reads x + change."""
        seen = {}

        def stream(norm, then):
            """Remember what the norm reads (or, without one, what ``then`` reads)."""
            return (norm or then).register_forward_pre_hook(lambda _, args, kwargs: seen.update(
                x=args[0] if args else kwargs["hidden_states"]), with_kwargs=True)

        def changed(norm):
            x = seen["x"] + change
            return x if norm is None else norm.forward(x)

        handles = []
        if receiver and receiver[0] in "qkv":
            block = self.blocks[receiver[1]]
            module, columns = self.projection(receiver[1], receiver[0])

            def project(_, args, output):
                new, at = output.clone(), columns[receiver[2]]
                new[..., at] = module.forward(changed(block.norms[0]).view_as(args[0]))[..., at]
                return new

            handles = [stream(block.norms[0], module), module.register_forward_hook(project)]
        elif receiver and receiver[0] == "mlp":
            block = self.blocks[receiver[1]]
            handles = [stream(block.norms[1], block.mlp[0]), block.mlp[0].register_forward_pre_hook(
                lambda _, args: (changed(block.norms[1]).view_as(args[0]), *args[1:]))]
        elif receiver:
            handles = [self.final.register_forward_pre_hook(lambda _, args: (args[0] + change, *args[1:]))]
        with torch.no_grad():
            found = self.model(torch.tensor([list(ids)])).logits[0, -1]
        for handle in handles:
            handle.remove()
        return found


def parse(name: str) -> tuple[tuple, tuple]:
    """Sender and receiver of an edge's name: ``L0H1->L1KV0.k`` gives ("head", 0, 1) and ("k", 1, 0)."""
    sender, _, rest = name.partition("->")
    receiver, _, into = rest.rpartition(".")

    def numbers(text):
        return [int(part) for part in text.replace("L", "").replace("KV", "H").replace("mlp", "").split("H")]

    one = ("embed",) if sender == "embed" else ("mlp" if "mlp" in sender else "head", *numbers(sender))
    other = ("output",) if into == "out" else (into, *numbers(receiver))
    return one, other

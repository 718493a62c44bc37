"""A lean training forward of the organism: the parameters of transformers' LlamaForCausalLM, batched matmuls
in bfloat16.

The numbers are those of the transformers model up to bfloat16 rounding (`evaluate.py` measures the exported
model, never this one); on a CPU it trains at nearly twice the speed of transformers under autocast.
Parameters are kept in float32, q, k, v fused in one matrix and gate and up in another; `to_transformers` and
`from_transformers` convert.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CONFIG: dict[str, Any] = {
    "hidden_size": 256,
    "intermediate_size": 384,
    "num_hidden_layers": 5,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "head_dim": 32,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "attention_bias": False,
    "mlp_bias": False,
    "attention_dropout": 0.0,
    "initializer_range": 0.02,
}


class Norm(torch.autograd.Function):
    """RMSNorm of a float32 stream, result in bfloat16."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        scale = (
            torch.linalg.vector_norm(x, dim=-1, keepdim=True)
            .pow_(2)
            .div_(x.shape[-1])
            .add_(CONFIG["rms_norm_eps"])
            .rsqrt_()
        )
        unit = x * scale
        ctx.save_for_backward(unit, scale, weight)
        return (unit * weight).bfloat16()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        unit, scale, weight = ctx.saved_tensors
        grad = grad.float()
        product = unit * grad
        mean = (product @ weight).div_(unit.shape[-1]).unsqueeze(-1)
        return grad.mul_(weight).addcmul_(unit, mean, value=-1).mul_(scale), product.flatten(0, -2).sum(0)


class Rotate(torch.autograd.Function):
    """(batch, position, 3 * width) -> q and k with rotary positions, and v, each (batch * head, position,
    size)."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, cos: Tensor, sin: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
        batch, length, width = qkv.shape
        size = width // 3 // heads
        x = qkv.view(batch, length, 3, heads, size).permute(2, 0, 3, 1, 4).contiguous()
        ctx.save_for_backward(cos, sin)
        ctx.shape = (batch, length, heads, size)
        turned = _swap_halves(x[:2])
        x[:2].mul_(cos).addcmul_(turned, sin)
        q, k, v = x.view(3, batch * heads, length, size)
        return q, k, v

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        cos, sin = ctx.saved_tensors
        batch, length, heads, size = ctx.shape
        out = grads[0].new_empty(batch, length, 3, heads, size)
        for i, grad in enumerate(grads):
            grad = grad.view(batch, heads, length, size)
            back = (grad * cos).add_(_swap_halves(grad * sin)) if i < 2 else grad
            out[:, :, i] = back.transpose(1, 2)
        return out.view(batch, length, -1), None, None, None


class Attend(torch.autograd.Function):
    """Causal attention, the mask given as a tensor to add."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        ctx.scale = q.shape[-1] ** -0.5
        pattern = torch.baddbmm(mask, q, k.transpose(1, 2), alpha=ctx.scale).softmax(-1)
        ctx.save_for_backward(q, k, v, pattern)
        return pattern @ v

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, pattern = ctx.saved_tensors
        to_scores = torch._softmax_backward_data(grad @ v.transpose(1, 2), pattern, -1, pattern.dtype)
        to_q, to_k = (to_scores @ k).mul_(ctx.scale), (to_scores.transpose(1, 2) @ q).mul_(ctx.scale)
        return to_q, to_k, pattern.transpose(1, 2) @ grad, None


class Gate(torch.autograd.Function):
    """(..., 2 * inner) -> silu(first half) * second half."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        gate, up = x.chunk(2, -1)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        gate, up = x.chunk(2, -1)
        out = torch.empty_like(x)
        to_gate, to_up = out.chunk(2, -1)
        sigmoid = torch.sigmoid(gate)
        silu = gate * sigmoid
        to_up.copy_(grad).mul_(silu)
        to_gate.copy_(sigmoid.addcmul_(silu, 1 - sigmoid)).mul_(up).mul_(grad)
        return out


def _swap_halves(x: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    return torch.cat((x[..., half:], x[..., :half]), -1)


class Organism(torch.nn.Module):
    """Token ids (batch, position) -> logits (batch, position, vocabulary)."""

    def __init__(self, vocab_size: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        c = CONFIG
        width, inner, self.layers, self.heads = (
            c["hidden_size"],
            c["intermediate_size"],
            c["num_hidden_layers"],
            c["num_attention_heads"],
        )
        shapes: dict[str, tuple[int, ...]] = {
            "embed": (vocab_size, width),
            "unembed": (vocab_size, width),
            "norm": (width,),
        }
        for i in range(self.layers):
            shapes |= {f"{i}_norm1": (width,), f"{i}_qkv": (3 * width, width), f"{i}_o": (width, width)}
            shapes |= {
                f"{i}_norm2": (width,),
                f"{i}_gate_up": (2 * inner, width),
                f"{i}_down": (width, inner),
            }
        self.weights = torch.nn.ParameterDict(
            {
                name: torch.nn.Parameter(
                    torch.ones(shape)
                    if "norm" in name
                    else torch.randn(shape, generator=generator) * c["initializer_range"]
                )
                for name, shape in shapes.items()
            }
        )
        self._start(generator)
        half = c["head_dim"] // 2
        frequency = c["rope_parameters"]["rope_theta"] ** (-torch.arange(half) / half)
        angles = torch.outer(torch.arange(c["max_position_embeddings"]), frequency).repeat(1, 2)
        self.register_buffer("cos", angles.cos().bfloat16(), persistent=False)
        self.register_buffer(
            "sin", (angles.sin() * torch.tensor([-1.0] * half + [1.0] * half)).bfloat16(), persistent=False
        )

    def _start(self, generator: torch.Generator | None) -> None:
        """Initial weights from which induction is learnt soon.

        Layers add nothing at first, so that every layer sees the tokens; embeddings have a common part, which lets a head
        of the first layer attend by position alone; and the unembedding is a rotation of the embedding, so that one linear
        map copies every token.
        """
        w, width, scale = self.weights, CONFIG["hidden_size"], CONFIG["initializer_range"]
        rotation = torch.linalg.qr(torch.randn(width, width, generator=generator))[0]
        with torch.no_grad():
            w["unembed"].copy_(w["embed"] @ rotation)
            w["embed"].mul_(5).add_(5 * scale * torch.randn(width, generator=generator))
            for i in range(self.layers):
                w[f"{i}_o"].zero_()
                w[f"{i}_down"].zero_()

    def forward(self, ids: Tensor) -> Tensor:
        """Logits (batch, position, vocabulary), in bfloat16."""
        return self.unembed(self.hidden(ids))

    def unembed(self, hidden: Tensor) -> Tensor:
        """Logits, in bfloat16, of final hidden states (bfloat16)."""
        return F.linear(hidden, self.weights["unembed"].bfloat16())

    def hidden(self, ids: Tensor, document: Tensor | None = None, patterns: list[Tensor] | None = None) -> Tensor:
        """The final hidden states after the last norm, in bfloat16.

        `document` (batch, position) numbers the documents packed in a row: no attention goes from one to
        another. `patterns` gets each layer's attention appended, (batch, head, query, key) in float32.
        """
        w = self.weights
        batch, length = ids.shape
        width = CONFIG["hidden_size"]
        size = width // self.heads
        allowed = torch.ones(length, length, dtype=torch.bool).tril()
        if document is not None:
            allowed = (allowed & (document[:, :, None] == document[:, None, :])).unsqueeze(1)
        mask = torch.zeros(allowed.shape, dtype=torch.bfloat16).masked_fill_(~allowed, float("-inf"))
        mask = mask.expand(batch, self.heads, length, length).reshape(batch * self.heads, length, length)
        cos, sin = self.cos[:length], self.sin[:length]
        x = F.embedding(ids, w["embed"])
        for i in range(self.layers):
            h = Norm.apply(x, w[f"{i}_norm1"])
            q, k, v = Rotate.apply(F.linear(h, w[f"{i}_qkv"].bfloat16()), cos, sin, self.heads)
            if patterns is not None:
                scores = torch.baddbmm(mask, q, k.transpose(1, 2), alpha=size**-0.5)
                patterns.append(scores.softmax(-1).float().view(batch, self.heads, length, length))
            z = (
                Attend.apply(q, k, v, mask)
                .view(batch, self.heads, length, size)
                .transpose(1, 2)
                .reshape(batch, length, width)
            )
            x = x + F.linear(z, w[f"{i}_o"].bfloat16())
            h = Norm.apply(x, w[f"{i}_norm2"])
            x = x + F.linear(Gate.apply(F.linear(h, w[f"{i}_gate_up"].bfloat16())), w[f"{i}_down"].bfloat16())
        return Norm.apply(x, w["norm"])


def to_transformers(model: Organism, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """The state dict of a LlamaForCausalLM with these parameters."""
    w = {name: p.detach().to(dtype) for name, p in model.weights.items()}
    state = {
        "model.embed_tokens.weight": w["embed"],
        "lm_head.weight": w["unembed"],
        "model.norm.weight": w["norm"],
    }
    for i in range(model.layers):
        at = f"model.layers.{i}."
        for name, part in zip("qkv", w[f"{i}_qkv"].chunk(3), strict=True):
            state[f"{at}self_attn.{name}_proj.weight"] = part.clone()
        gate, up = w[f"{i}_gate_up"].chunk(2)
        state |= {f"{at}self_attn.o_proj.weight": w[f"{i}_o"], f"{at}mlp.down_proj.weight": w[f"{i}_down"]}
        state |= {f"{at}mlp.gate_proj.weight": gate.clone(), f"{at}mlp.up_proj.weight": up.clone()}
        state |= {
            f"{at}input_layernorm.weight": w[f"{i}_norm1"],
            f"{at}post_attention_layernorm.weight": w[f"{i}_norm2"],
        }
    return state

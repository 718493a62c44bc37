"""A plain transformer run with edges exchanged, differentiably, each prompt with its own: the fast twin of ``Slow``."""

from collections.abc import Mapping

import torch
from torch import Tensor

from interp.models.plain import PlainConfig


def run(w: Mapping[str, Tensor], shape: PlainConfig, ids: Tensor, exchanged: Tensor | None = None,
        there: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Logits [prompt, position, word], and what each node writes [prompt, sender, position, width].

    ``exchanged`` [prompt, edge] is 1 where an edge carries what its sender writes ``there`` (the second result of another
    run) and 0 where it carries what it writes in this one; edges stand in the order of ``Slow.edges``, the slow path of
    ``data/compiled/truth.py``.
    """
    heads, size, at = shape.num_attention_heads, shape.head_dim, 0
    positions = w["model.embed_positions.weight"][: ids.shape[1]]
    written = (w["model.embed_tokens.weight"][ids] + positions)[:, None]

    def read(receivers: int) -> Tensor:
        """What the next receivers read: [prompt, receiver, position, width]."""
        nonlocal at
        live, senders = written.sum(dim=1, keepdim=True), written.shape[1]
        if exchanged is None:
            return live.expand(-1, receivers, -1, -1)
        mask = exchanged[:, at : at + receivers * senders].unflatten(1, (receivers, senders)).to(written.dtype)
        at += receivers * senders
        return live + torch.einsum("brs,bspd->brpd", mask, there[:, :senders] - written)

    for layer in range(shape.num_hidden_layers):
        name, streams = f"model.layers.{layer}", read(3 * heads).unflatten(1, (heads, 3))
        q, k, v = (torch.einsum("bhpd,hcd->bhpc", streams[:, :, i],
                                w[f"{name}.self_attn.{part}_proj.weight"].unflatten(0, (heads, size)))
                   for i, part in enumerate("qkv"))
        z = (q @ k.transpose(2, 3) * size**-0.5).softmax(dim=-1) @ v
        out = torch.einsum("bhpc,dhc->bhpd", z, w[f"{name}.self_attn.o_proj.weight"].unflatten(1, (heads, size)))
        written = torch.cat([written, out], dim=1)
        hidden = read(1) @ w[f"{name}.mlp.up_proj.weight"].T + w[f"{name}.mlp.up_proj.bias"]
        out = hidden.relu() @ w[f"{name}.mlp.down_proj.weight"].T + w[f"{name}.mlp.down_proj.bias"]
        written = torch.cat([written, out], dim=1)
    return read(1)[:, 0] @ w["lm_head.weight"].T, written

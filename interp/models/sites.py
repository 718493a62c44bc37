"""``Site``: a place in a transformer where activations are read and edited, and the layout they have there.

=============  ======================================  ======================================================
what           layout                                  what it is
=============  ======================================  ======================================================
``resid_pre``  [batch, position, d_model]              residual stream entering the block
``resid_mid``  [batch, position, d_model]              between attention and MLP (not in parallel blocks)
``resid_post`` [batch, position, d_model]              residual stream leaving the block
``q_pre``      [batch, position, head, d_qk]           query as projected, before rotary embedding
``k_pre``      [batch, position, kv_head, d_qk]        key as projected, before rotary embedding
``q``          [batch, position, head, d_qk]           query as it meets the keys (after rotary embedding)
``k``          [batch, position, kv_head, d_qk]        key as it meets the queries (after rotary embedding)
``v``          [batch, position, kv_head, d_head]      value
``scores``     [batch, head, query, key]               attention scores: scaled, masked, before the softmax
``pattern``    [batch, head, query, key]               attention pattern: after the softmax
``z``          [batch, position, head, d_head]         pattern times value
``result``     [batch, position, head, d_model]        z times W_O: what each head adds (without bias)
``attn_out``   [batch, position, d_model]              sum of results plus the output bias, before a post-norm
``attn_write`` [batch, position, d_model]              what attention adds to the residual stream (after a post-norm)
``mlp_out``    [batch, position, d_model]              output of the MLP (or mixture of experts), before a post-norm
``mlp_write``  [batch, position, d_model]              what the MLP adds to the residual stream (after a post-norm)
=============  ======================================  ======================================================

A learned sink (GPT-OSS) is not a column of ``scores`` or ``pattern``: rows of the pattern then sum to less than one.
``q_pre`` and ``k_pre`` are what the projections return (what attention reads times W_Q and W_K, plus biases), before a
query-key norm and the rotary embedding; without these they equal ``q`` and ``k`` (OPT then scales its queries).
"""

from dataclasses import dataclass

from interp.core.errors import InterpError
from interp.core.registry import unknown

RESIDUAL = ("resid_pre", "resid_mid", "resid_post", "attn_out", "attn_write", "mlp_out", "mlp_write")
PER_HEAD = ("q_pre", "q", "z", "result")        # [batch, position, head, d]
PER_KV_HEAD = ("k_pre", "k", "v")               # [batch, position, kv_head, d]
SQUARE = ("scores", "pattern")                  # [batch, head, query, key]
WHATS = RESIDUAL + PER_HEAD + PER_KV_HEAD + SQUARE


@dataclass(frozen=True, order=True)
class Site:
    """One place: ``what`` (see the table above), the layer, and which attention stack it belongs to."""

    what: str
    layer: int
    attention: str = "self"

    def __post_init__(self) -> None:
        if self.what not in WHATS:
            raise unknown("site", self.what, list(WHATS))
        if self.layer < 0:
            raise InterpError(f"name a site of layer {self.layer}", "layers count from 0", "use 0 or above")

    @property
    def head_axis(self) -> int | None:
        """Index of the axis that counts heads (or key-value heads); None for residual sites."""
        return None if self.what in RESIDUAL else 1 if self.what in SQUARE else 2

    @property
    def position_axis(self) -> int:
        """Index of the axis of positions (of queries, for scores and pattern)."""
        return 2 if self.what in SQUARE else 1

    def __str__(self) -> str:
        where = "" if self.attention == "self" else f"{self.attention} "
        return f"{where}{self.what} of layer {self.layer}"

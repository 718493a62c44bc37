"""The protocol that both backends keep: facts, run with edits and captures, weights per head, direct logits.

A backend wraps one network. Everything above it speaks of ``Site`` only; hook names are spelled in the backends alone.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from interp.models.sites import Site

Edit = Callable[[Tensor], Tensor]
"""Takes the tensor at a site, in the site's layout, and returns its replacement; never writes in place."""


@dataclass(frozen=True)
class Stack:
    """One attention stack: its kind and shape.

    Attributes:
        attention: ``self``, ``encoder``, ``cross`` or ``vision``.
        d_head: size of a value (and of z) per head; ``d_qk`` the size of a query and key (they differ in latent attention).
        causal: whether a query sees only earlier keys.
        rotary: whether ``q_pre`` differs from ``q``.
        windows: sliding window of each layer in tokens, None where attention is full.
        learned_sink: whether a learned score without a value takes part in the softmax (rows then sum to less than one).
        parallel: whether attention and MLP read the same residual stream (no ``resid_mid``).
        post_norm: whether a norm sits between attention or MLP output and the residual stream.
    """

    attention: str
    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    d_qk: int
    d_model: int
    causal: bool = True
    rotary: bool = False
    windows: tuple[int | None, ...] = ()
    learned_sink: bool = False
    parallel: bool = False
    post_norm: bool = False

    @property
    def group(self) -> int:
        """How many query heads share one key-value head."""
        return self.n_heads // self.n_kv_heads


@dataclass(frozen=True)
class Run:
    """What a forward pass returned: logits [batch, position, vocab] (None if the network has none, then ``output`` is its
    last hidden state or class logits), the captured tensors, and the key-value cache where one was asked for."""

    logits: Tensor | None
    captured: Mapping[Site, Tensor] = field(default_factory=dict)
    output: Tensor | None = None
    cache: Any = None


class Backend(Protocol):
    """What ``Model`` and the engine need of a network."""

    name: str
    """``transformers`` or ``transformer_lens``."""
    stacks: tuple[Stack, ...]
    """The attention stacks, the main one first."""
    architecture: str
    """Name of the network's class, e.g. ``LlamaForCausalLM``."""

    def sites(self) -> frozenset[Site]:
        """Every site that can be read and edited."""

    def run(self, inputs: Mapping[str, Tensor], edits: Mapping[Site, Edit] | None = None, capture: Collection[Site] = (), *,
            cache: Any = None, use_cache: bool = False) -> Run:
        """One forward pass. ``inputs`` holds ``input_ids`` and ``attention_mask`` (1 = real token; padding on either side
        is exact), or ``pixel_values``, or an encoder-decoder's inputs. A captured tensor is what the network goes on with
        (after the edit of that site), attached to the autograd graph where gradients are enabled, never a view that a
        later step overwrites. A site the network lacks raises ``InterpError``."""

    def W_O(self, layer: int, attention: str = "self") -> Tensor:
        """Output weights per head: [head, d_head, d_model]."""

    def b_O(self, layer: int, attention: str = "self") -> Tensor | None:
        """Bias of the attention output: [d_model], None without one."""

    def write_parts(self, what: str, layer: int, parts: Tensor, total: Tensor) -> Tensor:
        """What ``parts`` [..., batch, position, d_model] of ``total`` (``attn_out`` or ``mlp_out``, as ``what`` says)
        add to the residual stream, the post-norm frozen at ``total``. The identity without one. Linear in ``parts``."""

    def logit_parts(self, parts: Tensor, resid: Tensor, columns: Tensor) -> Tensor:
        """Direct logits of ``parts`` [..., batch, d_model] of the final residual stream ``resid`` [batch, d_model] on the
        vocabulary ``columns`` [batch, c]: final norm frozen at ``resid``, then the unembedding; [..., batch, c]. Linear in
        ``parts``; before a final soft cap. The constant that no part carries is ``logit_bias``."""

    def logit_bias(self, columns: Tensor) -> Tensor:
        """Part of the logits that no input changes (norm bias through the unembedding, output bias): [batch, c]."""

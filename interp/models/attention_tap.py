"""Queries, keys, values, scores and patterns of any attention module of transformers, read and edited in one layout.

Most modules hand q, k and v to transformers' attention interface; there ``interp_attention`` stands in for the module's own
eager function and calls it. The softmax inside is intercepted (a ``TorchFunctionMode``): its input is the scores, its output
the pattern. Modules that compute attention inline (GPT-J, Falcon, Bloom) are run under the same mode, where the product
before the softmax gives q and k and the product after it gives v.
"""

import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from interp.core.errors import InterpError
from interp.models.sites import Site
from interp.models.taps import ACTIVE, Taps

IMPLEMENTATION = "interp"
LISTENER: ContextVar[Callable[..., Any] | None] = ContextVar("what stands in for the attention interface", default=None)
"""While set, ``interp_attention`` returns what it returns; it may unset itself and call ``interp_attention``."""
_SOFTMAX = frozenset({F.softmax, torch.softmax, Tensor.softmax})
_PRODUCT = frozenset({torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, Tensor.bmm})
_SUM_PRODUCT = frozenset({torch.baddbmm, Tensor.baddbmm})
_CAT = frozenset({torch.cat, torch.concat})


@dataclass(frozen=True)
class CoreTap:
    """The sites inside one attention module, for one run. Tensors come and go as transformers has them, [B, H, T, d]."""

    taps: Taps
    layer: int
    attention: str
    n_heads: int
    n_kv_heads: int
    learned_sink: bool = False
    latent_cache: bool = False

    def site(self, what: str) -> Site:
        return Site(what, self.layer, self.attention)

    def wants(self, *whats: str) -> bool:
        return self.taps.wants(*map(self.site, whats))

    def square(self, what: str, tensor: Tensor) -> Tensor:
        return self.taps(self.site(what), tensor)

    def row(self, what: str, tensor: Tensor) -> Tensor:
        """q, k or v. Where the module has copied its keys to every query head, one copy of each is shown and copied back."""
        if not self.wants(what):
            return tensor
        copies = tensor.shape[1] // self.n_kv_heads if what != "q" and tensor.shape[1] == self.n_heads else 1
        new = self.taps(self.site(what), tensor[:, ::copies].transpose(1, 2)).transpose(1, 2)
        return new.repeat_interleave(copies, 1) if copies > 1 else new

    def cached(self, what: str, tensor: Tensor, queries: int, stored: bool) -> Tensor:
        """k or v of a pass that may have a cache: only this pass' positions are a site, the last ``queries`` of them.

        Where the cache holds k and v themselves they were tapped on their way into it (``stored``)."""
        if stored or not self.wants(what):
            return tensor
        past = tensor.shape[2] - queries
        if past <= 0 or self.attention == "cross":
            return self.row(what, tensor)
        if self.site(what) in self.taps.edits:
            raise InterpError(f"edit the {self.site(what)} with a cache", "the cache holds latents, from which keys and "
                              "values of earlier positions are made anew, without the edit", "run without a cache")
        return torch.cat([tensor[:, :, :past], self.row(what, tensor[:, :, past:])], 2)


class SoftmaxMode(TorchFunctionMode):
    """Taps scores and pattern at the one softmax over a 4-D tensor in an attention; with ``products`` also q, k and v."""

    def __init__(self, tap: CoreTap, products: bool = False, module: nn.Module | None = None):
        super().__init__()
        self.tap, self.products, self.module = tap, products, module
        self.queries = 0
        self.seen_scores = self.seen_softmax = self.seen_values = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.tap.taps.paused:
            return func(*args, **kwargs)
        if func in _SOFTMAX and not self.seen_softmax and args[0].dim() == 4:
            return self._softmax(func, args, kwargs)
        if func in _CAT and self.tap.learned_sink and not self.seen_softmax:
            return self._with_sink(func, args, kwargs)
        if self.products and not self.seen_scores and (operands := _operands(func, args, kwargs)):
            self.seen_scores = True
            q, k = (self._by_head(x) for x in operands[:2])
            self.queries = q.shape[2]
            q = self.tap.row("q", q)
            k = self.tap.cached("k", k.transpose(2, 3), self.queries, self._stored()).transpose(2, 3)
            return operands[2](q.reshape(operands[0].shape), k.reshape(operands[1].shape))
        if self.products and self.seen_softmax and not self.seen_values and (operands := _operands(func, args, kwargs)):
            self.seen_values = True
            v = self.tap.cached("v", self._by_head(operands[1]), self.queries, self._stored())
            return operands[2](operands[0], v.reshape(operands[1].shape))
        return func(*args, **kwargs)

    def _softmax(self, func: Any, args: Any, kwargs: Any) -> Tensor:
        self.seen_softmax = True
        if self.tap.learned_sink:                       # the scores were tapped before the sink was appended to them
            pattern = func(*args, **kwargs)
            return torch.cat([self.tap.square("pattern", pattern[..., :-1]), pattern[..., -1:]], -1)
        return self.tap.square("pattern", func(self.tap.square("scores", args[0]), *args[1:], **kwargs))

    def _with_sink(self, func: Any, args: Any, kwargs: Any) -> Tensor:
        scores, *rest = args[0] if args else kwargs.pop("tensors")
        if scores.dim() != 4 or len(rest) != 1 or rest[0].shape[-1] != 1:
            return func(*args, **kwargs)
        return func([self.tap.square("scores", scores), *rest], *args[1:], **kwargs)

    def _stored(self) -> bool:
        """Whether this pass' k and v were tapped on their way into the cache; known once the forward has come so far."""
        return self.module is not None and self.module in self.tap.taps.stored

    def _by_head(self, tensor: Tensor) -> Tensor:
        return tensor if tensor.dim() == 4 else tensor.unflatten(0, (-1, self.tap.n_heads))


def _operands(func: Any, args: Any, kwargs: Any) -> tuple[Tensor, Tensor, Callable[[Tensor, Tensor], Tensor]] | None:
    """The two factors of a product per head (4-D, or 3-D with batch and head in one axis), and how to multiply them."""
    if func in _PRODUCT and len(args) == 2 and not kwargs and args[0].dim() == args[1].dim():
        least = 3 if func in (torch.bmm, Tensor.bmm) else 4
        return (args[0], args[1], func) if args[0].dim() >= least else None
    if func in _SUM_PRODUCT:
        named = dict(zip(("input", "batch1", "batch2"), args, strict=False)) | kwargs
        first, second = named.pop("batch1"), named.pop("batch2")
        return first, second, lambda a, b: torch.baddbmm(named.pop("input"), a, b, **named)
    return None


def eager_attention(module: nn.Module) -> Callable[..., tuple[Tensor, Tensor | None]]:
    """The eager attention function of a module: the one in the file of its class, or of the class it derives from."""
    for cls in type(module).__mro__:
        if function := getattr(sys.modules[cls.__module__], "eager_attention_forward", None):
            return function
    raise InterpError(f"run the attention of {type(module).__name__}",
                      "its file has no eager_attention_forward beside the call of transformers' attention interface",
                      "define one there, as transformers' own files do")


def interp_attention(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
                     **options: Any) -> tuple[Tensor, Tensor | None]:
    """The module's eager attention, with the taps of the run in progress."""
    if (listener := LISTENER.get()) is not None:
        return listener(module, query, key, value, attention_mask, **options)
    eager = eager_attention(module)
    taps = ACTIVE.get()
    tap = None if taps is None else taps.cores.get(module)
    if tap is None:
        return eager(module, query, key, value, attention_mask, **options)
    stored = module in taps.stored
    queries = query.shape[2]
    query = tap.row("q", query)
    key, value = (tap.cached(what, x, queries, stored) for what, x in (("k", key), ("v", value)))
    if not tap.wants("scores", "pattern"):
        return eager(module, query, key, value, attention_mask, **options)
    with SoftmaxMode(tap):
        return eager(module, query, key, value, attention_mask, **options)


def register() -> None:
    """Make ``interp_attention`` known to transformers under a name of its own; other models are unchanged."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

    AttentionInterface.register(IMPLEMENTATION, interp_attention)
    AttentionMaskInterface.register(IMPLEMENTATION, ALL_MASK_ATTENTION_FUNCTIONS["eager"])


def tapped_forward(forward: Callable[..., Any], tap: CoreTap, module: nn.Module) -> Callable[..., Any]:
    """The forward of a module that computes attention inline, under ``SoftmaxMode`` while ``tap``'s run is in progress."""

    def run(*args: Any, **kwargs: Any) -> Any:
        if ACTIVE.get() is not tap.taps:
            return forward(*args, **kwargs)
        with SoftmaxMode(tap, products=True, module=module):
            return forward(*args, **kwargs)

    return run


def tapped_update(update: Callable[..., tuple[Tensor, Tensor]], tap_of_layer: Mapping[int, tuple[nn.Module, CoreTap]],
                  taps: Taps) -> Callable[..., tuple[Tensor, Tensor]]:
    """A cache's ``update``, with k and v tapped on their way in, so that later steps see the edit too."""

    def run(key: Tensor, value: Tensor, layer: int, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if ACTIVE.get() is taps and layer in tap_of_layer:
            module, tap = tap_of_layer[layer]
            taps.stored.add(module)
            key, value = tap.row("k", key), tap.row("v", value)
        return update(key, value, layer, *args, **kwargs)

    return run

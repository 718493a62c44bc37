"""The untouched run that passes resume from: how blocks and attentions were called, and the keys and values they stored."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from interp.models.attention_tap import LISTENER, interp_attention
from interp.models.recording import first_tensor
from interp.models.resume.calls import Call
from interp.models.resume.differences import Products, noting
from interp.models.sites import Site


@dataclass(frozen=True)
class Heard:
    """What one attention handed to transformers' attention interface, and what it got.

    Attributes:
        q, k, v: [prompt, head, position, d].
        mask: added to the scores [prompt or 1, head or 1, query, key].
        options: the other arguments.
        z: [prompt, position, head, d_head].
    """

    q: Tensor
    k: Tensor
    v: Tensor
    mask: Tensor | None
    options: Mapping[str, Any]
    z: Tensor


@dataclass(frozen=True)
class Recording:
    """One forward pass, recorded.

    Attributes:
        calls, outputs: of each block.
        inner: the calls of each block's attention; ``returned`` what it returned.
        heard: module of attention -> what passed its interface.
        cache: the cache that the blocks were given, None where the network has none.
        stored: (keys, values) of each layer as the attention handed them to the cache.
        captured: activations at the sites that were asked for.
        output: what the network returned: logits, or class logits.
        products: of linear maps that take differences (``differences``), what they were given and returned.
    """

    calls: tuple[Call, ...]
    outputs: tuple[Any, ...]
    inner: tuple[Call, ...]
    returned: tuple[Any, ...]
    heard: Mapping[nn.Module, Heard]
    cache: Any
    stored: tuple[tuple[Tensor, Tensor], ...]
    captured: Mapping[Site, Tensor]
    output: Tensor
    products: Products

    def resid(self, layer: int) -> Tensor:
        """The residual stream that entered a block (that left the last one, for the number of layers)."""
        if layer == len(self.calls):
            return first_tensor(self.outputs[-1])
        return first_tensor([self.calls[layer].args, dict(self.calls[layer].kwargs)])


def record(backend: Any, places: Iterable[Any], inputs: Mapping[str, Tensor], capture: Collection[Site] = (), *,
           cached: bool, cache: Any = None) -> Recording:
    """Run the network of a backend once and record what its blocks and attentions were called with."""
    places = list(places)
    calls: dict[nn.Module, Call] = {}
    outputs: dict[nn.Module, Any] = {}
    heard: dict[nn.Module, Heard] = {}

    def before(module: nn.Module, args: Any, kwargs: Any) -> None:
        calls[module] = Call(args, dict(kwargs))

    def after(module: nn.Module, args: Any, output: Any) -> None:
        outputs[module] = output

    def listen(module: nn.Module, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, **options: Any) -> Any:
        token = LISTENER.set(None)
        try:
            result = interp_attention(module, q, k, v, mask, **options)
        finally:
            LISTENER.reset(token)
        heard[module] = Heard(q, k, v, mask, options, result[0])
        return result

    handles = []
    for module in (module for place in places for module in (place.block, place.core)):
        handles += [module.register_forward_pre_hook(before, with_kwargs=True), module.register_forward_hook(after)]
    token = LISTENER.set(listen)
    try:
        with torch.no_grad(), noting() as noted:
            run = backend.run(inputs, capture=capture, cache=cache, use_cache=cached)
    finally:
        LISTENER.reset(token)
        for handle in handles:
            handle.remove()
    stored = tuple((layer.keys, layer.values) for layer in run.cache.layers) if cached else ()
    blocks, cores = [place.block for place in places], [place.core for place in places]
    return Recording(tuple(calls[m] for m in blocks), tuple(outputs[m] for m in blocks), tuple(calls[m] for m in cores),
                     tuple(outputs[m] for m in cores), heard, run.cache, stored, run.captured,
                     run.output if run.logits is None else run.logits,
                     {module: found for module, found in noted.items() if found is not None})


class Prefix:
    """Stands in for the cache: keys and values of earlier positions are those of the untouched run."""

    def __init__(self, stored: tuple[tuple[Tensor, Tensor], ...], rows: Tensor, start: int):
        self.stored, self.rows, self.start = stored, rows, start

    def update(self, key: Tensor, value: Tensor, layer: int, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Keys and values of all positions: the untouched ones before ``start``, these from there on."""
        if not self.start:
            return key, value
        before = (x.narrow(2, 0, self.start).index_select(0, self.rows) for x in self.stored[layer])
        return tuple(torch.cat([a, b], 2) for a, b in zip(before, (key, value), strict=True))

    def get_seq_length(self, layer: int = 0) -> int:
        """How many positions lie before those of this pass."""
        return self.start

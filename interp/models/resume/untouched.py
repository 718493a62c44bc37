"""The untouched run that passes resume from: what every block was called with, and the keys and values in the cache."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from interp.models.recording import first_tensor
from interp.models.resume.calls import Call
from interp.models.sites import Site


@dataclass(frozen=True)
class Recording:
    """One forward pass, recorded.

    Attributes:
        calls: of each block.
        outputs: what each block returned.
        cache: the cache that the blocks were given, None where the network has none.
        stored: (keys, values) of each layer as the attention handed them to the cache.
        captured: activations at the sites that were asked for.
        output: what the network returned: logits, or class logits.
    """

    calls: tuple[Call, ...]
    outputs: tuple[Any, ...]
    cache: Any
    stored: tuple[tuple[Tensor, Tensor], ...]
    captured: Mapping[Site, Tensor]
    output: Tensor

    def resid(self, layer: int) -> Tensor:
        """The residual stream that entered a block (that left the last one, for the number of layers)."""
        if layer == len(self.calls):
            return first_tensor(self.outputs[-1])
        return first_tensor([self.calls[layer].args, dict(self.calls[layer].kwargs)])


def record(backend: Any, places: list[Any], inputs: Mapping[str, Tensor], capture: Collection[Site] = (), *,
           cached: bool, cache: Any = None) -> Recording:
    """Run the network of a backend once and record what its blocks were called with."""
    calls: dict[Any, Call] = {}
    outputs: dict[Any, Any] = {}

    def before(module: Any, args: Any, kwargs: Any) -> None:
        calls[module] = Call(args, dict(kwargs))

    def after(module: Any, args: Any, output: Any) -> None:
        outputs[module] = output

    handles = []
    for place in places:
        handles += [place.block.register_forward_pre_hook(before, with_kwargs=True),
                    place.block.register_forward_hook(after)]
    try:
        with torch.no_grad():
            run = backend.run(inputs, capture=capture, cache=cache, use_cache=cached)
    finally:
        for handle in handles:
            handle.remove()
    stored = tuple((layer.keys, layer.values) for layer in run.cache.layers) if cached else ()
    output = run.output if run.logits is None else run.logits
    return Recording(tuple(calls[place.block] for place in places), tuple(outputs[place.block] for place in places),
                     run.cache, stored, run.captured, output)


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

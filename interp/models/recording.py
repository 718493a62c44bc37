"""One dry run of a network on a few tokens: which module ran, on what, with what result, and what attention computed."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from interp.models.attention_tap import SoftmaxMode
from interp.models.taps import ACTIVE


@dataclass(frozen=True)
class Call:
    """One call of a module: its first tensor argument and first tensor result (copies), None where it has none."""

    module: nn.Module
    input: Tensor | None
    output: Tensor | None


@dataclass(frozen=True)
class Core:
    """What one attention module computed: q, k, v [batch, head, position, d] and pattern [batch, head, query, key]."""

    module: nn.Module
    q: Tensor
    k: Tensor
    v: Tensor
    pattern: Tensor
    inline: bool
    rotary: bool

    @property
    def z(self) -> Tensor:
        """[batch, position, head, d_head]"""
        values = self.v.repeat_interleave(self.q.shape[1] // self.v.shape[1], 1)
        return (self.pattern.to(values.dtype) @ values).transpose(1, 2)


def first_tensor(value: Any) -> Tensor | None:
    """The tensor itself, or the first one of a tuple, list or mapping."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        return next((x for x in map(first_tensor, value) if x is not None), None)
    return None


def with_first(output: Any, tensor: Tensor) -> Any:
    """``output`` with its first tensor replaced."""
    return tensor if isinstance(output, Tensor) else type(output)([tensor, *output[1:]])


def close(a: Tensor | None, b: Tensor | None, slack: Tensor | None = None) -> bool:
    """Whether two tensors are the same up to rounding, entry by entry and whatever their shapes.

    ``slack``: where ``a`` or ``b`` is a difference, the sizes of the numbers whose rounding it carries."""
    if a is None or b is None or a.numel() != b.numel():
        return False
    eps = max(torch.finfo(x.dtype).eps for x in (a, b))
    size = a.abs().float().reshape(-1) + b.abs().float().reshape(-1)
    size = size if slack is None else size + slack.float().reshape(-1)
    return bool(((a.float().reshape(-1) - b.float().reshape(-1)).abs() <= 16 * eps * size).all())


class _Ear:
    """Stands in for ``CoreTap``: changes nothing, remembers everything."""

    paused, stored = False, frozenset()

    def __init__(self, module: nn.Module, n_heads: int):
        self.module, self.n_heads, self.heard = module, n_heads, {}
        self.learned_sink = isinstance(getattr(module, "sinks", None), Tensor)
        self.taps = self

    def wants(self, *whats: str) -> bool:
        return True

    def row(self, what: str, tensor: Tensor) -> Tensor:
        self.heard[what] = tensor.detach().clone()
        return tensor

    square = row

    def cached(self, what: str, tensor: Tensor, queries: int, stored: bool) -> Tensor:
        return self.row(what, tensor)


class _Ears(dict):
    """Stands in for ``Taps``: an ear for every attention module that calls the attention interface."""

    stored = frozenset()

    def __init__(self, n_heads: int):
        super().__init__()
        self.n_heads, self.calls = n_heads, []
        self.cores = self

    def get(self, module: nn.Module) -> _Ear:
        self.calls.append(module)
        return self.setdefault(module, _Ear(module, self.n_heads))


def record(network: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[list[Call], list[Core], list[nn.Module]]:
    """Run once, without gradients. Returns the calls in the order in which they ended, the attentions in theirs, and
    the attention modules that ran more than once."""
    n_heads = _n_heads(network)
    calls: list[Call] = []
    arguments: dict[nn.Module, Tensor | None] = {}
    rotary: set[nn.Module] = set()
    ended: list[nn.Module] = []
    ears, inline = _Ears(n_heads), {}

    def before(module: nn.Module, args: Any, kwargs: Any) -> None:
        given = first_tensor(args)
        given = first_tensor(kwargs) if given is None else given
        arguments[module] = None if given is None else given.detach().clone()
        turned = kwargs.get("position_embeddings") is not None or isinstance(getattr(module, "rotary_dim", None), int)
        if turned and kwargs.get("alibi") is None:
            rotary.add(module)

    def after(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        result = first_tensor(output)
        calls.append(Call(module, arguments.get(module), None if result is None else result.detach().clone()))
        ended.append(module)

    handles = []
    for module in network.modules():
        handles += [module.register_forward_pre_hook(before, with_kwargs=True),
                    module.register_forward_hook(after, with_kwargs=True)]
    for module in _attention_leaves(network):
        inline[module] = ear = _Ear(module, n_heads)
        module.forward = _listening(module.forward, ear)
    token = ACTIVE.set(ears)
    try:
        with torch.no_grad():
            network(**inputs)
    finally:
        ACTIVE.reset(token)
        for module in inline:
            del module.forward
        for handle in handles:
            handle.remove()
    heard = {m: ear.heard for m, ear in inline.items() if {"q", "k", "v", "pattern"} <= ear.heard.keys()}
    heard |= {m: ear.heard for m, ear in ears.items()}
    cores = [Core(m, *(heard[m][what] for what in ("q", "k", "v", "pattern")), inline=m not in ears, rotary=m in rotary)
             for m in dict.fromkeys(ended) if m in heard]
    times = Counter(ears.calls + [m for m in ended if m not in ears])
    return calls, cores, [core.module for core in cores if times[core.module] > 1]


def _listening(forward: Any, ear: _Ear) -> Any:
    def run(*args: Any, **kwargs: Any) -> Any:
        with SoftmaxMode(ear, products=True):
            return forward(*args, **kwargs)

    return run


def _attention_leaves(network: nn.Module) -> list[nn.Module]:
    """Modules that are called attention and hold no other such module."""
    named = [m for m in network.modules() if "attention" in type(m).__name__.lower()]
    return [m for m in named if not any(child in named for child in m.modules() if child is not m)]


def _n_heads(network: nn.Module) -> int:
    config = network.config.get_text_config() if hasattr(network.config, "get_text_config") else network.config
    return int(getattr(config, "num_attention_heads", None) or 1)

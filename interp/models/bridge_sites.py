"""Where each ``Site`` sits in a TransformerBridge, and how to put an edit there so that it acts.

Most sites are a hook point of TransformerLens. Three are not, or not everywhere, and are reached another way:

* ``scores`` and ``pattern`` where the bridge delegates attention to transformers (OPT, GPT-J, BERT, ViT, T5, BART): its
  hooks fire after the fact and edits are discarded. The one four-dimensional softmax inside that attention is tapped.
* ``q`` and ``k`` after rotary embedding where ``hook_rot_q`` never fires (GPT-NeoX, Falcon, Phi-3, GPT-J, native models):
  the function that rotates is wrapped while the pass runs.
* ``resid_mid``: the hook sits on the input of the second norm, past the fork of the residual stream. An edit is written
  into what attention adds to the stream, so that both branches see it.

Hooks are plain torch hooks on TransformerLens' hook points: its own head split is wrong for latent attention, and a
user's hooks on the same points stay in force.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from interp.models.sites import Site
from interp.models.taps import Taps


@dataclass(frozen=True)
class Act:
    """Takes the tensor at a site in the site's layout and returns what the network goes on with."""

    taps: Taps
    site: Site

    def __call__(self, x: Tensor) -> Tensor:
        return self.taps(self.site, x)


View = Callable[[Tensor], Tensor]
Remove = Callable[[], None]
Install = Callable[[Act], Remove]
"""Puts an ``Act`` in place and returns what removes it."""

_SOFTMAX = (F.softmax, torch.softmax, Tensor.softmax)


def same(x: Tensor) -> Tensor:
    return x


def swap(x: Tensor) -> Tensor:
    """[batch, head, position, d] <-> [batch, position, head, d]."""
    return x.transpose(1, 2)


def at_hook(point: nn.Module, read: View = same, write: View = same) -> Install:
    """At a hook point whose tensor ``read`` brings into the site's layout and ``write`` brings back."""
    def install(act: Act) -> Remove:
        return point.register_forward_hook(lambda module, args, out: write(act(read(out)))).remove
    return install


def at_flat(point: nn.Module, n_heads: int, scale: float = 1.0) -> Install:
    """At a hook point whose tensor has its heads side by side, [batch, position, head · d]; the network multiplies it by
    ``scale`` afterwards, and the site shows the product."""
    if scale != 1.0:
        return at_hook(point, lambda x: x.unflatten(-1, (n_heads, -1)) * scale, lambda x: x.flatten(-2) / scale)
    return at_hook(point, lambda x: x.unflatten(-1, (n_heads, -1)), lambda x: x.flatten(-2))


def at_converted(point: Any) -> Install:
    """At a hook point whose own conversion restores [batch, position, d] (OPT flattens batch and position)."""
    def read(x: Tensor) -> Tensor:
        return point.hook_conversion.convert(x) if x.ndim == 2 else x

    def write(x: Tensor) -> Tensor:
        return point.hook_conversion.revert(x) if point.hook_conversion is not None else x
    return at_hook(point, read, write)


def replace_method(owner: Any, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Remove:
    """Put ``wrap(method)`` in the place of one object's method; returns what restores it. The bridge's own ``__setattr__``
    forwards to the wrapped network and is avoided."""
    before = owner.__dict__.get(name)
    object.__setattr__(owner, name, wrap(getattr(owner, name)))

    def restore() -> None:
        object.__delattr__(owner, name)
        if before is not None:
            object.__setattr__(owner, name, before)
    return restore


class _SoftmaxTap(TorchFunctionMode):
    def __init__(self, act: Act, before: bool):
        super().__init__()
        self.act, self.before, self.done = act, before, False

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        mine = func in _SOFTMAX and not self.done and not self.act.taps.paused and args[0].ndim == 4
        if not mine:
            return func(*args, **kwargs)
        self.done = True
        return func(self.act(args[0]), *args[1:], **kwargs) if self.before else self.act(func(*args, **kwargs))


def at_softmax(attention: nn.Module, what: str) -> Install:
    """Before (``scores``) or after (``pattern``) the four-dimensional softmax inside ``attention``'s forward pass."""
    def install(act: Act) -> Remove:
        def wrap(forward: Callable[..., Any]) -> Callable[..., Any]:
            def tapped(*args: Any, **kwargs: Any) -> Any:
                with _SoftmaxTap(act, before=what == "scores"):
                    return forward(*args, **kwargs)
            return tapped
        return replace_method(attention, "forward", wrap)
    return install


def at_returned(owner: Any, method: str, index: int) -> Install:
    """At element ``index`` of the tuple that a method returns, [batch, head, position, d] there."""
    def install(act: Act) -> Remove:
        def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
            def wrapped(*args: Any, **kwargs: Any) -> Any:
                out = list(function(*args, **kwargs))
                out[index] = swap(act(swap(out[index])))
                return tuple(out)
            return wrapped
        return replace_method(owner, method, wrap)
    return install


def at_argument(owner: Any, method: str, index: int) -> Install:
    """At positional argument ``index`` of a method, [batch, head, position, d] there."""
    def install(act: Act) -> Remove:
        def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
            def wrapped(*args: Any, **kwargs: Any) -> Any:
                new = [swap(act(swap(x))) if i == index else x for i, x in enumerate(args)]
                return function(*new, **kwargs)
            return wrapped
        return replace_method(owner, method, wrap)
    return install


def at_key(leaf: nn.Module, method: str, cache: str) -> Install:
    """At the key of an attention that passes it to ``method``; with a key-value cache (its argument ``cache``) on the key's
    way into it, so that the site holds this pass' positions and later passes see the edit."""
    def install(act: Act) -> Remove:
        def wrap(forward: Callable[..., Any]) -> Callable[..., Any]:
            def wrapped(*args: Any, **kwargs: Any) -> Any:
                store = kwargs.get(cache)
                remove = at_argument(leaf, method, 1)(act) if store is None else at_argument(store, "update", 0)(act)
                try:
                    return forward(*args, **kwargs)
                finally:
                    remove()
            return wrapped
        return replace_method(leaf, "forward", wrap)
    return install


def at_shared_method(user: nn.Module, owner: Any, method: str, index: int) -> Install:
    """Like ``at_returned`` for an ``owner`` that several modules share, only while ``user`` runs."""
    def install(act: Act) -> Remove:
        def wrap(forward: Callable[..., Any]) -> Callable[..., Any]:
            def wrapped(*args: Any, **kwargs: Any) -> Any:
                remove = at_returned(owner, method, index)(act)
                try:
                    return forward(*args, **kwargs)
                finally:
                    remove()
            return wrapped
        return replace_method(user, "forward", wrap)
    return install


def at_result(o: Any, weight: Callable[[], Tensor]) -> Install:
    """At z times W_O per head, [batch, position, head, d_model].

    The output is changed by exactly the sum of the changes (an unchanged result leaves it bit for bit), and gradients run
    through the result alone.
    """
    def install(act: Act) -> Remove:
        seen: list[Tensor] = []

        def remember(module: nn.Module, args: Any, z: Tensor) -> None:
            seen.append(z)

        def change(module: nn.Module, args: Any, out: Tensor) -> Tensor:
            W_O = weight()
            result = torch.einsum("bphd,hdm->bphm", seen.pop().unflatten(-1, W_O.shape[:2]), W_O)
            return out.detach() + (act(result) - result.detach()).sum(2)
        handles = [o.hook_in.register_forward_hook(remember), o.hook_out.register_forward_hook(change)]
        return lambda: [handle.remove() for handle in handles].clear()
    return install


def at_sum(stream: nn.Module, added: nn.Module) -> Install:
    """At ``stream + added``, where both are hook points and the network itself does the addition later.

    An edit is carried out by changing ``added``; an unchanged sum leaves it bit for bit up to one rounding.
    """
    def install(act: Act) -> Remove:
        seen: list[Tensor] = []

        def remember(module: nn.Module, args: Any, x: Tensor) -> None:
            seen.append(x)

        def change(module: nn.Module, args: Any, out: Tensor) -> Tensor:
            x = seen.pop()
            total = x + out
            rounding = (out - (total - x)).detach()
            return (act(total) - x) + rounding
        handles = [stream.register_forward_hook(remember), added.register_forward_hook(change)]
        return lambda: [handle.remove() for handle in handles].clear()
    return install

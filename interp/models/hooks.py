"""Module hooks that bring every site of one ``Place`` past the taps of a run, in the layout of ``interp.models.sites``."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from interp.models.locate import Place
from interp.models.projections import Projections, matrix
from interp.models.recording import first_tensor, with_first
from interp.models.sites import Site
from interp.models.taps import ACTIVE, Taps


def install(place: Place, taps: Taps) -> list[RemovableHandle]:
    """Hook the modules of one place for one run; only those that a requested site needs."""
    def at(what: str) -> Site:
        return Site(what, place.layer, place.attention)

    def wants(*whats: str) -> bool:
        return taps.wants(*map(at, whats))

    handles: list[RemovableHandle] = []

    def after(module: nn.Module, change: Callable[[Tensor, Tensor], Tensor]) -> None:
        def hook(_: nn.Module, args: Any, output: Any) -> Any:
            if ACTIVE.get() is not taps:
                return None
            before = first_tensor(output)
            new = change(args[0] if args else None, before)
            return None if new is before else with_first(output, new)

        handles.append(module.register_forward_hook(hook))

    if place.attention != "cross":
        handles += _block(place, taps, at)
    if wants("q_pre", "k_pre"):
        for module, change in _projections(place.projections, taps, at):
            after(module, change)
    if wants("z"):
        handles.append(place.out.register_forward_pre_hook(_entering_out(place, taps, at("z"))))
    if wants("result", "attn_out") or (place.attn_norm is None and wants("attn_write", "resid_mid")):
        after(place.out, _leaving_out(place, taps, at))
    if place.attn_norm is not None and wants("attn_write", "resid_mid"):
        after(place.attn_norm, lambda _, x: _mid(place, taps, at, taps(at("attn_write"), x)))
    if place.mid_norm is not None and wants("resid_mid"):
        after(place.mid_norm, lambda _, x: taps(at("resid_mid"), x))
    if place.mlp is not None and wants("mlp_out", "mlp_write"):
        def leaving_mlp(_: Tensor, x: Tensor) -> Tensor:
            shaped = x.reshape(taps.pre[id(place.block)].shape)
            new = taps(at("mlp_out"), shaped)
            new = taps(at("mlp_write"), new) if place.mlp_norm is None else new
            return x if new is shaped else new.reshape(x.shape)

        after(place.mlp, leaving_mlp)
    if place.mlp_norm is not None and wants("mlp_write"):
        after(place.mlp_norm, lambda _, x: taps(at("mlp_write"), x))
    return handles


def _block(place: Place, taps: Taps, at: Callable[[str], Site]) -> list[RemovableHandle]:
    """resid_pre and resid_post; the entering residual stream is remembered for resid_mid and for its shape."""
    def entering(_: nn.Module, args: Any, kwargs: Any) -> Any:
        if ACTIVE.get() is not taps:
            return None
        resid = args[0] if args else kwargs["hidden_states"]
        new = taps(at("resid_pre"), resid)
        taps.pre[id(place.block)] = new
        if new is resid:
            return None
        return ((new, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": new})

    def leaving(_: nn.Module, args: Any, output: Any) -> Any:
        if ACTIVE.get() is not taps:
            return None
        return with_first(output, taps(at("resid_post"), first_tensor(output)))

    handles = []
    if taps.wants(*map(at, ("resid_pre", "resid_mid", "mlp_out", "mlp_write"))):
        handles.append(place.block.register_forward_pre_hook(entering, with_kwargs=True))
    if taps.wants(at("resid_post")):
        handles.append(place.block.register_forward_hook(leaving))
    return handles


def _projections(found: Projections, taps: Taps, at: Callable[[str], Site]
                 ) -> list[tuple[nn.Module, Callable[[Tensor, Tensor], Tensor]]]:
    if found.layout in ("blocks", "grouped"):
        def fused(_: Tensor, x: Tensor) -> Tensor:
            q, k, v = found.split(x)
            return found.join(taps(at("q_pre"), q), taps(at("k_pre"), k), v)

        return [(found.modules[0], fused)]

    def separate(which: str) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda _, x: taps(at(which + "_pre"), found.per_head(which, x)).reshape(x.shape)

    return [(found.module(which), separate(which)) for which in "qk"
            if taps.wants(at(which + "_pre")) and found.module(which) is not None]


def _entering_out(place: Place, taps: Taps, site: Site) -> Callable[[nn.Module, Any], Any]:
    def hook(_: nn.Module, args: Any) -> Any:
        if ACTIVE.get() is not taps:
            return None
        z = args[0].unflatten(-1, (place.n_heads, place.d_head))
        return (taps(site, z).flatten(-2), *args[1:])

    return hook


def _leaving_out(place: Place, taps: Taps, at: Callable[[str], Site]) -> Callable[[Tensor, Tensor], Tensor]:
    def change(entering: Tensor, out: Tensor) -> Tensor:
        if taps.wants(at("result")):
            z = entering.unflatten(-1, (place.n_heads, place.d_head))
            result = torch.einsum("...hd,hdm->...hm", z, head_output(place))
            new = taps(at("result"), result)
            out = _carried(out + (new - result).sum(-2), new.sum(-2))
        out = taps(at("attn_out"), out)
        if place.attn_norm is None:
            out = _mid(place, taps, at, taps(at("attn_write"), out))
        return out

    return change


def _mid(place: Place, taps: Taps, at: Callable[[str], Site], write: Tensor) -> Tensor:
    """resid_mid = resid_pre + attn_write: its edit is carried by the write, as the residual stream itself has no module."""
    site = at("resid_mid")
    if place.mid_norm is not None or not taps.wants(site):
        return write
    pre = taps.pre[id(place.block)]
    mid = pre + write
    new = taps(site, mid)
    return _carried(write + (new - mid), new - pre)


def _carried(value: Tensor, path: Tensor) -> Tensor:
    """``value`` to the last bit, with the gradient of ``path`` (what the value is up to rounding)."""
    return value.detach() + (path - path.detach()) if path.requires_grad else value


def head_output(place: Place) -> Tensor:
    """W_O per head: [head, d_head, d_model]."""
    return matrix(place.out).unflatten(0, (place.n_heads, place.d_head))

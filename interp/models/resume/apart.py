"""Attention taken apart: projections, attention proper, output projection, so that each is computed only where it has to be.

Where an attention module projects, calls transformers' attention interface and projects back (``fits``), a pass need not run
it as a whole: queries, keys and values of unchanged positions are those of the untouched run; in the last layer only the
queries that are read are followed; and where the change is inside attention or in z, only its difference is projected back.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interp.models.attention_tap import LISTENER, CoreTap, interp_attention
from interp.models.backend import Edit
from interp.models.hooks import head_output
from interp.models.locate import Place
from interp.models.recording import close, first_tensor, with_first
from interp.models.resume.calls import Layout
from interp.models.resume.differences import near
from interp.models.resume.tail import replaced
from interp.models.resume.untouched import Heard, Recording
from interp.models.sites import Site
from interp.models.taps import ACTIVE, Taps

WITHIN = ("q", "k", "v", "scores", "pattern", "z")
"""Sites whose change reaches the residual stream through z alone."""


class _ProjectedError(Exception):
    """Carries queries, keys and values out of an attention module that need not go on."""


@dataclass(frozen=True)
class Apart:
    """The attention of one layer, taken apart.

    Attributes:
        place: the layer.
        outer: how its block is called; ``inner`` how its attention is.
        fused: whether torch's fused attention gives the same as the module's own.
    """

    place: Place
    outer: Layout
    inner: Layout
    fused: bool = False

    def through(self, layer: int, hidden: Tensor, rows: Tensor, start: int, recording: Recording, changed: int) -> Tensor:
        """The residual stream behind the block, [row, position from ``start`` on, d_model].

        ``hidden``: what enters it; only its first ``changed`` positions differ from the untouched run.
        """
        def attention(normed: Tensor) -> Tensor:
            new = self._projected(normed[:, :changed].contiguous(), rows, start, recording.inner[layer])
            q, k, v = self._joined(new, rows, start, recording.heard[self.place.core], hidden.shape[1])
            mask = _mask(recording.heard[self.place.core].mask, rows, start, hidden.shape[1])
            return self._out(q, k, v, mask, recording.heard[self.place.core].options)

        with near(recording.products, rows, start):
            return self._block(layer, hidden, recording, attention)

    def at(self, layer: int, hidden: Tensor, rows: Tensor, start: int, recording: Recording, changed: int,
           read: Tensor) -> Tensor:
        """``through``, at one position of each row alone (``read``, counted from ``start``): [row, 1, d_model]."""
        heard = recording.heard[self.place.core]

        def project(normed: Tensor) -> Tensor:
            raise _ProjectedError(*self._projected(normed[:, :changed].contiguous(), rows, start, recording.inner[layer]))

        try:
            with near(recording.products, rows, start):
                self._block(layer, hidden, recording, project)
            raise RuntimeError("the attention was not reached")
        except _ProjectedError as projected:
            q, k, v = self._joined(projected.args, rows, start, heard, hidden.shape[1])
        here = torch.arange(len(rows), device=rows.device)
        mask = _mask(heard.mask, rows, start, hidden.shape[1])
        if mask is not None:
            mask = mask.expand(len(rows), -1, -1, -1)[here, :, read][:, :, None]
        q = q[here, :, read][:, :, None]
        with near(recording.products, rows, start, read):
            return self._block(layer, hidden[here, read][:, None], recording,
                               lambda normed: self._out(q, k, v, mask, heard.options))

    def written(self, layer: int, change: Tensor, rows: Tensor, first: int, recording: Recording) -> Tensor:
        """The residual stream behind the block where only the attention's output is changed, by ``change`` [row, position
        from ``first`` on, d_model]: at these positions."""
        def clean(x: Tensor) -> Tensor:
            return x.narrow(1, first, change.shape[1]).index_select(0, rows)

        if self.place.parallel and self.place.attn_norm is None:
            return clean(recording.resid(layer + 1)).add_(change)
        out = clean(first_tensor(recording.returned[layer])).add_(change)
        with near(recording.products, rows, first):
            return self._block(layer, clean(recording.resid(layer)), recording, lambda normed: out)

    def heads(self, edits: Mapping[Site, Edit], rows: Tensor, start: int, recording: Recording) -> Tensor:
        """z [row, position from ``start`` on, head, d_head] of the untouched run under edits of sites in ``WITHIN``."""
        place, heard = self.place, recording.heard[self.place.core]
        count = heard.q.shape[2] - start

        def edited(what: str, x: Tensor) -> Tensor:
            edit = edits.get(Site(what, place.layer, place.attention))
            if edit is None:
                return x
            new = edit(x[:, :, x.shape[2] - count:].transpose(1, 2)).transpose(1, 2)
            return torch.cat([x[:, :, :x.shape[2] - count], new], 2)

        if {site.what for site in edits} == {"z"}:
            z = heard.z.narrow(1, start, count).index_select(0, rows)
        else:
            q = edited("q", heard.q.narrow(2, start, count).index_select(0, rows))
            k, v = (edited(what, x.index_select(0, rows)) for what, x in (("k", heard.k), ("v", heard.v)))
            z = self._attended(q, k, v, _mask(heard.mask, rows, start, count), heard.options, edits)
        edit = edits.get(Site("z", place.layer, place.attention))
        return z if edit is None else edit(z)

    def output(self, z: Tensor, heads: Any) -> Tensor:
        """What a part of z [..., head, d_head] of these heads adds to the attention's output, without the bias."""
        return z.flatten(-2) @ head_output(self.place)[heads].flatten(0, 1)

    def _projected(self, normed: Tensor, rows: Tensor, start: int, call: Any) -> tuple[Tensor, Tensor, Tensor]:
        """q, k, v of these positions."""
        def stop(module: nn.Module, q: Tensor, k: Tensor, v: Tensor, mask: Any, **options: Any) -> Any:
            raise _ProjectedError(q, k, v)

        made = self.inner.resumed(call, normed, None, rows, start)
        token = LISTENER.set(stop)
        try:
            type(self.place.core).forward(self.place.core, *made.args, **made.kwargs)
            raise RuntimeError("the attention did not come by its interface")
        except _ProjectedError as projected:
            return projected.args
        finally:
            LISTENER.reset(token)

    def _joined(self, new: Any, rows: Tensor, start: int, heard: Heard, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """q from ``start`` on, k and v of all positions: the new ones, and around them those of the untouched run."""
        q, k, v = new
        stop, end = start + q.shape[2], start + count
        q = q if stop == end else torch.cat([q, heard.q[:, :, stop:end].index_select(0, rows)], 2)

        def whole(x: Tensor, clean: Tensor) -> Tensor:
            parts = [clean[:, :, :start].index_select(0, rows)] if start else []
            return torch.cat([*parts, x, *([clean[:, :, stop:end].index_select(0, rows)] if stop < end else [])], 2)

        return (q, k, v) if not start and stop == end else (q, whole(k, heard.k), whole(v, heard.v))

    def _out(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, options: Mapping[str, Any]) -> Tensor:
        return self.place.out(self._attended(q, k, v, mask, options, {}).flatten(-2))

    def _attended(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, options: Mapping[str, Any],
                  edits: Mapping[Site, Edit]) -> Tensor:
        place = self.place
        edits = {site: edit for site, edit in edits.items() if site.what in ("scores", "pattern")}
        if self.fused and not edits:
            return fused_attention(q, k, v, mask, options)
        taps = Taps(edits, ())
        if edits:
            taps.cores[place.core] = CoreTap(taps, place.layer, place.attention, place.n_heads, place.n_kv_heads,
                                             place.learned_sink)
        token = ACTIVE.set(taps)
        try:
            return interp_attention(place.core, q, k, v, mask, **options)[0]
        finally:
            ACTIVE.reset(token)

    def _block(self, layer: int, hidden: Tensor, recording: Recording, attention: Callable[[Tensor], Tensor]) -> Tensor:
        """The block with another attention in it: what it reads -> what it returns."""
        def stand_in(*args: Any, **kwargs: Any) -> Any:
            normed = (args, kwargs)
            for key in self.inner.hidden:
                normed = normed[key]
            return with_first(recording.returned[layer], attention(normed))

        call = recording.calls[layer].map(lambda path, leaf: hidden if path == self.outer.hidden else leaf)
        with ExitStack() as stack:
            stack.enter_context(replaced(self.place.core, stand_in))
            return first_tensor(self.place.block(*call.args, **call.kwargs))


def fused_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, options: Mapping[str, Any]) -> Tensor:
    """torch's fused attention, in the layout of the attention interface: [row, position, head, d_head]."""
    if k.shape[1] != q.shape[1]:
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    return F.scaled_dot_product_attention(q, k, v, mask, scale=options.get("scaling")).transpose(1, 2)


def fits(place: Place, layer: int, recording: Recording) -> bool:
    """Whether the attention is projections, one call of the attention interface, and an output projection."""
    heard = recording.heard.get(place.core)
    if place.inline or heard is None or place.out is None or place.out not in set(place.core.modules()):
        return False
    returned = first_tensor(recording.returned[layer])
    z = heard.z
    return (z.dim() == 4 and z.shape[2:] == (place.n_heads, place.d_head) and heard.k.shape[1] == place.n_kv_heads
            and (heard.mask is None or heard.mask.dim() == 4) and close(place.out(z.flatten(-2)), returned))


def fuses(recording: Recording, place: Place) -> bool:
    """Whether fused attention gives what the module's own gives, on a recorded run."""
    heard = recording.heard[place.core]
    got = fused_attention(heard.q, heard.k, heard.v, heard.mask, heard.options)
    size = float(heard.z.abs().max())
    return float((got - heard.z).abs().max()) <= 16 * torch.finfo(heard.z.dtype).eps * max(size, 1e-6)


def _mask(mask: Tensor | None, rows: Tensor, start: int, count: int) -> Tensor | None:
    if mask is None:
        return None
    mask = mask[:, :, start:start + count]
    return mask if mask.shape[0] == 1 else mask.index_select(0, rows)

"""``Resumable``: a network whose passes can start at any layer and position, on any rows; built by looking, then checked."""

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from interp.core.errors import InterpError
from interp.models.backend import Edit
from interp.models.inputs import sample_inputs
from interp.models.locate import Place
from interp.models.recording import first_tensor
from interp.models.resume.apart import WITHIN, Apart, fits, fuses
from interp.models.resume.calls import Layout, layout_of
from interp.models.resume.differences import near
from interp.models.resume.tail import dummy_inputs, few_columns, tail
from interp.models.resume.untouched import Prefix, Recording, record
from interp.models.sites import Site
from interp.models.taps import Taps
from interp.models.verify import logits_of, tolerance

_ROWS, _MORE, _LENGTH, _PAST = 2, 3, 7, 3


@dataclass(frozen=True)
class Resumable:
    """A network behind a backend, ready to be resumed.

    Attributes:
        backend: the transformers backend.
        places: its layers, in order.
        layouts: what each block's call counts.
        causal: whether positions before a change stay as they are; otherwise only layers can be left out.
        shares: whether what is the same for all prompts can be handed to the blocks once.
        columns: whether single columns of the unembedding can be asked for.
        apart: the attentions, taken apart; empty where they have to be run as a whole.
    """

    backend: Any
    places: tuple[Place, ...]
    layouts: tuple[Layout, ...]
    causal: bool
    shares: bool
    columns: bool = False
    apart: tuple[Apart, ...] = ()

    @property
    def network(self) -> nn.Module:
        """The network itself."""
        return self.backend.network

    @property
    def n_layers(self) -> int:
        """Number of blocks."""
        return len(self.places)

    @property
    def arithmetic(self) -> tuple[float, float]:
        """Floating-point operations on weights per token in a block, on average: in its attention, and in the rest."""
        config = self.network.config.get_text_config()
        chosen = getattr(config, "num_experts_per_tok", None)
        experts = getattr(config, "num_local_experts", None) or getattr(config, "n_routed_experts", None)
        share = chosen / experts if chosen and experts else 1.0

        def of(module: nn.Module) -> float:
            return sum(2.0 * x.numel() * (share if x.dim() == 3 else 1.0) for x in module.parameters() if x.dim() > 1)

        attention = sum(of(place.core) for place in self.places) / self.n_layers
        return attention, sum(of(place.block) for place in self.places) / self.n_layers - attention

    def reading(self, columns: Tensor | None) -> AbstractContextManager[None]:
        """Runs inside make these columns of the vocabulary alone; all, for None and where single ones cannot be had."""
        wanted = columns if self.columns and columns is not None else None
        return few_columns(self.network, None if wanted is None else wanted.to(next(self.network.parameters()).device))

    def record(self, inputs: Mapping[str, Tensor], capture: Collection[Site] = (),
               columns: Tensor | None = None) -> Recording:
        """The untouched run on some prompts; its output has the logits of some ``columns``, or of all.

        Raises:
            InterpError: it calls the blocks in another way than the runs by which the network was looked at.
        """
        with self.reading(columns):
            found = record(self.backend, list(self.places), inputs, capture, cached=self.causal)
        if not all(layout.fits(call) for layout, call in zip(self.layouts, found.calls, strict=True)):
            raise InterpError(f"resume {self.backend.architecture}", "its blocks are called in another way on these prompts",
                              "run full passes")
        calls, inner, heard = found.calls, (), {}
        if self.apart:
            inner = tuple(one.inner.light(call) for one, call in zip(self.apart, found.inner, strict=True))
            heard = found.heard
        if self.shares:
            calls = tuple(layout.shared(call) for layout, call in zip(self.layouts, calls, strict=True))
            inner = tuple(one.inner.shared(call) for one, call in zip(self.apart, inner, strict=bool(self.apart)))
            heard = {module: replace(one, mask=_once(one.mask)) for module, one in heard.items()}
        return replace(found, calls=calls, inner=inner, heard=heard)

    def block(self, layer: int, hidden: Tensor, rows: Tensor, start: int, recording: Recording,
              edits: Mapping[Site, Edit] | None = None) -> Tensor:
        """The residual stream behind a block, [row, position, d_model].

        Args:
            hidden: the residual stream that enters it at the positions from ``start`` on.
            rows: which prompts of the recording the rows belong to.
            edits: of sites of this layer; their tensors hold these rows and positions (for scores and patterns: queries).

        Raises:
            InterpError: an edited site that this block does not come by; an edit that changes a shape.
        """
        cache = Prefix(recording.stored, rows, start) if self.causal else None
        call = self.layouts[layer].resumed(recording.calls[layer], hidden, cache, rows, start)
        block = self.places[layer].block
        if not edits:
            with near(recording.products, rows, start):
                return first_tensor(block(*call.args, **call.kwargs))
        taps = Taps(edits, ())
        with self.backend.tapped(taps, cache), near(recording.products, rows, start):
            output = block(*call.args, **call.kwargs)
        if missed := taps.unreached():
            raise InterpError(f"edit the {missed[0]}", "this forward pass does not come by it",
                              "choose a site that this model uses")
        return first_tensor(output)

    def through(self, layer: int, hidden: Tensor, rows: Tensor, start: int, recording: Recording, changed: int,
                read: Tensor | None = None) -> Tensor:
        """``block`` without edits, where only the first ``changed`` positions of ``hidden`` differ from the untouched run.

        ``read``: one position of each row (counted from ``start``), which alone is wanted: [row, 1, d_model].
        """
        if self.apart and read is not None:
            return self.apart[layer].at(layer, hidden, rows, start, recording, changed, read)
        if self.apart:
            return self.apart[layer].through(layer, hidden, rows, start, recording, changed)
        after = self.block(layer, hidden, rows, start, recording)
        return after if read is None else after[torch.arange(len(rows), device=rows.device), read][:, None]

    def within(self, sites: Collection[Site]) -> bool:
        """Whether edits of these sites, in an otherwise untouched layer, can be followed through z alone."""
        return bool(self.apart) and all(site.what in WITHIN for site in sites)

    def logits(self, hidden: Tensor, inputs: Mapping[str, Tensor], recording: Recording,
               columns: Tensor | None = None) -> Tensor:
        """What the network makes of its last residual stream [row, position, d_model]: logits of some columns or of all."""
        given = dummy_inputs(inputs, *hidden.shape[:2])
        return tail(self.network, [place.block for place in self.places], recording.outputs[-1], given, hidden, columns)


def resumable(backend: Any) -> Resumable | str:
    """The backend's network as something to resume, or a sentence that says why it cannot be."""
    if not hasattr(backend, "network") or not hasattr(backend, "places"):
        return "the backend runs its network as a whole"
    if len(backend.stacks) > 1:
        return "an encoder-decoder's two stacks are run as a whole"
    places = tuple(backend.places)
    if len({place.block for place in places}) < len(places):
        return "a block holds several attentions"
    causal = backend.stacks[0].causal
    layouts = _layouts(backend, places, causal)
    if isinstance(layouts, str):
        return layouts
    reason = ""
    for shares in (True, False):
        outer = tuple(replace(layout, once=shares) for layout in layouts.outer)
        checked = _checked(Resumable(backend, places, outer, causal, shares))
        if isinstance(checked, str):
            reason = checked
            continue
        faster = _checked(replace(checked, apart=layouts.apart)) if layouts.apart else checked
        return checked if isinstance(faster, str) else faster
    return reason


@dataclass(frozen=True)
class _Layouts:
    """How the blocks are called, and their attentions taken apart, where all of them can be."""

    outer: tuple[Layout, ...]
    apart: tuple[Apart, ...]


def _layouts(backend: Any, places: tuple[Place, ...], causal: bool) -> _Layouts | str:
    """The layout of every block's call, from runs of different size and one whose first tokens lie in the cache."""
    few, many = (_padded(sample_inputs(backend.network, n, _LENGTH)) for n in (_ROWS, _MORE))
    whole, more = (record(backend, list(places), x, cached=causal) for x in (few, many))
    resumed = None
    if causal:
        before = record(backend, list(places), _tokens(few, 0, _PAST), cached=True)
        resumed = record(backend, list(places), _tokens(few, _PAST, _LENGTH), cached=True, cache=before.cache)
    sizes = (_ROWS, _MORE, _LENGTH, _LENGTH - _PAST)
    outer, apart = [], []
    for i, place in enumerate(places):
        layout = layout_of(whole.calls[i], more.calls[i], resumed and resumed.calls[i], sizes, whole.cache,
                           resumed and resumed.cache)
        if isinstance(layout, str):
            return layout
        if causal and layout.cache is None:
            return "its blocks are not handed the key-value cache"
        outer.append(layout)
        inner = layout_of(whole.inner[i], more.inner[i], resumed and resumed.inner[i], sizes, whole.cache,
                          resumed and resumed.cache)
        if causal and not isinstance(inner, str) and fits(place, i, whole):
            apart.append(Apart(place, layout, inner, fuses(whole, place) and fuses(more, place)))
    return _Layouts(tuple(outer), tuple(apart) if len(apart) == len(places) else ())


def _padded(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inputs with a shorter first example, padded on the right."""
    if "attention_mask" not in inputs:
        return dict(inputs)
    mask = inputs["attention_mask"].clone()
    mask[0, -1] = 0
    return {**inputs, "attention_mask": mask}


def _tokens(inputs: Mapping[str, Tensor], start: int, stop: int) -> dict[str, Tensor]:
    """The tokens from ``start`` to ``stop``, with the mask of all up to there."""
    return {"input_ids": inputs["input_ids"][:, start:stop], "attention_mask": inputs["attention_mask"][:, :stop]}


def _checked(found: Resumable) -> Resumable | str:
    """The same, with what was found out about its columns; or a sentence that says how it fails."""
    try:
        return _compared(found)
    except (InterpError, TypeError, ValueError, RuntimeError, AttributeError, IndexError, KeyError) as error:
        return f"resuming it fails ({type(error).__name__}: {(str(error).splitlines() or [''])[0]})"


def _compared(found: Resumable) -> Resumable | str:
    """A resumed pass against the full one: random changes in the middle layer, rows packed out of order, with padding."""
    layer, rows = found.n_layers // 2, torch.tensor([1, 0, 1])
    columns = True
    for inputs in (sample_inputs(found.network, _ROWS, _LENGTH), _padded(sample_inputs(found.network, _ROWS, _LENGTH))):
        recording = found.record(inputs)
        start = _PAST if found.causal else 0
        clean = recording.resid(layer)
        rows = rows.to(clean.device)
        hidden = clean[rows, start:]
        noise = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(0)).to(hidden)
        changed = hidden + noise * hidden.float().square().mean().sqrt().to(hidden)
        expected = _full(found, layer, start, changed, rows, inputs)
        with torch.no_grad():
            for i in range(layer, found.n_layers):
                changed = found.through(i, changed, rows, start, recording, changed.shape[1])
            got = found.logits(changed, inputs, recording)
            few = torch.tensor([1, 0], device=clean.device)
            columns = columns and _columns_work(found, changed, inputs, recording, got, few)
        expected = expected[:, start:] if expected.dim() == 3 else expected
        error = float((got - expected).abs().max() / expected.abs().max().clamp(min=1e-6))
        moved = float((_untouched(recording, rows, start) - expected).abs().max() / expected.abs().max().clamp(min=1e-6))
        if not error <= tolerance(torch.bfloat16 if recording.products else clean.dtype):
            return f"a resumed pass differs from a full one by {error:.2g} of its size"
        if not moved > tolerance(clean.dtype):
            return "a change of its residual stream does not reach its output"
    return replace(found, columns=columns)


def _full(found: Resumable, layer: int, start: int, changed: Tensor, rows: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
    """The output of whole passes in which the residual stream that enters ``layer`` is changed from ``start`` on."""
    def edit(x: Tensor) -> Tensor:
        return torch.cat([x[:, :start], changed], 1)

    many = {name: x.index_select(0, rows) for name, x in inputs.items()}
    with torch.no_grad():
        return logits_of(found.backend.run(many, {Site("resid_pre", layer, found.places[0].attention): edit}))


def _once(mask: Tensor | None) -> Tensor | None:
    """A mask that is the same for all prompts, once."""
    return mask[:1] if mask is not None and bool((mask == mask[:1]).all()) else mask


def _untouched(recording: Recording, rows: Tensor, start: int) -> Tensor:
    output = recording.output.index_select(0, rows)
    return output[:, start:] if output.dim() == 3 else output


def _columns_work(found: Resumable, hidden: Tensor, inputs: Mapping[str, Tensor], recording: Recording, logits: Tensor,
                  few: Tensor) -> bool:
    """Whether the network can be asked for single columns of its unembedding."""
    head = found.network.get_output_embeddings()
    if type(head) is not nn.Linear or head.weight.shape[0] != logits.shape[-1]:
        return False
    try:
        got = found.logits(hidden, inputs, recording, few)
    except RuntimeError:        # something behind the unembedding counts on the whole vocabulary
        return False
    expected = logits.index_select(-1, few)
    if got.shape != expected.shape:
        return False
    return float((got - expected).abs().max()) <= tolerance(hidden.dtype) * float(logits.abs().max())



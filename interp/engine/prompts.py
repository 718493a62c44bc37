"""``Prompts``: what one forward pass is run on (inputs, real tokens, named spans), and which tokens a position spec selects.

A position spec is None (all real tokens), a span name, ``"end"``, a token index, or a tuple of these. Token indices count
real tokens from the prompt's first (negative: from its last), so the side of the padding never matters.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.core.registry import unknown
from interp.models.sites import RESIDUAL, SQUARE, Site

MEMORY_BUDGET = 2**30
"""Bytes that the activations of one pass may take before the batch is cut (estimated, not measured)."""


@dataclass(frozen=True)
class Prompts:
    """The prompts of one forward pass.

    Attributes:
        inputs: the network's keyword arguments, each with the prompts as its first axis, on the model's device.
        mask: True for real tokens of the main sequence (the decoder's, if there is one) [n, position].
        spans: token start and end (exclusive) of each named span, in padded coordinates [n, 2].
        answer: position whose logits are read [n].
        end: first position that ``"end"`` selects [n]: the last real token (while generating, the last token of the prompt,
            so that ``"end"`` selects it and all generated tokens).
        rows: which prompts of the whole batch these are [n].
        name: ``clean``, ``corrupt`` or ``tokens``.
        aligned: whether the tokens of the two sides of the batch correspond place by place.
        encoder_mask: True for real tokens of an encoder-decoder's encoder [n, position].
        width: to how many tokens the prompts of the whole batch are padded, where these have been narrowed.
    """

    inputs: Mapping[str, Tensor]
    mask: Tensor
    spans: Mapping[str, Tensor]
    answer: Tensor
    end: Tensor
    rows: Tensor
    name: str = "tokens"
    aligned: bool = True
    encoder_mask: Tensor | None = None
    width: int | None = None

    @property
    def n(self) -> int:
        return self.mask.shape[0]

    def take(self, rows: Tensor) -> "Prompts":
        """The prompts at these indices (of this object)."""
        def pick(tensor: Tensor) -> Tensor:
            return tensor[rows.to(tensor.device)]

        return replace(self, inputs={name: pick(t) for name, t in self.inputs.items()}, mask=pick(self.mask),
                       spans={name: pick(t) for name, t in self.spans.items()}, answer=pick(self.answer), end=pick(self.end),
                       rows=pick(self.rows),
                       encoder_mask=None if self.encoder_mask is None else pick(self.encoder_mask))

    def narrowed(self) -> "Prompts":
        """The same prompts without the columns that are padding in all of them; images and encoder-decoders as they are."""
        filled = self.mask.any(dim=0).nonzero().flatten()
        start, stop = int(filled[0]), int(filled[-1]) + 1
        whole = self.mask.shape[1]
        if "input_ids" not in self.inputs or self.encoder_mask is not None or (start, stop) == (0, whole):
            return self
        inputs = {name: x[:, start:stop] if x.dim() == 2 and x.shape[1] == whole else x for name, x in self.inputs.items()}
        return replace(self, inputs=inputs, mask=self.mask[:, start:stop], answer=self.answer - start, end=self.end - start,
                       spans={name: span - start for name, span in self.spans.items()}, width=self.width or whole)

    def real(self, attention: str, of_keys: bool, length: int) -> Tensor:
        """Which entries along a position axis of that attention are real tokens: bool [n, length]."""
        if attention == "vision":
            return torch.ones(self.n, length, dtype=torch.bool, device=self.mask.device)
        encoder_side = self.encoder_mask is not None and (attention == "encoder" or (attention == "cross" and of_keys))
        return self.encoder_mask if encoder_side else self.mask


def of_inputs(inputs: Mapping[str, Tensor], spans: Mapping[str, Tensor] | None = None, name: str = "tokens",
              aligned: bool = True) -> Prompts:
    """Prompts from a network's inputs; without masks every token is real. The last real token is read."""
    first = next(iter(inputs.values()))
    encoder = inputs.get("decoder_input_ids") is not None
    ids = inputs["decoder_input_ids"] if encoder else inputs.get("input_ids")
    given = inputs.get("decoder_attention_mask") if encoder else inputs.get("attention_mask")
    shape = (*first.shape[:1], 1) if ids is None else ids.shape
    mask = torch.ones(shape, dtype=torch.bool, device=first.device) if given is None else given.bool()
    if not bool(mask.any(dim=1).all()):
        empty = int((~mask.any(dim=1)).nonzero()[0])
        raise InterpError("run the model", f"prompt {empty} has no real token", "give every prompt at least one token")
    encoder_mask = None
    if encoder:
        of_encoder = inputs.get("attention_mask")
        encoder_mask = (torch.ones_like(inputs["input_ids"], dtype=torch.bool) if of_encoder is None else of_encoder.bool())
    end = last(mask)
    rows = torch.arange(len(mask), device=mask.device)
    return Prompts(dict(inputs), mask, dict(spans or {}), end, end, rows, name, aligned, encoder_mask)


def last(mask: Tensor) -> Tensor:
    """Position of the last real token of each prompt [n]."""
    return mask.shape[1] - 1 - mask.flip(1).int().argmax(dim=1)


def sides(model: Any, batch: Any) -> dict[str, Prompts]:
    """The runs that ``batch`` offers: ``clean`` and ``corrupt`` of a Batch; ``clean`` of Texts; ``tokens`` for Tokens or a
    mapping of inputs.

    In an aligned batch a named span is the same token range on both sides (that of the clean prompt), as an exchange needs
    it; in one that is not aligned each side has its own.
    """
    def inputs_of(tokens: Any) -> dict[str, Tensor]:
        given = tokens if isinstance(tokens, Mapping) else tokens.inputs
        return {name: tensor.to(model.device) for name, tensor in given.items()}

    if not hasattr(batch, "clean"):
        return {"tokens": of_inputs(inputs_of(batch))}
    result = {}
    given = [("clean", batch.clean, batch.spans)]
    if getattr(batch, "paired", True):
        given.append(("corrupt", batch.corrupt, batch.spans if batch.aligned else batch.corrupt_spans))
    for name, tokens, spans in given:
        spans = {span: where.to(model.device) for span, where in spans.items() if span != "end"}
        result[name] = of_inputs(inputs_of(tokens), spans, name, batch.aligned)
    return result


def side(runs: Mapping[str, Prompts], on: str) -> Prompts:
    """The prompts of the side ``on``; the only side there is, for plain tokens."""
    if "tokens" in runs:
        return runs["tokens"]
    if on == "corrupt" and "clean" in runs and on not in runs:
        raise InterpError("run the corrupted prompts", "these texts have no counterfactual",
                          "use a task or pairs of prompts, or run on='clean'")
    if on not in runs:
        raise unknown("side of a batch", str(on), list(runs))
    return runs[on]


def selected(prompts: Prompts, positions: str | tuple[str | int, ...] | None, attention: str = "self", *,
             of_keys: bool = False, length: int | None = None) -> Tensor:
    """The real tokens that a position spec selects: bool [n, position].

    Raises InterpError for a span that the batch does not name, and for an index beyond the length to which prompts are
    padded. A prompt that is too short for an index has nothing selected.
    """
    real = prompts.real(attention, of_keys, prompts.mask.shape[1] if length is None else length)
    if positions is None:
        return real
    order = real.cumsum(dim=1) - 1
    places = torch.arange(real.shape[1], device=real.device)
    end = (prompts.end if real is prompts.mask else last(real))[:, None]
    count = order.gather(1, end) + 1
    chosen = torch.zeros_like(real)
    for position in (positions,) if isinstance(positions, (str, int)) else positions:
        if position == "end":
            chosen |= places >= end
        elif isinstance(position, str):
            span = _span(prompts, position, real)
            chosen |= (places >= span[:, :1]) & (places < span[:, 1:])
        else:
            limit = max(real.shape[1], prompts.width or 0)
            if not -limit <= position < limit:      # of the whole batch: these may be its shorter prompts
                raise InterpError(f"select token {position}", f"no prompt has more than {limit} tokens",
                                  "count from 0 over real tokens, or negative from the last")
            chosen |= order == (position if position >= 0 else count + position)
    return chosen & real


def _span(prompts: Prompts, name: str, real: Tensor) -> Tensor:
    if real is not prompts.mask:
        raise InterpError(f"select the span {name!r}", "named spans belong to the main sequence, not to this attention's",
                          "use None, 'end' or token indices")
    if name not in prompts.spans:
        raise unknown("position", name, [*prompts.spans, "end"])
    return prompts.spans[name]


def places(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Where the k-th selected token of each prompt stands, and whether there is a k-th one: two tensors [n, most]."""
    count = chosen.sum(dim=1)
    most = max(1, int(count.max()))
    order = chosen.int().argsort(dim=1, descending=True, stable=True)[:, :most]
    return order, torch.arange(most, device=chosen.device) < count[:, None]


def chunks(model: Any, prompts: Prompts, batch_size: int | None, *, graph: bool = False,
           held: Collection[Site] = ()) -> Iterator[Tensor]:
    """Row indices of consecutive chunks of ``batch_size`` prompts (by default as many as the memory budget holds).

    ``graph``: a backward pass follows, so that the activations of all layers are kept at once. ``held``: sites whose
    activations are kept while a chunk is worked on.
    """
    size = _default_size(model, prompts, graph, held) if batch_size is None else batch_size
    if size < 1:
        raise InterpError(f"run in batches of {size}", "a batch has at least one prompt", "use a batch size of 1 or more")
    yield from torch.arange(prompts.n).split(size)


def _default_size(model: Any, prompts: Prompts, graph: bool, held: Collection[Site]) -> int:
    length = max(tensor.shape[1] if tensor.dim() == 2 else prompts.mask.shape[1] for tensor in prompts.inputs.values())
    stack = model.stacks[0]
    layer = length * (24 * stack.d_model + 4 * stack.n_heads * length)
    numbers = layer * (stack.n_layers if graph else 1) + 2 * length * (model.vocab_size or 0)
    return max(1, MEMORY_BUDGET // (4 * (numbers + sum(_numbers(model, site, length) for site in held))))


def _numbers(model: Any, site: Site, length: int) -> int:
    """How many numbers one prompt has at a site."""
    stack = next((stack for stack in model.stacks if stack.attention == site.attention), model.stacks[0])
    if site.what in SQUARE:
        return stack.n_heads * length**2
    if site.what in RESIDUAL:
        return stack.d_model * length
    size = stack.d_model if site.what == "result" else max(stack.d_head, stack.d_qk)
    return stack.n_heads * size * length

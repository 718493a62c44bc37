"""Attention read in blocks of query rows: statistics of whole patterns over long texts, with no whole pattern in memory.

A causal network is run block by block of tokens on its own key-value cache, so that each layer only ever makes the pattern
rows of one block, [prompt, head, row, key]; ``Fold`` says what is kept of them. These rows are the network's own softmax
(windows, soft caps, position biases, grouped heads and learned sinks included), so a statistic equals the one over the whole
pattern up to rounding. Encoders, image networks, encoder-decoders and networks without a cache attend in both directions or
in one pass: there a block is all rows of one layer, and only one layer's pattern is held at a time.

Prompts are run without padding, those of equal length together: a key's index is its place in the prompt, whatever the
padding of the batch.

    sums = stream(model, texts, {"received": Fold("pattern", column_sums)})["received"]      # per prompt [layer, head, key]
"""

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.engine.prompts import Prompts, side, sides
from interp.models.backend import Stack
from interp.models.sites import SQUARE, Site

BLOCK_MEMORY = 2**27
"""Bytes that the scores and patterns of one block of one layer may take together (three tensors of one shape, estimated)."""
FEWEST_ROWS = 16
MOST_ROWS = 1024


@dataclass(frozen=True)
class Block:
    """Consecutive positions of prompts of one length, at one site.

    Attributes:
        tensor: [prompt, head, row, key] for scores and pattern (keys from the prompt's first token to the last that any of
            these rows may see), else the site's layout, [prompt, row, ...].
        first: position of the first row, counted from the prompt's first token.
        length: positions along the row axis that the whole prompt has; keys: along the key axis.
        site: where it was read.
        stack: the attention stack it belongs to.
        prompts: which prompts of the batch these are [prompt].
        row_ids, key_ids: token ids of these whole prompts along the row axis [prompt, length] and the key axis
            [prompt, keys], without padding; None where they are no tokens (image patches).
    """

    tensor: Tensor
    first: int
    length: int
    keys: int
    site: Site
    stack: Stack
    prompts: Tensor
    row_ids: Tensor | None = None
    key_ids: Tensor | None = None

    @property
    def rows(self) -> Tensor:
        """Positions of the rows [row]."""
        count = self.tensor.shape[self.site.position_axis]
        return torch.arange(self.first, self.first + count, device=self.tensor.device)


@dataclass(frozen=True)
class Fold:
    """What is kept of the blocks of one site in each layer: ``fold(kept, block) -> kept``, ``kept`` None before the first.

    ``finish`` makes a tensor with the prompts first of what was kept at last; None where it is one already.
    ``last``: ``resid_post`` of the last layer is folded too, as the ``resid_pre`` of one layer more.
    """

    what: str
    fold: Callable[[Any, Block], Any]
    finish: Callable[[Any], Tensor] | None = None
    last: bool = False


def stream(model: Any, batch: Any, folds: Mapping[str, Fold], *, attention: str | None = None, on: str = "clean",
           until: int | None = None, block: int | None = None, batch_size: int | None = None) -> dict[str, list[Tensor]]:
    """What the folds keep of every layer: name -> one tensor [layer, ...] per prompt, in the order of the batch, on the CPU.

    Args:
        batch: a ``Batch`` (its side ``on``), ``Texts``, ``Tokens`` or a mapping of inputs.
        attention: ``self``, ``encoder``, ``cross`` or ``vision``; None: the model's main attention.
        until: only the first so many tokens of each prompt are run (None: all).
        block: rows of a block (None: as many as ``BLOCK_MEMORY`` holds, 16 to 1024). batch_size: prompts that are run
            together (None: as many as ``BLOCK_MEMORY`` holds 16 rows of). Neither changes a number beyond rounding.

    Memory: scores and pattern of one block in one layer (about 3 · prompts · heads · rows · keys numbers), the key-value
    cache of the prompts that are run together, and what the folds keep.

    Raises:
        InterpError: a site the model lacks; a block, batch or text of less than one.
    """
    stack = model.stack(attention)
    for what, number in (("rows", block), ("prompts", batch_size), ("tokens", until)):
        if number is not None and number < 1:
            raise InterpError(f"stream attention by {number} {what}", "there is nothing to read", "use 1 or more")
    prompts = side(sides(model, batch), on)
    found: dict[str, list[Any]] = {name: [None] * prompts.n for name in folds}
    for members, inputs in _alike(prompts, until):
        length = _length(model, inputs, stack)
        row = 12 * stack.n_heads * length       # bytes of one row of one prompt, three times
        for some in torch.arange(len(members)).split(batch_size or max(1, BLOCK_MEMORY // (FEWEST_ROWS * row))):
            part = {name: x[some.to(x.device)] for name, x in inputs.items()}
            fitting = min(MOST_ROWS, max(FEWEST_ROWS, BLOCK_MEMORY // (len(some) * row)))
            for name, layers in _run(model, part, folds, stack, block or fitting, members[some]).items():
                for at, index in enumerate(members[some].tolist()):
                    found[name][index] = torch.stack([layer[at].cpu() for layer in layers])
    return found


def per_row(what: str, function: Callable[[Block], Tensor], axis: int = 2) -> Fold:
    """The fold that keeps ``function(block)`` of every row, the rows on ``axis``: [prompt, head, row, ...] by default."""
    def fold(kept: list[Tensor] | None, block: Block) -> list[Tensor]:
        return [*(kept or ()), alone(function(block), block)]

    return Fold(what, fold, lambda kept: torch.cat(kept, dim=axis))


def alone(part: Tensor, block: Block) -> Tensor:
    """``part`` in memory of its own: a view of the block would keep all of it alive."""
    shared = part.untyped_storage().data_ptr() == block.tensor.untyped_storage().data_ptr()
    return part.clone() if shared else part


def column_sums(kept: Tensor | None, block: Block) -> Tensor:
    """What each key receives from all rows together: [prompt, head, key], float32."""
    return into(kept, block.tensor.float().sum(dim=2), block)


def into(kept: Tensor | None, part: Tensor, block: Block) -> Tensor:
    """``kept`` [prompt, head, key], over all keys of the prompts, with ``part`` added at the keys of this block."""
    if kept is None:
        kept = part.new_zeros(*part.shape[:2], block.keys)
    kept[..., : part.shape[2]] += part
    return kept


def blockwise(model: Any, stack: Stack, inputs: Collection[str]) -> bool:
    """Whether a network can be run block by block of tokens: causal, on plain tokens, with a key-value cache."""
    return stack.causal and set(inputs) <= {"input_ids", "attention_mask"} and _takes(model, "past_key_values")


def _run(model: Any, inputs: Mapping[str, Tensor], folds: Mapping[str, Fold], stack: Stack, rows: int,
         members: Tensor) -> dict[str, list[Tensor]]:
    """What was kept of each layer, for the prompts ``members``, of one length."""
    wanted: dict[Site, list[tuple[str, int]]] = {}
    for name, fold in folds.items():
        for layer in range(stack.n_layers + fold.last):
            site = Site("resid_post", layer - 1, stack.attention) if layer == stack.n_layers else \
                Site(fold.what, layer, stack.attention)
            wanted.setdefault(site, []).append((name, layer))
    square = [site for site in wanted if site.what in SQUARE]
    cached, cache, first = blockwise(model, stack, inputs), None, 0
    kept: dict[tuple[str, int], Any] = {}
    extra = {"logits_to_keep": 1} if _takes(model, "logits_to_keep") else {}
    ids = _ids(inputs, stack.attention)

    def take(site: Site, tensor: Tensor) -> Tensor:
        along = [tensor.shape[site.position_axis], tensor.shape[-1] if site in square else tensor.shape[1]]
        length, keys = [inputs["input_ids"].shape[1]] * 2 if cached else along
        for at in wanted[site]:
            read = Block(tensor.detach(), first, length, keys, site, stack, members, *ids)
            kept[at] = folds[at[0]].fold(kept.get(at), read)
        return tensor

    edits = {site: partial(take, site) for site in square}
    for given in _blocks(inputs, rows) if cached else [inputs]:
        with torch.no_grad():
            passed = model.run({**given, **extra}, edits, wanted.keys() - edits.keys(), cache=cache, use_cache=cached)
        cache = passed.cache if cached else None
        for site, tensor in passed.captured.items():
            take(site, tensor)
        first += rows
    return {name: [kept[name, layer] if fold.finish is None else fold.finish(kept[name, layer])
                   for layer in range(stack.n_layers + fold.last)] for name, fold in folds.items()}


def _blocks(inputs: Mapping[str, Tensor], rows: int) -> Iterator[dict[str, Tensor]]:
    """The tokens of a block, with the mask of all tokens up to its end."""
    ids = inputs["input_ids"]
    for first in range(0, ids.shape[1], rows):
        yield {"input_ids": ids[:, first : first + rows], "attention_mask": torch.ones_like(ids[:, : first + rows])}


def _ids(inputs: Mapping[str, Tensor], attention: str) -> tuple[Tensor | None, Tensor | None]:
    """Token ids along the rows and along the keys of an attention."""
    first = inputs.get("input_ids") if attention != "vision" else None
    decoder = inputs.get("decoder_input_ids", first)
    return (first if attention == "encoder" else decoder), (first if attention in ("encoder", "cross") else decoder)


def _takes(model: Any, parameter: str) -> bool:
    network = getattr(model.backend, "network", model.weights)
    return parameter in inspect.signature(network.forward).parameters


def _length(model: Any, inputs: Mapping[str, Tensor], stack: Stack) -> int:
    """Keys that a query may see at most; of an image, found by running one."""
    if "input_ids" in inputs:
        return max(x.shape[1] for name, x in inputs.items() if name.endswith("input_ids"))
    site = Site("k", 0, stack.attention)
    with torch.no_grad():
        return model.run({name: x[:1] for name, x in inputs.items()}, None, [site]).captured[site].shape[1]


def _alike(prompts: Prompts, until: int | None) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Prompts of equal length together, without padding: their indices and inputs."""
    masks = [mask for mask in (prompts.mask, prompts.encoder_mask) if mask is not None]
    lengths = torch.stack([mask.sum(dim=1) for mask in masks], dim=1).cpu()
    for length in lengths.unique(dim=0):
        members = (lengths == length).all(dim=1).nonzero()[:, 0]
        chosen, inputs = prompts.take(members), {}
        for name, tensor in chosen.inputs.items():
            mask = chosen.mask if chosen.encoder_mask is None or name.startswith("decoder") else chosen.encoder_mask
            if tensor.shape == mask.shape:
                tensor = tensor[mask].reshape(len(members), -1)
                tensor = tensor if chosen.encoder_mask is not None else tensor[:, :until]
            inputs[name] = tensor
        yield members, inputs

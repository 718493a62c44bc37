"""The logit lens: a residual stream, or a part of it, read as logits of the vocabulary, and the ranks of tokens in them.

``layer_lens`` follows tokens through the layers (which rank they have after each, where they come closest to being said);
the measures ``logit_lens``, ``early_excitation`` and ``anti_overconfidence`` ask the same of heads.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp.core.errors import InterpError
from interp.engine.prompts import chunks, side, sides
from interp.measures.logit_decomposition import FinalRun, decoder
from interp.models.sites import Site

Array = NDArray[np.float64]
Token = Literal["answer", "wrong", "predicted"] | int
"""Which token is looked up: the prompt's answers, its wrong answers (of several the best placed), what the model itself says
there, or one token id for all prompts."""
GATHERED = 2**26
"""Bytes of the unembedding that are gathered at a time."""


@dataclass(frozen=True)
class LayerLens:
    """Tokens through the layers, at the answer position. Index 0: what enters the first block, l + 1: what leaves block l.

    * ``ranks``: [layer + 1, prompt], how many tokens of the vocabulary stand above the looked-up one (0: it is on top;
      tokens of equal logit count half), R of Li et al. 2025. ``logits``: its logit, in the last row the model's own (before
      a final soft cap). ``logprobs``: its log probability in nats.
    * ``vocabulary``: how many tokens there are.
    """

    ranks: Array
    logits: Array
    logprobs: Array
    vocabulary: int

    def peak(self) -> NDArray[np.int64]:
        """After how many blocks the token stands highest (the first such place), [prompt]."""
        return self.ranks.argmin(0)

    def early(self) -> NDArray[np.bool_]:
        """Early excitation: the token stood higher before the last block than after it, [prompt]."""
        return self.ranks[:-1].min(0) < self.ranks[-1]

    def hidden(self, share: float = 5 / 32) -> NDArray[np.bool_]:
        """A hidden token: not said, and yet among the upper ``share`` of the vocabulary at the end, [prompt]. The default is
        the published example (rank about 5,000 of 32,000)."""
        return (self.ranks[-1] > 0) & (self.ranks[-1] <= share * self.vocabulary)


def layer_lens(model: Any, batch: Any, *, token: Token = "answer", on: str = "clean", batch_size: int | None = None
               ) -> LayerLens:
    """The looked-up token's rank, logit and log probability after each block: final norm and unembedding put on the stream.

    Raises:
        InterpError: the model is no decoder-only language model; the batch has no such tokens.
    """
    streams = [Site("resid_pre", 0), *(Site("resid_post", layer) for layer in range(model.n_layers))]
    pieces = []
    for run, part in lens_runs(model, batch, streams, on=on, batch_size=batch_size):
        tokens, there = looked_up(run, part, token)
        pieces.append(place(stream_logits(model, torch.stack([run.at(site) for site in streams])), tokens, there))
    return LayerLens(*(np.concatenate(kind, axis=-1) for kind in zip(*pieces, strict=True)), model.vocab_size)


def lens_runs(model: Any, batch: Any, extra: Sequence[Site] = (), *, on: str = "clean", batch_size: int | None = None
              ) -> Iterator[tuple[FinalRun, Any]]:
    """The run ``on`` at the answer positions by chunks of prompts, with what heads need and ``extra``; and these prompts."""
    stack = decoder(model)
    last = Site("resid_post", stack.n_layers - 1)
    wanted = list(dict.fromkeys([*extra, last, *(Site(what, layer) for layer in range(stack.n_layers)
                                                 for what in ("z", "attn_out"))]))
    prompts = side(sides(model, batch), on)
    for rows in chunks(model, prompts, batch_size, held=wanted):
        here = prompts.take(rows)
        with torch.no_grad():
            captured = model.run(here.inputs, capture=wanted).captured
        n = torch.arange(len(rows), device=here.answer.device)
        at = {site: tensor[n, here.answer].detach() for site, tensor in captured.items()}
        none = torch.zeros(len(rows), 0, dtype=torch.int64)
        yield FinalRun(model, stack.attention, at, at[last], none, none.double()), batch.subset(rows.tolist())


@torch.no_grad()
def part_logits(model: Any, parts: Tensor, resid: Tensor) -> Tensor:
    """Direct logits of ``parts`` [..., n, d_model] of the stream ``resid`` [n, d_model] on the whole vocabulary, the final
    norm frozen at ``resid``: [..., n, vocab]. Nothing that no part carries is in them."""
    return torch.cat([model.backend.logit_parts(parts, resid, columns) for columns in _columns(model, resid)], dim=-1)


@torch.no_grad()
def stream_logits(model: Any, stream: Tensor) -> Tensor:
    """Logits [..., vocab] of residual streams [..., d_model] as if they were the last: final norm, unembedding, biases."""
    flat = stream.flatten(0, -2)
    logits = torch.cat([model.backend.logit_parts(flat, flat, columns) + model.backend.logit_bias(columns)
                        for columns in _columns(model, flat)], dim=-1)
    return logits.unflatten(0, stream.shape[:-1])


def looked_up(run: FinalRun, part: Any, token: Token) -> tuple[Tensor, Tensor]:
    """The tokens to look up, [n, k], and which of them are real."""
    n = len(run.resid)
    if token == "predicted":
        found = stream_logits(run.model, run.resid).argmax(-1)[:, None]
        return found, torch.ones_like(found, dtype=torch.bool)
    if isinstance(token, int):
        if not 0 <= token < run.model.vocab_size:
            raise InterpError(f"look up token {token}", f"{run.model.name} has tokens 0 to {run.model.vocab_size - 1}",
                              "choose one of these")
        found = torch.full((n, 1), token, device=run.resid.device)
        return found, torch.ones_like(found, dtype=torch.bool)
    tokens, there = (part.answers, part.answer_mask) if token == "answer" else (part.wrong, part.wrong_mask)
    if not bool(there.any(1).all()):
        raise InterpError(f"look up the token {token!r}", f"a prompt of {part.task} has none", "look up another token")
    return tokens.to(run.resid.device), there.to(run.resid.device)


def place(logits: Tensor, tokens: Tensor, there: Tensor) -> tuple[Array, Array, Array]:
    """Rank, logit and log probability [..., n] of the best placed of ``tokens`` [n, k] in ``logits`` [..., n, vocab].

    Logits that differ by no more than rounding count as equal."""
    index = tokens.expand(*logits.shape[:-2], *tokens.shape)
    own = logits.gather(-1, index).masked_fill(~there, -torch.inf).amax(-1, keepdim=True)
    close = 8 * torch.finfo(logits.dtype).eps * logits.abs().amax(-1, keepdim=True)
    above, level = (logits > own + close).sum(-1), ((logits - own).abs() <= close).sum(-1)
    ranks = above + (level - 1) / 2
    logprobs = own.squeeze(-1).double() - logits.double().logsumexp(-1)
    return tuple(x.double().cpu().numpy() for x in (ranks, own.squeeze(-1), logprobs))


def _columns(model: Any, resid: Tensor) -> Iterator[Tensor]:
    """The vocabulary in pieces [1, c]: one row of columns for all prompts, which broadcasts where ``logit_parts`` takes one
    per prompt, so that the unembedding is gathered once."""
    size = max(1, GATHERED // (4 * resid.shape[-1]))
    for piece in torch.arange(model.vocab_size, device=resid.device).split(size):
        yield piece[None]

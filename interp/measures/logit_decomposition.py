"""The answer's logit difference as a sum: embedding, heads, attention biases, MLPs, and the constant of the unembedding.

At the answer position the final residual stream is the sum of what every part wrote; with the final norm held at its value
in this run, the logits are linear in it, so each part has a direct contribution and they add up exactly. A final soft cap
is not linear: contributions are to the logits before it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.engine.prompts import chunks, side, sides
from interp.models.sites import Site
from interp.tasks.metrics import logit_diff_weights


@dataclass(frozen=True)
class LogitDecomposition:
    """Direct contributions to the answer's logit difference, per prompt.

    * ``heads``: [layer, head, prompt]; ``attention_bias``, ``mlps``: [layer, prompt] (the bias of the attention output;
      the MLP, its biases included); ``embedding``: [prompt] (what enters the first block, positions included);
      ``constant``: [prompt] (bias of the final norm and of the unembedding).
    * ``total``: [prompt], the logit difference of the run, before a final soft cap, computed from the final residual
      stream as a whole. ``parts()`` sums to it.
    """

    heads: np.ndarray
    attention_bias: np.ndarray
    mlps: np.ndarray
    embedding: np.ndarray
    constant: np.ndarray
    total: np.ndarray

    def parts(self) -> dict[str, np.ndarray]:
        """Every part by name (``L0H1``, ``L0 attention bias``, ``L0 MLP``, ``embedding``, ``constant``) -> [prompt]."""
        named = {"embedding": self.embedding}
        for layer, row in enumerate(self.heads):
            named |= {f"L{layer}H{head}": value for head, value in enumerate(row)}
            named |= {f"L{layer} attention bias": self.attention_bias[layer], f"L{layer} MLP": self.mlps[layer]}
        return named | {"constant": self.constant}

    def rest(self) -> np.ndarray:
        """``total`` minus the sum of all parts, [prompt]: zero up to rounding."""
        return self.total - np.sum(list(self.parts().values()), axis=0)


def logit_decomposition(
    model: Any, batch: Any, *, on: str = "clean", best: bool = False, batch_size: int | None = None
) -> LogitDecomposition:
    """Split the answer's logit difference into what each part writes directly.

    Args:
        on: ``clean`` or ``corrupt``, the run that is split (the answers stay those of the clean prompts).
        best: the best answer minus the best wrong one in this run, instead of the means over answers and wrong answers.
        batch_size: prompts per pass; changes no number.

    Raises:
        InterpError: the model's residual stream is not a sum up to the logits (norms on the stream itself, as in BERT and
            BART), or it has no unembedding.
    """
    stack = decoder(model)
    layers = range(stack.n_layers)
    beside = [beside_attention(model, layer) for layer in layers]
    extra = list(dict.fromkeys([Site("resid_pre", 0), *(site for terms in beside for site, _ in terms)]))
    pieces = []
    for run in final_runs(model, batch, on, best, batch_size, extra):
        heads = run.heads()
        biases = [model.backend.b_O(layer) for layer in layers]
        zero = torch.zeros_like(run.resid)
        bias = torch.stack(
            [
                run.contribution(zero if b is None else run.write(layer, b.to(zero).expand_as(zero)[None])[0])
                for layer, b in enumerate(biases)
            ]
        )
        mlps = torch.stack([run.contribution(sum(sign * run.at(site) for site, sign in terms)) for terms in beside])
        pieces.append((heads, bias, mlps, run.contribution(run.at(Site("resid_pre", 0))), run.constant(), run.total()))
    return LogitDecomposition(*(torch.cat(piece, dim=-1).numpy() for piece in zip(*pieces, strict=True)))


@dataclass(frozen=True)
class FinalRun:
    """One chunk of prompts at their answer positions: what is needed to read direct contributions off a run.

    ``captured``: site -> [n, ...] at the answer position; ``resid``: final residual stream [n, d_model]; ``columns``,
    ``weights``: [n, c], the logit difference as a weighted sum of logits.
    """

    model: Any
    attention: str
    captured: dict[Site, Tensor]
    resid: Tensor
    columns: Tensor
    weights: Tensor

    def at(self, site: Site) -> Tensor:
        return self.captured[site]

    def contribution(self, parts: Tensor) -> Tensor:
        """Direct contribution of ``parts`` [..., n, d_model] of the final stream: [..., n], float64 on the CPU."""
        logits = self.model.backend.logit_parts(parts, self.resid, self.columns.to(parts.device))
        return (logits.detach().cpu().double() * self.weights).sum(-1)

    def constant(self) -> Tensor:
        bias = self.model.backend.logit_bias(self.columns.to(self.resid.device))
        return (bias.detach().cpu().double() * self.weights).sum(-1)

    def total(self) -> Tensor:
        return self.contribution(self.resid) + self.constant()

    def write(self, layer: int, parts: Tensor) -> Tensor:
        """What ``parts`` [k, n, d_model] of the attention output add to the stream (a post-norm frozen)."""
        total = self.at(Site("attn_out", layer, self.attention))
        return self.model.backend.write_parts("attn_out", layer, parts[:, :, None], total[:, None])[:, :, 0]

    def writes(self, layer: int) -> Tensor:
        """What each head of a layer adds to the stream [head, n, d_model]."""
        z = self.at(Site("z", layer, self.attention))
        return self.write(layer, torch.einsum("nhd,hdm->hnm", z, self.model.backend.W_O(layer, self.attention).to(z)))

    def heads(self) -> Tensor:
        """[layer, head, n]"""
        return torch.stack([self.contribution(self.writes(layer)) for layer in range(self.model.n_layers)])


def final_runs(
    model: Any, batch: Any, on: str, best: bool, batch_size: int | None, extra: Sequence[Site] = ()
) -> Iterator[FinalRun]:
    """The run ``on`` at the answer positions, by chunks: what direct contributions of heads need, and ``extra``."""
    stack = decoder(model)
    if not bool(batch.wrong_mask.any(1).all()):
        raise InterpError(
            "split the answer's lead over wrong answers",
            f"a prompt of {batch.task} has no wrong answer",
            "give wrong answers, or use a measure that works with the metric alone",
        )
    last = Site("resid_post", stack.n_layers - 1, stack.attention)
    wanted = [
        *extra,
        last,
        *(Site(what, layer, stack.attention) for layer in range(stack.n_layers) for what in ("z", "attn_out")),
    ]
    prompts = side(sides(model, batch), on)
    for rows in chunks(model, prompts, batch_size):
        part, here = batch.subset(rows.tolist()), prompts.take(rows)
        with torch.no_grad():
            captured = model.run(here.inputs, capture=wanted).captured
        n = torch.arange(len(rows), device=here.answer.device)
        at = {site: tensor[n, here.answer] for site, tensor in captured.items()}
        columns, weights = logit_diff_weights(part)
        run = FinalRun(model, stack.attention, at, at[last], columns.cpu(), weights.cpu().double())
        yield _leaders(run, part) if best else run


def beside_attention(model: Any, layer: int) -> list[tuple[Site, int]]:
    """What a block adds besides attention, as a signed sum of sites: the MLP's output or, where the block has none to
    read, all that attention does not account for (zero without an MLP)."""
    if Site("mlp_write", layer) in model.backend.sites():
        return [(Site("mlp_write", layer), 1)]
    return [(Site("resid_post", layer), 1), (Site("resid_pre", layer), -1), (Site("attn_write", layer), -1)]


def decoder(model: Any) -> Any:
    """The stack whose residual stream ends in the logits; refused by name where there is none."""
    stack = model.stacks[0]
    if stack.attention != "self" or len(model.stacks) > 1:
        raise InterpError(
            "split the logits into direct contributions",
            f"{model.name} is no decoder-only language model",
            "use activation_patching or ablation, which need no such split",
        )
    return stack


def _leaders(run: FinalRun, batch: Any) -> FinalRun:
    """The same run with weights on the best answer and the best wrong answer alone."""
    whole = run.model.backend.logit_parts(run.resid, run.resid, run.columns.to(run.resid.device))
    logits = (whole + run.model.backend.logit_bias(run.columns.to(run.resid.device))).detach().cpu().double()
    right = batch.answers.shape[1]
    weights = torch.zeros_like(run.weights)
    for part, sign in ((slice(0, right), 1.0), (slice(right, None), -1.0)):
        there = run.weights[:, part] != 0
        first = logits[:, part].masked_fill(~there, -torch.inf).argmax(1)
        weights[:, part] = torch.nn.functional.one_hot(first, there.shape[1]) * sign * there
    return FinalRun(run.model, run.attention, run.captured, run.resid, run.columns, weights)

"""MLP outputs as sums over what feeds them: heads, earlier MLPs, the embedding, an intercept, and a rest.

At the answer position the residual stream that an MLP reads is the sum of what earlier parts wrote. How much of the MLP's
own output answers each of these parts is asked in two ways:

* ``regression`` (Lv et al. 2024): over all prompts and dimensions at once, output ≈ Σ_parts w_part · part + b, with one
  number w per part and one vector b for the task, by least squares. w > 0: the MLP amplifies what the part wrote; w < 0: it
  erases it (−1: entirely); b is what the MLP adds whatever the prompt says (their task-aware intercept).
* ``gradient``: on each prompt, the derivative of the output's push on the answer along what the part wrote, the MLP's norm
  held at this run (a norm makes the stream's size irrelevant, so that a derivative through it would sum to nothing). Exact
  for neurons that are linear and on; biases and curvature are in the rest (about minus the whole for a gated MLP, which
  is a product of two readings).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp.core.errors import InterpError
from interp.engine.prompts import chunks, side, sides
from interp.measures.logit_decomposition import FinalRun, beside_attention, decoder, final_runs
from interp.models.frozen_norm import frozen_norm
from interp.models.readers import Reader, reading
from interp.models.sites import Site

Array = NDArray[np.float64]
WEAK = 1e-10
"""Directions of the normal equations below this share of the largest are left out of the solution."""


@dataclass(frozen=True)
class MLPDecomposition:
    """Contributions to the answer's logit difference through each MLP, per prompt; 0 where a part comes after the MLP.

    * ``heads``: [mlp, layer, head, prompt]; ``mlps``: [mlp, layer, prompt]; ``embedding``: [mlp, prompt]; ``intercept``:
      [mlp, prompt] (the fitted b; of the method gradient, nothing: 0).
    * ``rest``: [mlp, prompt], what the decomposition does not account for; ``total``: [mlp, prompt], the direct contribution
      of the MLP's whole output, to which all of the above sum.
    * ``coefficients``: [mlp, layer, head, prompt], the regression's w by jackknife: pseudo-values whose mean over prompts is
      w without the first-order bias and whose spread gives its interval. None of the method gradient.
    * ``explained``: [mlp], the share of the variance over prompts of the MLP's output that parts and intercept account for
      (regression); None of the method gradient.
    """

    heads: Array
    mlps: Array
    embedding: Array
    intercept: Array
    rest: Array
    total: Array
    coefficients: Array | None = None
    explained: Array | None = None

    def sum(self) -> Array:
        """Everything together, [mlp, prompt]: equal to ``total`` up to rounding."""
        return self.heads.sum((1, 2)) + self.mlps.sum(1) + self.embedding + self.intercept + self.rest


def mlp_decomposition(model: Any, batch: Any, method: str = "regression", *, batch_size: int | None = None
                      ) -> MLPDecomposition:
    """Decompose every MLP's output at the answer position of the clean prompts by what feeds it.

    Raises:
        InterpError: the model is no decoder-only language model, or its logits are no sum; a prompt has no wrong answer; for
            a regression, fewer than three prompts or fewer equations than parts; for the gradient, a backend that does not
            show where an MLP reads.
    """
    if method not in ("regression", "gradient"):
        raise InterpError(f"decompose MLPs by {method!r}", "there is no such method", "use 'regression' or 'gradient'")
    decoder(model)
    return _by_regression(model, batch, batch_size) if method == "regression" else _by_gradient(model, batch, batch_size)


def _by_regression(model: Any, batch: Any, batch_size: int | None) -> MLPDecomposition:
    if batch.n < 3:
        raise InterpError("fit what MLPs make of their inputs", f"{batch.n} prompts tell neither an intercept nor its error",
                          "use at least three prompts, or method='gradient'")
    layers, heads = model.n_layers, model.n_heads
    runs = list(final_runs(model, batch, "clean", False, batch_size, _sites(model)))
    streams = [torch.cat([_fed(run)[i] for run in runs], dim=-2).double().cpu() for i in range(3)]    # [..., n, d]
    parts = torch.cat([streams[0].flatten(0, 1), streams[1], streams[2][None]])        # heads, MLPs, embedding: [k, n, d]
    pushes = torch.cat([torch.cat([run.contribution(x) for x in _fed(run, flat=True)]) for run in runs], dim=-1).numpy()
    weights, pseudo = np.zeros((2, layers, *pushes.shape))
    intercept, total = np.zeros((2, layers, batch.n))
    explained = np.zeros(layers)
    for mlp in range(layers):
        used = [*range((mlp + 1) * heads), *range(layers * heads, layers * heads + mlp), len(parts) - 1]
        if len(used) > batch.n * parts.shape[2] - parts.shape[2]:
            raise InterpError(f"fit what the MLP of layer {mlp} makes of its inputs",
                              f"{len(used)} parts feed it and {batch.n} prompts give too few equations", "use more prompts")
        w, each, explained[mlp] = _fit(parts[used], streams[1][mlp])
        weights[mlp, used], pseudo[mlp, used] = w[:, None], each
        b = (streams[1][mlp] - torch.einsum("k,knd->nd", torch.from_numpy(w), parts[used])).mean(0)
        intercept[mlp] = np.concatenate([run.contribution(b.to(run.resid).expand_as(run.resid)).numpy() for run in runs])
        total[mlp] = pushes[layers * heads + mlp]
    shared = weights * pushes
    rest = total - shared.sum(1) - intercept
    of_heads, of_mlps = shared[:, : layers * heads], shared[:, layers * heads : -1]
    return MLPDecomposition(of_heads.reshape(layers, layers, heads, -1), of_mlps, shared[:, -1], intercept, rest, total,
                            pseudo[:, : layers * heads].reshape(layers, layers, heads, -1), explained)


def _fit(parts: Tensor, output: Tensor) -> tuple[Array, Array, float]:
    """One weight per part [k, n, d] for ``output`` [n, d], an intercept vector beside them; the jackknife's pseudo-values
    [k, n]; and the share of variance explained. The intercept is taken out by centring over prompts."""
    n = parts.shape[1]
    all_of = torch.cat([parts, output[None]])
    grams = torch.einsum("knd,jnd->nkj", all_of, all_of)
    mean = all_of.mean(1)
    whole = grams.sum(0) - n * mean @ mean.T
    weights = _solve(whole)
    each = torch.empty(len(parts), n, dtype=parts.dtype)
    for i in range(n):
        less = (n * mean - all_of[:, i]) / (n - 1)
        each[:, i] = n * weights - (n - 1) * _solve(grams.sum(0) - grams[i] - (n - 1) * less @ less.T)
    left = whole[-1, -1] - 2 * weights @ whole[:-1, -1] + weights @ whole[:-1, :-1] @ weights
    explained = float(1 - left / whole[-1, -1]) if whole[-1, -1] > 0 else float("nan")
    return weights.numpy(), each.numpy(), explained


def _solve(gram: Tensor) -> Tensor:
    """Least squares from normal equations whose last row and column are the output's; parts that never vary get 0."""
    return torch.linalg.pinv(gram[:-1, :-1], rtol=WEAK, hermitian=True) @ gram[:-1, -1]


def _by_gradient(model: Any, batch: Any, batch_size: int | None) -> MLPDecomposition:
    layers = torch.arange(model.n_layers)
    readers = model.readers.mlp
    prompts = side(sides(model, batch), "clean")
    pieces = []
    for rows in chunks(model, prompts, batch_size, graph=True):
        here = prompts.take(rows)
        (run,) = final_runs(model, batch.subset(rows.tolist()), "clean", False, len(rows), _sites(model))
        fed, read = _fed(run), _slopes(run, here, readers)
        through = [[_along(read.get(mlp), x) for x in fed] for mlp in layers.tolist()]
        heads, mlps, embedding = (torch.stack(kind) for kind in zip(*through, strict=True))
        early = layers[None] <= layers[:, None]
        totals = torch.stack([run.contribution(_output(run, mlp)) for mlp in layers.tolist()])
        pieces.append([heads * early[:, :, None, None], mlps * early.tril(-1)[:, :, None], embedding, totals])
    of_heads, of_mlps, embedding, total = (torch.cat(kind, dim=-1).numpy() for kind in zip(*pieces, strict=True))
    rest = total - of_heads.sum((1, 2)) - of_mlps.sum(1) - embedding
    return MLPDecomposition(of_heads, of_mlps, embedding, np.zeros_like(total), rest, total)


@dataclass(frozen=True)
class _Read:
    """What an MLP reads at the answer position: the stream [n, d], the norm it is read through, and the gradient [n, d] of
    the MLP's push on the answer by the normalised stream."""

    stream: Tensor
    norm: Any
    slope: Tensor


def _along(read: _Read | None, parts: Tensor) -> Tensor:
    """First-order push of ``parts`` [..., n, d] of the stream that an MLP reads, its norm frozen: [..., n]."""
    if read is None:
        return torch.zeros(parts.shape[:-1], dtype=torch.float64)
    normed = parts if read.norm is None else frozen_norm(read.norm, read.stream, parts)
    return (normed.double() * read.slope).sum(-1).cpu()


def _slopes(run: FinalRun, here: Any, readers: Sequence[Reader | None]) -> dict[int, _Read]:
    """Layer -> what its MLP reads, each MLP cut off from the others."""
    model, seen = run.model, {}

    def cut(reader: Reader, stream: Tensor, normed: Tensor) -> Tensor:
        seen[reader.layer] = stream.detach(), normed.detach().requires_grad_()
        return seen[reader.layer][1]

    there = [reader for reader in readers if reader is not None]
    outputs = {reader.layer: beside_attention(model, reader.layer) for reader in there}
    n, found = torch.arange(len(here.answer), device=here.answer.device), {}
    with torch.enable_grad(), reading(there, cut):
        captured = model.run(here.inputs, capture=[site for terms in outputs.values() for site, _ in terms]).captured
        for reader in there:
            stream, normed = seen[reader.layer]
            written = sum(sign * captured[site][n, here.answer] for site, sign in outputs[reader.layer])
            logits = model.backend.logit_parts(written, run.resid, run.columns.to(written.device))
            (slope,) = torch.autograd.grad((logits * run.weights.to(logits)).sum(), normed, retain_graph=True)
            found[reader.layer] = _Read(stream[n, here.answer], reader.norm, slope[n, here.answer].double())
    return found


def _sites(model: Any) -> list[Site]:
    beside = [site for layer in range(model.n_layers) for site, _ in beside_attention(model, layer)]
    return list(dict.fromkeys([Site("resid_pre", 0), *beside]))


def _output(run: FinalRun, layer: int) -> Tensor:
    return sum(sign * run.at(site) for site, sign in beside_attention(run.model, layer))


def _fed(run: FinalRun, flat: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """What heads [layer, head, n, d] and MLPs [layer, n, d] write, and the embedding [n, d]; ``flat``: each [k, n, d]."""
    layers = range(run.model.n_layers)
    heads = torch.stack([run.writes(layer) for layer in layers])
    mlps = torch.stack([_output(run, layer) for layer in layers])
    embedding = run.at(Site("resid_pre", 0))
    return (heads.flatten(0, 1), mlps, embedding[None]) if flat else (heads, mlps, embedding)

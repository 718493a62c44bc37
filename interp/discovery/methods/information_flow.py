"""Information-flow routes: what every residual stream is made of, followed from the answer down to the tokens."""

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.discovery.method import method
from interp.discovery.node_scores import NodeScores
from interp.engine.edge_attribution import provenance
from interp.engine.edge_runs import Graph, graph_of
from interp.engine.edges import SENDERS
from interp.engine.forward import answer_logits, measured
from interp.engine.prompts import chunks, side, sides
from interp.models.sites import Site
from interp.tasks.metrics import Metric, metric_of

MEMORY = 2**26
"""Numbers that the parts of one head and prompt may have at once; longer prompts are worked on query by query."""


@method(
    level="nodes",
    sense="larger = matters more: the share of the answer's final residual stream that routes through the node carry",
    formula="contribution(part, whole) = max(‖whole‖₁ − ‖whole − part‖₁, 0), normalised over the parts; flow 1 at the "
            "answer, divided at every stream from the top down; a node has the flow that it hands on",
    source="Ferrando & Voita 2024 (llm-transparency-tool)",
    does_not_show=(
        "Causes: nothing is patched and no other prompt is compared. What works against the sum counts 0, and so does what "
        "is orthogonal to it in the sense of the norm. The metric does not enter, only the token where the answer is read."
    ),
    cost="one forward pass, and d_model · tokens² per head and layer",
)
def information_flow(model: Any, batch: Any, *, norm: Literal[1, 2] = 1, threshold: float = 0.0,
                     on: Literal["clean", "corrupt"] = "clean", metric: str | Metric | None = None,
                     batch_size: int | None = None) -> NodeScores:
    """The flow through every head and MLP, [node, prompt], from 0 to 1; the embedding gets what arrives: all of it.

    Parts of a stream behind attention: the stream before it, and for each head and token what the head takes from there
    (pattern · value · W_O; biases of the output are no part). Behind an MLP: the stream before it and what the MLP writes;
    the flow through an MLP goes on to the stream that it reads. In a parallel block all are parts of one sum.
    ``notes['tokens']`` [prompt, position] is the flow that arrives at each token; each row adds up to 1.

    Args:
        norm: of the distance; the publication's is 1.
        threshold: contributions up to it are left out, and the rest made to add up to 1 again; 0: every route counts.
        metric: for the baselines alone.

    Raises:
        InterpError: heads that are mixed by a post-norm before they enter the stream; a threshold outside of [0, 1).
    """
    graph, by = graph_of(model), batch.metric if metric is None else metric_of(metric)
    if not 0 <= threshold < 1:
        raise InterpError(f"leave out contributions up to {threshold}", "they are shares of 1", "use 0 or more, below 1")
    if any(one is not None for one in graph.readers.attn_norms):
        raise InterpError(f"follow the flow through {model.backend.architecture}",
                          "a norm mixes what the heads write before it enters the stream", "use a method that patches")
    values = np.zeros((len(graph.edges.senders), batch.n))
    baseline, tokens = np.empty(batch.n), None
    for rows in chunks(model, side(sides(model, batch), on), batch_size, held=_sites(graph)):
        part = batch.subset(rows.tolist())
        prompts = side(sides(model, part), on)
        with torch.no_grad():
            run = model.run(prompts.inputs, {}, _sites(graph))
            baseline[rows.numpy()] = measured(answer_logits(run, prompts), part, by)
            nodes, arrived = _followed(graph, run.captured, prompts.answer, norm, threshold)
        values[:, rows.numpy()] = nodes.cpu().numpy()
        tokens = np.zeros((batch.n, side(sides(model, batch), on).mask.shape[1])) if tokens is None else tokens
        tokens[rows.numpy(), _columns(batch, tokens.shape[1], arrived.shape[1])] = arrived.cpu().numpy()
    made = provenance(model, batch, "information_flow", {}, by, None, {on: baseline})
    return NodeScores(graph.edges, values, made, {on: baseline}, {"tokens": tokens})


def contributions(parts: Tensor, whole: Tensor, norm: int = 1) -> Tensor:
    """Shares of ``parts`` [part, …, d] in ``whole`` […, d]: [part, …], adding up to 1; all 0 where none points its way."""
    near = proximity(parts, whole, norm)
    return near / near.sum(0).clamp(min=torch.finfo(near.dtype).tiny)


def proximity(parts: Tensor, whole: Tensor, norm: int = 1) -> Tensor:
    """max(‖whole‖ − ‖whole − part‖, 0), for parts [part, …, d] of a whole […, d]."""
    return (whole.norm(p=norm, dim=-1) - (whole - parts).norm(p=norm, dim=-1)).clamp(min=0)


def renormalised(shares: Tensor, threshold: float) -> Tensor:
    """Shares [part, …] without those up to the threshold, adding up to 1 again."""
    kept = shares * (shares > threshold)
    return kept / kept.sum(0).clamp(min=torch.finfo(kept.dtype).tiny)


def _sites(graph: Graph) -> list[Site]:
    kinds = ("resid_pre", "resid_post", "pattern", "v")
    found = [graph.site(kind, layer) for layer in range(graph.edges.n_layers) for kind in kinds]
    return found + [graph.site("mlp_write", layer) for layer, mlp in enumerate(graph.readers.mlp) if mlp is not None]


def _columns(batch: Any, width: int, own: int) -> slice:
    """Where the tokens of some prompts stand among those of the whole batch."""
    return slice(0, own) if batch.clean.padding_side == "right" else slice(width - own, width)


def _followed(graph: Graph, kept: dict[Site, Tensor], answer: Tensor, norm: int, threshold: float) -> tuple[Tensor, Tensor]:
    """The flow of each node [sender, n], and what arrives at each token [n, position]."""
    last = kept[graph.last].double()
    n, length, _ = last.shape
    flow = torch.zeros(n, length, dtype=torch.float64, device=last.device)
    flow[torch.arange(n), answer.to(last.device)] = 1
    senders = graph.edges.senders
    nodes = torch.zeros(len(senders), n, dtype=torch.float64, device=last.device)
    for layer in reversed(range(graph.edges.n_layers)):
        pre, post = (kept[graph.site(what, layer)].double() for what in ("resid_pre", "resid_post"))
        heads = np.flatnonzero((senders.kind == SENDERS.index("head")) & (senders.layer == layer))
        mlp = np.flatnonzero((senders.kind == SENDERS.index("mlp")) & (senders.layer == layer))
        written = kept[graph.site("mlp_write", layer)].double().reshape(post.shape) if len(mlp) else None
        if written is not None and not graph.readers.parallel:
            shares = _shares(torch.stack([post - written, written]), post, norm, threshold)
            nodes[mlp[0]] = (flow * shares[1]).sum(1)
        whole = post if written is None or graph.readers.parallel else post - written
        near = _near_heads(graph, kept, layer, whole, norm)                                # [head, key, n, query]
        rest = [pre] if written is None or not graph.readers.parallel else [pre, written]
        near = torch.cat([proximity(torch.stack(rest), whole, norm), near.flatten(0, 1)])
        shares = _normal(near, threshold)
        own, through = shares[:len(rest)], shares[len(rest):].unflatten(0, (len(heads), length)) * flow
        if len(rest) > 1:
            nodes[mlp[0]] = (flow * own[1]).sum(1)
        nodes[torch.from_numpy(heads)] = through.sum((1, 3))
        flow = flow * own.sum(0) + through.sum((0, 3)).T
    nodes[0] = flow.sum(1)
    return nodes, flow


def _shares(parts: Tensor, whole: Tensor, norm: int, threshold: float) -> Tensor:
    return _normal(proximity(parts, whole, norm), threshold)


def _normal(near: Tensor, threshold: float) -> Tensor:
    """Proximities as shares; where nothing is near, and where nothing exceeds the threshold, all goes to the first part."""
    shares = near / near.sum(0).clamp(min=torch.finfo(near.dtype).tiny)
    shares = renormalised(shares, threshold) if threshold else shares
    shares[0] = torch.where(shares.sum(0) > 0, shares[0], 1.0)
    return shares


def _near_heads(graph: Graph, kept: dict[Site, Tensor], layer: int, whole: Tensor, norm: int) -> Tensor:
    """Proximity of what each head takes from each token: [head, key, n, query]."""
    pattern, v = kept[graph.site("pattern", layer)].double(), kept[graph.site("v", layer)].double()
    out, (n, length, width) = graph.model.W_O(layer, graph.attention).detach().double(), whole.shape
    group = graph.edges.n_heads // graph.edges.n_kv_heads
    found = torch.empty(len(out), length, n, length, dtype=torch.float64, device=whole.device)
    some = max(1, MEMORY // (length * width))
    for head in range(len(out)):
        for prompt in range(n):
            sent = v[prompt, :, head // group] @ out[head]                                 # [key, d_model]
            for start in range(0, length, some):
                at = slice(start, start + some)
                parts = pattern[prompt, head, at].T[:, :, None] * sent[:, None]            # [key, query, d_model]
                found[head, :, prompt, at] = proximity(parts, whole[prompt, at], norm)
    return found

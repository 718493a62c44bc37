"""A decoder's run seen as senders and receivers: what each sender wrote, and the slope of the metric at each receiver."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.engine.edges import Edges, make_edges
from interp.engine.edits import Edit
from interp.engine.forward import answer_logits
from interp.engine.prompts import Prompts
from interp.engine.untouched import reading_answers
from interp.models.readers import Reader, Readers, reading
from interp.models.sites import Site

Key = tuple[str, int]
"""A reading point: (``attention`` or ``mlp``, layer), or (``output``, -1)."""
OUTPUT: Key = ("output", -1)


@dataclass(frozen=True)
class Graph:
    """A model with its edges and reading points."""

    model: Any
    readers: Readers
    edges: Edges

    @property
    def attention(self) -> str:
        return self.model.stacks[0].attention

    @property
    def last(self) -> Site:
        """The final residual stream."""
        return Site("resid_post", self.edges.n_layers - 1, self.attention)

    def site(self, what: str, layer: int) -> Site:
        return Site(what, layer, self.attention)


def graph_of(model: Any) -> Graph:
    """The edges of a model.

    Raises:
        InterpError: an architecture whose residual stream is no plain sum, or whose reading points are unknown.
    """
    readers, stack = model.readers, model.stacks[0]
    sites = model.sites()
    missing = [site for layer in range(stack.n_layers) for what in ("q_pre", "k_pre", "v", "z")
               if (site := Site(what, layer, stack.attention)) not in sites]
    if missing:
        raise InterpError(f"split {model.backend.architecture} into edges", f"it has no {missing[0]}",
                          "use attribution of heads")
    mlps = [mlp is not None for mlp in readers.mlp]
    return Graph(model, readers, make_edges(stack.n_layers, stack.n_heads, stack.n_kv_heads, mlps, readers.parallel))


@dataclass(frozen=True)
class Written:
    """What the senders of one run wrote, and the streams that were read.

    Attributes:
        metric: [n], float64.
        embed: the residual stream entering the first block [n, position, d_model].
        z: of each layer [n, position, head, d_head].
        mlp: what each layer's MLP adds to the residual stream [n, position, d_model], None where there is none.
        attn_out: the sum of the heads before a post-norm, None where there is none.
        streams: what each reading point read, before its norm.
    """

    metric: Tensor
    embed: Tensor
    z: tuple[Tensor, ...]
    mlp: tuple[Tensor | None, ...]
    attn_out: tuple[Tensor | None, ...]
    streams: Mapping[Key, Tensor]


@dataclass(frozen=True)
class Slopes:
    """Gradients of the metric at the receivers.

    Attributes:
        q, k, v: of each layer, by the projections' outputs [n, position, head, d].
        mlp: of each layer, by the normalised stream that the MLP is given [n, position, d_model].
        output: by the final residual stream [n, position, d_model].
    """

    q: tuple[Tensor, ...]
    k: tuple[Tensor, ...]
    v: tuple[Tensor, ...]
    mlp: tuple[Tensor | None, ...]
    output: Tensor


Mix = Callable[[Key, Tensor], Tensor]
"""(reading point, live stream) -> the stream that is read in its place."""


def run_graph(graph: Graph, prompts: Prompts, batch: Any, metric: Any, *, slopes: bool, mix: Mix | None = None,
              edits: Mapping[Site, Edit] | None = None) -> tuple[Written, Slopes | None]:
    """One forward pass (and a backward pass, with ``slopes``) of some prompts.

    ``mix`` changes what reading points read without changing the residual stream itself; ``edits`` change what senders write
    (``resid_pre`` of the first layer, ``z``, ``mlp_write``).
    """
    layers = range(graph.edges.n_layers)
    nudges: dict[Any, Tensor] = {}
    streams: dict[Key, Tensor] = {}
    changes: dict[Site, Edit] = dict(edits or {})

    def nudge(key: Any, x: Tensor) -> Tensor:
        if not slopes:
            return x
        nudges[key] = torch.zeros_like(x, requires_grad=True)
        return x + nudges[key]

    def given(reader: Reader, stream: Tensor, normed: Tensor) -> Tensor:
        key = reader.what, reader.layer
        stream, normed = (x.reshape(prompts.n, -1, x.shape[-1]) for x in (stream, normed))      # OPT lays prompts end to end
        if mix is not None:
            mixed = mix(key, stream)
            normed = normed if mixed is stream else reader.normed(mixed)
            stream = mixed
        streams[key] = stream.detach().clone()
        return nudge(key, normed) if reader.what == "mlp" else normed

    def final(x: Tensor) -> Tensor:
        x = x if mix is None else mix(OUTPUT, x)
        streams[OUTPUT] = x.detach().clone()
        return nudge(OUTPUT, x)

    wanted = [graph.site("resid_pre", 0), *(graph.site("z", layer) for layer in layers)]
    wanted += [graph.site("mlp_write", layer) for layer in layers if graph.readers.mlp[layer] is not None]
    wanted += [graph.site("attn_out", layer) for layer in layers if graph.readers.attn_norms[layer] is not None]
    if slopes:
        for site in (graph.site(what, layer) for what in ("q_pre", "k_pre", "v") for layer in layers):
            changes[site] = lambda x, site=site: nudge(site, x)
    changes[graph.last] = final
    with (reading_answers(graph.model, batch, metric) as asked, torch.set_grad_enabled(slopes),
          reading(graph.readers.all, given)):
        passed = graph.model.run(prompts.inputs, changes, wanted)
        values = metric(answer_logits(passed, prompts), asked)
        found = _gradients(values, nudges, metric) if slopes else {}
    read = {site: x.detach() for site, x in passed.captured.items()}
    written = Written(
        values.detach().cpu().double(), read[graph.site("resid_pre", 0)],
        tuple(read[graph.site("z", layer)] for layer in layers),
        tuple(read.get(graph.site("mlp_write", layer)) for layer in layers),
        tuple(read.get(graph.site("attn_out", layer)) for layer in layers), streams)
    if not slopes:
        return written, None
    heads = (tuple(found[graph.site(what, layer)] for layer in layers) for what in ("q_pre", "k_pre", "v"))
    return written, Slopes(*heads, tuple(found.get(("mlp", layer)) for layer in layers), found[OUTPUT])


def _gradients(values: Tensor, nudges: Mapping[Any, Tensor], metric: Any) -> dict[Any, Tensor]:
    if not values.requires_grad or not getattr(metric, "differentiable", True):
        raise InterpError(f"take the gradient of the metric {getattr(metric, 'name', metric)!r}",
                          "it does not change smoothly with the logits", "use one that does, such as logit_diff")
    found = torch.autograd.grad(values.sum(), list(nudges.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(nudges, found, strict=True))

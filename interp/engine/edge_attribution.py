"""Edge attribution patching (EAP): a first-order estimate of patching every edge, from two forwards and one backward pass.

The arithmetic: let Δ be what a sender writes in the clean run minus what it writes in the corrupted run, and g the gradient
of the metric at the normalised input of a receiver, pulled back through the receiver's norm (its whole derivative, not a
frozen scale). An edge's score is Σ over positions of Δ · g. For q, k and v, g is formed from gradients of size d_head, one
product with the weights per layer; Δ of a head from its z of size d_head. All senders before a layer then meet all of its
receivers in one product per prompt: for GPT-2 small that is 50 million multiplications per token, a third of a forward pass,
where pushing the senders through every layer's W_Q, W_K and W_V would take twenty. The norm costs nothing per edge: its
weight and centring are folded into the weights, and the part along the normalised stream is a product of two small tables.
"""

from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from interp.core.provenance import Provenance, collect_code, collect_versions, now
from interp.core.registry import unknown
from interp.engine.edge_runs import Graph, Slopes, Written, graph_of, run_graph
from interp.engine.edges import EdgeScores
from interp.engine.prompts import Prompts, chunks, selected, side, sides
from interp.models.norm_slope import norm_slope
from interp.tasks.metrics import Metric, metric_of

MEMORY = 2**28
"""Bytes that senders' differences may take at once; more prompts or positions are worked on in turn."""
CACHE = 2**24
"""Bytes of what the receivers of a layer read that are formed at once, to stay near the processor."""
Tile = tuple[slice, slice]
"""Some prompts and positions."""


def edge_attribution(model: Any, batch: Any, *, direction: Literal["noising", "denoising"] = "noising",
                     sign: Literal["importance", "change"] = "importance",
                     positions: str | tuple[str, ...] | None = None, metric: str | Metric | None = None,
                     batch_size: int | None = None) -> EdgeScores:
    """Estimate of what patching each edge does to the metric: every sender into every receiver, per prompt.

    ``values[edge, prompt]`` = Σ over positions (sender's output clean − corrupt) · ∂metric/∂(receiver's input), in units of
    the metric; larger = matters more, as activation patching of the edge in the same direction, which it estimates to first
    order.

    * ``direction="noising"``: gradient at the clean run (Syed et al. 2023); ``"denoising"``: gradient at the corrupted run
      (TransformerLens' ``attribution_patch(granularity="edge")``: its scores are these, averaged over prompts and not summed
      over positions).
    * ``sign="importance"``: the sign above; ``"change"``: the estimated change of the metric when the edge is patched. Both
      agree for denoising; for noising ``change`` is the negative, (corrupt − clean) · gradient, as Syed et al. and Hanna et
      al. 2024 write it (their metric is a loss: what lowers the logit difference raises it).

    ``positions`` asks for the parts of places besides (``EdgeScores.places``): ``"each"`` token, a named span or ``end``, or
    several. The parts of all tokens add up to ``values``.

    Behind a post-norm, a head's difference goes through the norm's derivative at the run where the gradient is taken; an
    MLP's is what it really adds to the residual stream.

    Cost: two forward passes, one backward pass, and products of about half a forward pass.

    Raises:
        InterpError: unaligned prompts; a metric without gradient; an architecture without known reading points.
    """
    check_options(batch, direction, sign)
    graph, measured = graph_of(model), batch.metric if metric is None else metric_of(metric)
    on, source = ("clean", "corrupt") if direction == "noising" else ("corrupt", "clean")
    runs = sides(model, batch)
    masks = places_of(side(runs, on), positions)
    parts = {name: np.empty((len(graph.edges), batch.n)) for name in masks}
    values, baselines = np.empty((len(graph.edges), batch.n)), {"clean": np.empty(batch.n), "corrupt": np.empty(batch.n)}
    for rows in chunks(model, side(runs, on), batch_size, graph=True):
        part = batch.subset(rows.tolist())
        runs = sides(model, part)
        there, _ = run_graph(graph, runs[source], part, measured, slopes=False)
        here, slopes = run_graph(graph, runs[on], part, measured, slopes=True)
        clean, corrupt = (here, there) if on == "clean" else (there, here)
        values[:, rows.numpy()] = products(graph, clean, corrupt, here, slopes).numpy()
        for name, mask in masks.items():
            parts[name][:, rows.numpy()] = products(graph, clean, corrupt, here, slopes, tokens=mask[rows]).numpy()
        baselines[on][rows.numpy()], baselines[source][rows.numpy()] = here.metric.numpy(), there.metric.numpy()
    flip = sign == "change" and direction == "noising"
    options = {"direction": direction, "sign": sign} | ({} if positions is None else {"positions": positions})
    made = provenance(model, batch, "edge_attribution", options, measured, direction, baselines)
    return EdgeScores(graph.edges, -values if flip else values, made, baselines,
                      places={name: -part if flip else part for name, part in parts.items()})


def places_of(prompts: Prompts, positions: str | tuple[str, ...] | None) -> dict[str, Tensor]:
    """The tokens of each place that was asked for, by name: bool [prompt, position]; tokens are named by their number."""
    if positions == "each":
        return {str(i): selected(prompts, i).cpu() for i in range(int(prompts.mask.sum(1).max()))}
    names = () if positions is None else (positions,) if isinstance(positions, str) else positions
    return {name: selected(prompts, name).cpu() for name in names}


def check_options(batch: Any, direction: str, sign: str = "importance") -> None:
    """Refuse unknown words and prompts that do not correspond token by token."""
    if direction not in ("noising", "denoising"):
        raise unknown("direction", str(direction), ["noising", "denoising"])
    if sign not in ("importance", "change"):
        raise unknown("sign", str(sign), ["importance", "change"])
    batch.check_aligned("score edges")


def provenance(model: Any, batch: Any, measure: str, options: dict[str, Any], metric: Metric, direction: str | None,
               baselines: dict[str, np.ndarray]) -> Provenance:
    """The provenance of scores of edges."""
    return Provenance(
        measure=measure, options=options, model=model.provenance_dict(), task=batch.provenance_dict(), metric=metric.name,
        direction=direction, baselines={name: float(x.mean()) for name, x in baselines.items()}, versions=collect_versions(),
        device=str(model.device), date=now(), code=collect_code())


def products(graph: Graph, clean: Written, corrupt: Written, at: Written, slopes: Slopes, *, secant: bool = False,
             tokens: Tensor | None = None) -> Tensor:
    """Σ over positions (clean − corrupt) · slope for every edge, float64 [edge, n]; ``at``: the run that the slopes are of.

    ``secant``: a head's difference goes through a post-norm by the secant between the two runs, so that heads add up, not by
    the derivative at ``at``. ``tokens``: what senders write at these alone, bool [n, position].
    """
    n, length, width = clean.embed.shape
    differ = (clean.embed != corrupt.embed).flatten(2).any(-1).any(0)
    if tokens is not None:
        tokens = tokens.to(clean.embed.device)
    if not bool(differ.any()) or (tokens is not None and not bool(tokens.any())):
        return torch.zeros(len(graph.edges), n, dtype=torch.float64)
    first = int(differ.nonzero()[0]) if graph.attention == "self" else 0
    within = torch.arange(first, length)
    if tokens is not None:
        columns = tokens.any(0).nonzero().flatten()
        within = within[max(first, int(columns[0])) - first:max(0, int(columns[-1]) + 1 - first)]
    if not len(within):
        return torch.zeros(len(graph.edges), n, dtype=torch.float64)
    bytes_of_token = 4 * width * (len(graph.edges.senders) + 3 * graph.edges.n_heads)
    total = torch.zeros(len(graph.edges), n, dtype=torch.float64)
    for where in _tiles(torch.arange(n), within, MEMORY // bytes_of_token):
        blocks = list(_blocks(graph, clean, corrupt, at, slopes, where, secant, tokens))
        total[:, where[0]] += torch.cat([block.permute(2, 1, 0).flatten(0, 1) for block in blocks]).cpu().double()
    return total


def _tiles(rows: Tensor, places: Tensor, most: int) -> Iterator[Tile]:
    """Prompts and positions cut into pieces of at most ``most`` tokens, prompts first."""
    for some in rows.split(max(1, most // len(places))):
        for part in places.split(max(1, most)):
            yield slice(int(some[0]), int(some[-1]) + 1), slice(int(part[0]), int(part[-1]) + 1)


def _blocks(graph: Graph, clean: Written, corrupt: Written, at: Written, slopes: Slopes, where: Tile, secant: bool,
            tokens: Tensor | None) -> Iterator[Tensor]:
    """Scores at some prompts and positions, [n, sender, receiver] for each reading point in order.

    What senders wrote is gone through once per layer: an MLP meets it together with the attention that comes next.
    """
    edges, model = graph.edges, graph.model
    wide = torch.promote_types(clean.embed.dtype, torch.float32)

    def cut(x: Tensor) -> Tensor:
        return x[where].to(wide)

    n, length, width = cut(clean.embed).shape
    written = torch.empty(len(edges.senders), n, length, width, dtype=wide, device=clean.embed.device)
    chosen = None if tokens is None else tokens[where].to(wide)[..., None]
    count = 0

    def send(start: int, *, stop: int) -> None:
        """Senders up to ``stop`` have written; of what they wrote, the chosen tokens count."""
        nonlocal count
        if chosen is not None:
            written[start:stop] *= chosen
        count = stop

    def pulled(layer: int) -> Tensor:
        """The slope of the metric by the residual stream as an MLP reads it, [n, position, d_model]."""
        return graph.readers.mlp[layer].slope(cut(at.streams["mlp", layer])).pull(cut(slopes.mlp[layer]))

    written[0] = cut(clean.embed) - cut(corrupt.embed)
    send(0, stop=1)
    waiting: list[tuple[Tensor, int]] = []      # an MLP's slope, and how many senders stand before it
    for layer in range(edges.n_layers):
        mlp = graph.readers.mlp[layer]
        if mlp is not None and graph.readers.parallel:
            waiting.append((pulled(layer), count))
        found = _met(written[:count], [x for x, _ in waiting], _Heads(graph, layer, at, slopes, cut))
        others = [found[:, :before, i:i + 1] for i, (_, before) in enumerate(waiting)]
        heads = found[:, :, len(waiting):]
        yield from [heads, *others] if graph.readers.parallel else [*others, heads]
        waiting = []
        new = written[count:count + edges.n_heads]
        z = (cut(clean.z[layer]) - cut(corrupt.z[layer])).movedim(2, 0).flatten(1, 2)
        torch.bmm(z, model.W_O(layer).detach().to(wide), out=new.view(edges.n_heads, n * length, width))
        norm = graph.readers.attn_norms[layer]
        if norm is not None and secant:
            ends = [norm_slope(norm, cut(run.attn_out[layer])) for run in (clean, corrupt)]
            new.copy_(ends[0].between(ends[1], new))
        elif norm is not None:
            new.copy_(norm_slope(norm, cut(at.attn_out[layer])).push(new))
        send(count, stop=count + edges.n_heads)
        if mlp is not None:
            if not graph.readers.parallel:
                waiting.append((pulled(layer), count))
            written[count] = cut(clean.mlp[layer]) - cut(corrupt.mlp[layer])
            send(count, stop=count + 1)
    found = _met(written[:count], [*(x for x, _ in waiting), cut(slopes.output)], None)
    yield from (found[:, :before, i:i + 1] for i, (_, before) in enumerate([*waiting, (slopes.output, count)]))


class _Heads:
    """What q, k and v of a layer read: the slope of the metric by the residual stream, formed a tile at a time."""

    def __init__(self, graph: Graph, layer: int, at: Written, slopes: Slopes, cut: Callable[[Tensor], Tensor]):
        reader, model = graph.readers.attention[layer], graph.model
        slope = reader.slope(cut(at.streams["attention", layer]))
        self.unit = slope.unit if reader.norm is not None else None
        self.parts = [(cut(x[layer]) * slope.inverse[..., None], slope.read_by(weights(layer).detach().to(slope.unit.dtype)))
                      for x, weights in ((slopes.q, model.W_Q), (slopes.k, model.W_K), (slopes.v, model.W_V))]
        self.count = sum(len(weights) for _, weights in self.parts)

    def put(self, out: Tensor, tile: Tile) -> None:
        """Write them into ``out`` [receiver, n, position, d_model]."""
        row = 0
        for by_head, weights in self.parts:      # [n, position, head, d_head]; [head, d_model, d_head]
            some = by_head[tile].movedim(2, 0).flatten(1, 2)
            torch.bmm(some, weights.transpose(1, 2), out=out[row:row + len(some)].flatten(1, 2))
            row += len(some)
        if self.unit is not None:      # what the norm takes out: the part along the normalised stream
            unit = self.unit[tile]
            along = torch.bmm(out.flatten(1, 2).transpose(0, 1), unit.reshape(-1, unit.shape[-1], 1)) / unit.shape[-1]
            out.addcmul_(along.view(*unit.shape[:2], len(out)).movedim(2, 0)[..., None], unit, value=-1)


def _met(written: Tensor, plain: list[Tensor], heads: _Heads | None) -> Tensor:
    """[sender, n, position, d] · [receiver, n, position, d] summed over positions: [n, sender, receiver]."""
    _, n, length, width = written.shape
    count = len(plain) + (0 if heads is None else heads.count)
    found = written.new_zeros(n, len(written), count)
    for tile in _tiles(torch.arange(n), torch.arange(length), CACHE // (4 * width * count)):
        sent = written[(slice(None), *tile)]
        reads = written.new_empty(count, *sent.shape[1:])
        for i, x in enumerate(plain):
            reads[i] = x[tile]
        if heads is not None:
            heads.put(reads[len(plain):], tile)
        found[tile[0]] += torch.bmm(sent.transpose(0, 1).flatten(2), reads.transpose(0, 1).flatten(2).transpose(1, 2))
    return found

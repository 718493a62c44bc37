"""Find the parts of a transformers network: blocks, attention modules, projections, output projections, MLPs and post-norms.

Nothing is looked up by architecture. A dry run records which module ran on what and with what result, and the parts are
recognised by what they did: the output projection is the linear layer that received z, a post-norm the norm that received
the attention's output, the MLP whatever supplied the rest of what the block added to the residual stream.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor, nn

from interp.core.errors import InterpError
from interp.models.projections import Projections, find_projections, is_linear
from interp.models.recording import Call, Core, close, record

_MLP = ("mlp", "moe", "feedforward", "feed_forward", "ffn")


@dataclass(frozen=True)
class Place:
    """One attention and what belongs to it.

    Attributes:
        block, core, out: the transformer block, the module that computes attention in it, and its output projection.
        inline: whether the core computes attention itself rather than through transformers' attention interface.
        mlp: the module whose output is ``mlp_out`` (None: the block has none, or it belongs to another attention).
        attn_norm, mlp_norm: post-norms, between ``attn_out`` or ``mlp_out`` and the residual stream.
        mid_norm: in a block that normalises after each addition, the norm whose output is ``resid_mid``.
        residual: ``added`` (resid_post = resid_pre + writes), ``normed`` (a norm after each addition) or ``unknown``.
        parallel: whether attention and MLP read the same residual stream.
    """

    layer: int
    attention: str
    block: nn.Module
    core: nn.Module
    out: nn.Module | None
    inline: bool
    projections: Projections | None
    mlp: nn.Module | None
    attn_norm: nn.Module | None
    mlp_norm: nn.Module | None
    mid_norm: nn.Module | None
    residual: str
    parallel: bool
    n_heads: int
    n_kv_heads: int
    d_head: int
    d_qk: int
    d_model: int
    causal: bool
    rotary: bool
    learned_sink: bool
    latent: bool


@dataclass(frozen=True)
class Ends:
    """What lies around the blocks: the last block's output and every call, from which the final norm is recognised."""

    calls: tuple[Call, ...]
    resid: Tensor


def locate(network: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[list[Place], Ends]:
    """Every attention of the network, layers of each kind counted in the order in which they run.

    Raises:
        InterpError: the network has no softmax attention, or one that runs several times in a pass or outside of blocks.
    """
    asked = f"work on the heads of {type(network).__name__}"
    calls, cores, repeated = record(network, inputs)
    if not cores:
        raise InterpError(asked, "no softmax attention was found in it",
                          "choose a transformer: heads are all that is measured here")
    if repeated:
        raise InterpError(asked, "an attention module runs several times in one pass (shared between layers, or once per "
                          "window)", "choose a model whose layers are its own")
    blocks = _blocks(network, cores, asked)
    vision = getattr(network, "main_input_name", "") == "pixel_values"
    config = network.config.get_text_config() if hasattr(network.config, "get_text_config") else network.config
    kv_heads = getattr(config, "num_key_value_heads", None) or getattr(config, "num_kv_heads", None)
    places, count, resid = [], {}, None
    for block, members in blocks.items():
        inside = set(block.modules()) - {block}
        call = next(c for c in calls if c.module is block)
        resid = call.output
        for place in _places(call, [c for c in calls if c.module in inside], members, kv_heads, vision):
            layer = count.setdefault(place.attention, 0)
            count[place.attention] += 1
            places.append(replace(place, layer=layer))
    return places, Ends(tuple(calls), resid)


def _blocks(network: nn.Module, cores: list[Core], asked: str) -> dict[nn.Module, list[Core]]:
    """The outermost member of a list of modules around each attention, in the order in which they ran."""
    names = {module: name for name, module in network.named_modules()}
    lists = {name for name, module in network.named_modules() if isinstance(module, nn.ModuleList)}
    blocks: dict[nn.Module, list[Core]] = {}
    used: dict[str, set[str]] = {}
    for core in cores:
        parts = names[core.module].split(".")
        prefixes = (".".join(parts[:i]) for i in range(1, len(parts) + 1))
        name = next((p for p in prefixes if p.rpartition(".")[0] in lists), None)
        if name is None:
            raise InterpError(asked, f"its attention {names[core.module]} does not sit in a list of blocks",
                              "choose a model whose blocks stand in a ModuleList")
        blocks.setdefault(network.get_submodule(name), []).append(core)
        used.setdefault(name.rpartition(".")[0], set()).add(name)
    for name, members in used.items():
        if len(members) < len(network.get_submodule(name)):
            raise InterpError(asked, f"only {len(members)} of the {len(network.get_submodule(name))} blocks in {name} have "
                              "softmax attention", "choose a model with attention in every layer")
    return blocks


def _places(block: Call, inner: list[Call], cores: list[Core], kv_heads: int | None, vision: bool) -> list[Place]:
    outputs = {c.module: c.output for c in inner}
    linear = [c for c in inner if is_linear(c.module)]
    outs = [next((c for c in linear if close(c.input, core.z, _row_size(core.z))), None) for core in cores]
    norms = [None if out is None else _norm_of(inner, out.output) for out in outs]
    writes = [None if out is None else (norm or out).output for out, norm in zip(outs, norms, strict=True)]
    residual, mids, mlp, mlp_norm = _residual(block, inner, writes)
    places = []
    for i, (core, out) in enumerate(zip(cores, outs, strict=True)):
        found = find_projections(core, outputs, kv_heads)
        causal = core.pattern.shape[-1] == core.pattern.shape[-2] and not core.pattern.triu(1).any()
        cross = core.pattern.shape[-1] != core.pattern.shape[-2]
        attention = "cross" if cross else "self" if causal else "vision" if vision else "encoder"
        parallel = residual == "added" and mlp is not None and not _reads(inner, block.input, writes)
        places.append(Place(
            layer=0, attention=attention, block=block.module, core=core.module, out=out and out.module, inline=core.inline,
            projections=found, mlp=None if cross or mlp is None else mlp.module, attn_norm=norms[i] and norms[i].module,
            mlp_norm=mlp_norm and mlp_norm.module, mid_norm=mids[i] and mids[i].module, residual=residual, parallel=parallel,
            n_heads=core.q.shape[1], n_kv_heads=found.n_kv_heads if found else core.k.shape[1], d_head=core.v.shape[-1],
            d_qk=core.q.shape[-1], d_model=block.input.shape[-1], causal=causal, rotary=core.rotary,
            learned_sink=isinstance(getattr(core.module, "sinks", None), Tensor),
            latent=hasattr(core.module, "kv_lora_rank")))
    return places


def is_norm(module: nn.Module) -> bool:
    """Whether the module is a normalisation, by the name of its class."""
    return "norm" in type(module).__name__.lower()


def _norm_of(inner: list[Call], tensor: Tensor | None, slack: Tensor | None = None) -> Call | None:
    return next((c for c in inner if is_norm(c.module) and close(c.input, tensor, slack)), None)


def _row_size(tensor: Tensor) -> Tensor:
    """The largest entry of each vector, at each entry: what the rounding of a product goes by."""
    return tensor.abs().amax(-1, keepdim=True).expand_as(tensor)


def _residual(block: Call, inner: list[Call], writes: list[Tensor | None]
              ) -> tuple[str, list[Call | None], Call | None, Call | None]:
    """How the block adds up: the kind, the norm after each attention's addition, the calls of the MLP and its post-norm."""
    nowhere: list[Call | None] = [None] * len(writes)
    if any(w is None or w.shape != block.input.shape for w in writes) or block.output.shape != block.input.shape:
        return "unknown", nowhere, None, None
    total = sum(writes, start=block.input)
    slack = block.input.abs() + block.output.abs() + sum(w.abs() for w in writes)
    if close(total, block.output, slack):       # no MLP, or one that writes nothing on these tokens
        silent = [c for c in inner if any(part in type(c.module).__name__.lower() for part in _MLP)]
        return "added", nowhere, _source(silent, block.output - total, slack), None
    if mlp := _source(inner, block.output - total, slack):
        norm = mlp if is_norm(mlp.module) else None
        return "added", nowhere, _source(inner, norm.input) if norm else mlp, norm
    resid, mids = block.input, []
    for write in writes:
        mids.append(_norm_of(inner, resid + write, resid.abs() + write.abs()))
        if mids[-1] is None:
            return "unknown", nowhere, None, None
        resid = mids[-1].output
    last = next((c for c in inner if is_norm(c.module) and close(c.output, block.output)), None)
    if last is None:
        return "unknown", nowhere, None, None
    entering = last.input.reshape(resid.shape)
    mlp = _source(inner, entering - resid, entering.abs() + resid.abs())
    return ("normed", mids, mlp, None) if mlp else ("unknown", nowhere, None, None)


def _source(inner: list[Call], tensor: Tensor, slack: Tensor | None = None) -> Call | None:
    """The outermost module whose output the tensor is (an MLP rather than its last layer)."""
    found = [c for c in inner if close(c.output, tensor, slack) and not isinstance(c.module, nn.Dropout)]
    outer = [c for c in found if not any(c.module in set(d.module.modules()) for d in found if d is not c)]
    return outer[0] if outer else None


def _reads(inner: list[Call], resid: Tensor, writes: list[Tensor]) -> bool:
    """Whether some module of the block reads the residual stream with all attention writes added."""
    slack = resid.abs() + sum(w.abs() for w in writes)
    return any(close(c.input, sum(writes, start=resid), slack) for c in inner)

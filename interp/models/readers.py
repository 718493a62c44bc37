"""Where attention and MLP read the residual stream: the norm they read it through, and a way to change what they read.

A pre-norm block reads twice: attention reads ``norm(resid_pre)``, the MLP ``norm(resid_mid)`` (parallel blocks read both
from ``resid_pre``; some models have no norm there). Nothing is looked up by architecture: a dry run shows which norm
received the residual stream and which modules received what it returned.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from interp.core.errors import InterpError
from interp.models.inputs import sample_inputs, with_positions
from interp.models.locate import Place, is_norm, locate
from interp.models.norm_slope import NormSlope, norm_slope
from interp.models.recording import Call, close

Change = Callable[["Reader", Tensor, Tensor], Tensor]
"""(reader, residual stream it reads [n, position, d_model], the same normalised) -> what it is given, normalised."""


@dataclass(frozen=True)
class Reader:
    """One attention (``attention``) or MLP (``mlp``) as a reader of the residual stream.

    Attributes:
        what, layer: which one.
        norm: the norm it reads through; None where it reads the stream itself.
        consumers: the modules that take the normalised stream.
    """

    what: str
    layer: int
    norm: nn.Module | None
    consumers: tuple[nn.Module, ...]

    def normed(self, resid: Tensor) -> Tensor:
        """What is read of a residual stream: its norm."""
        return resid if self.norm is None else self.norm(resid)

    def slope(self, resid: Tensor) -> NormSlope:
        """The derivative of ``normed`` at a residual stream."""
        return norm_slope(self.norm, resid)


@dataclass(frozen=True)
class Readers:
    """The readers of a decoder by layer, and how its writers reach the residual stream.

    Attributes:
        attention: of each layer. mlp: of each layer, None where the block has none.
        attn_norms: the norm between the sum of a layer's heads and the residual stream (post-norm), None without one.
        parallel: whether attention and MLP of a block read the same stream.
    """

    attention: tuple[Reader, ...]
    mlp: tuple[Reader | None, ...]
    attn_norms: tuple[nn.Module | None, ...]
    parallel: bool

    @property
    def all(self) -> tuple[Reader, ...]:
        """Every reader, in the order of computation."""
        pairs = zip(self.attention, self.mlp, strict=True)
        return tuple(reader for pair in pairs for reader in pair if reader is not None)


def find_readers(model: Any) -> Readers:
    """The readers of a loaded decoder.

    Raises:
        InterpError: for another backend, another kind of stack, or a network whose reading points are of no known form.
    """
    asked = f"split {model.backend.architecture} into edges"
    network = getattr(model.backend, "network", None)
    if network is None or model.backend.name != "transformers":
        raise InterpError(asked, f"the backend {model.backend.name} does not show where the residual stream is read",
                          "load the model with backend='transformers'")
    if len(model.stacks) > 1 or model.stacks[0].attention not in ("self", "encoder"):
        raise InterpError(asked, "it has more than one stack, or is no language model", "choose a decoder")
    places, ends = locate(network, with_positions(network, sample_inputs(network)))
    attention, mlps = [], []
    for place in places:
        calls = _inside(place, ends.calls)
        block = next(c for c in ends.calls if c.module is place.block)
        attention.append(_attention(place, block, calls, asked))
        mlps.append(_mlp(place, block, calls, asked))
    return Readers(tuple(attention), tuple(mlps), tuple(place.attn_norm for place in places), places[0].parallel)


def _inside(place: Place, calls: Sequence[Call]) -> list[Call]:
    inside = set(place.block.modules()) - {place.block}
    return [c for c in calls if c.module in inside]


def _attention(place: Place, block: Call, calls: list[Call], asked: str) -> Reader:
    where = f"layer {place.layer}"
    if place.residual != "added":
        raise InterpError(asked, f"the residual stream of {where} is not a sum of what its parts write (a norm follows each "
                          "addition, or the block is of no known form)", "use attribution of heads")
    if place.projections is None or place.out is None or place.projections.layout == "latent":
        true = "keys and values are no linear maps of the residual stream" if place.latent else "its projections are unknown"
        raise InterpError(asked, f"in {where} {true}", "use attribution of heads")
    modules = tuple(m for m in place.projections.modules if m is not None)
    entering = [next((c.input for c in calls if c.module is m), None) for m in modules]
    if any(not close(x, entering[0]) for x in entering):
        raise InterpError(asked, f"q, k and v of {where} do not read the same thing", "use attribution of heads")
    if close(entering[0], block.input):
        return Reader("attention", place.layer, None, modules)
    norms = (c for c in calls if is_norm(c.module) and close(c.input, block.input))
    norm = next((c for c in norms if close(c.output, entering[0])), None)
    if norm is None:
        raise InterpError(asked, f"what attention reads in {where} is no norm of the residual stream",
                          "use attribution of heads")
    return Reader("attention", place.layer, norm.module, modules)


def _mlp(place: Place, block: Call, calls: list[Call], asked: str) -> Reader | None:
    if place.mlp is None:
        return None
    write = next(c.output for c in calls if c.module is (place.attn_norm or place.out))
    resid = block.input if place.parallel else block.input + write.reshape(block.input.shape)
    slack = None if place.parallel else block.input.abs() + write.abs().reshape(block.input.shape)
    own = set(place.core.modules())
    others = [c for c in calls if c.module not in own and place.core not in set(c.module.modules())]
    for norm in [c for c in others if is_norm(c.module) and close(c.input, resid, slack)]:
        if found := _takers(others, norm.output, None, norm.module):
            return Reader("mlp", place.layer, norm.module, found)
    if found := _takers(others, resid, slack, None):
        return Reader("mlp", place.layer, None, found)
    raise InterpError(asked, f"what the MLP reads in layer {place.layer} is no norm of the residual stream",
                      "use attribution of heads")


def _takers(calls: list[Call], tensor: Tensor, slack: Tensor | None, but: nn.Module | None) -> tuple[nn.Module, ...]:
    """The outermost modules that are given a tensor."""
    found = [c.module for c in calls if c.module is not but and not is_norm(c.module) and close(c.input, tensor, slack)]
    return tuple(m for m in found if not any(m is not other and m in set(other.modules()) for other in found))


_READING: ContextVar[object | None] = ContextVar("the reading in progress", default=None)


@contextlib.contextmanager
def reading(readers: Sequence[Reader], change: Change) -> Iterator[None]:
    """While active, each of ``readers`` is given ``change(reader, stream, normalised stream)`` to read.

    Attention gives the same to all of its projections; ``change`` is called once per reader and pass.
    """
    token = object()
    streams: dict[nn.Module, Tensor] = {}
    given: dict[tuple[str, int], Tensor] = {}

    def keep(norm: nn.Module) -> Callable[..., None]:
        def hook(_: nn.Module, args: Any) -> None:
            if _READING.get() is token:
                streams[norm] = args[0]

        return hook

    def give(reader: Reader) -> Callable[..., Any]:
        key = reader.what, reader.layer

        def hook(module: nn.Module, args: Any, kwargs: Any) -> Any:
            if _READING.get() is not token:
                return None
            name = None if args else next(k for k, v in kwargs.items() if isinstance(v, Tensor))
            normed = args[0] if args else kwargs[name]
            if module is reader.consumers[0]:
                stream = normed if reader.norm is None else streams[reader.norm]
                given[key] = change(reader, stream, normed.reshape(stream.shape))
            new = given[key].reshape(normed.shape).to(normed.dtype)
            return ((new, *args[1:]), kwargs) if args else (args, {**kwargs, name: new})

        return hook

    handles = [norm.register_forward_pre_hook(keep(norm)) for norm in {r.norm for r in readers} - {None}]
    handles += [module.register_forward_pre_hook(give(r), with_kwargs=True) for r in readers for module in r.consumers]
    mark = _READING.set(token)
    try:
        yield
    finally:
        _READING.reset(mark)
        for handle in handles:
            handle.remove()

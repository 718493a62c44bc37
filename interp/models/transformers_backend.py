"""``TransformersBackend``: any transformers network through its own attention, read and edited at every site."""

import contextlib
import inspect
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from interp.core.errors import InterpError
from interp.models.attention_tap import CoreTap, register, tapped_forward, tapped_update
from interp.models.backend import Edit, Run
from interp.models.direct_logits import DirectLogits, find_direct_logits
from interp.models.frozen_norm import frozen_norm
from interp.models.hooks import head_output, install
from interp.models.inputs import sample_inputs, with_positions
from interp.models.locate import Place, locate
from interp.models.place_sites import CORE, sites_of, stacks_of, why_not
from interp.models.same_weights import with_same_weights
from interp.models.sites import Site
from interp.models.taps import ACTIVE, Taps


class TransformersBackend:
    """One transformers network behind the protocol of ``interp.models.backend``.

    The network given is not touched: the backend works on a second set of modules that share its weights (or hold a
    converted copy of them, where ``dtype`` or ``device`` differ), with its own configuration and attention implementation.

    Args:
        network: a ``PreTrainedModel``.
        device, dtype: of the weights; None leaves them as they are.

    Raises:
        InterpError: the network has no softmax attention, or one that cannot be addressed layer by layer.
    """

    name = "transformers"

    def __init__(self, network: nn.Module, *, device: str | torch.device | None = None, dtype: torch.dtype | None = None):
        if getattr(network, "is_quantized", False):
            raise InterpError(f"work on {type(network).__name__}", "its weights are quantised",
                              "load it in float32, bfloat16 or float16")
        register()
        self.network = with_same_weights(network, device, dtype)
        self.architecture = type(network).__name__
        inputs = sample_inputs(self.network)
        places, ends = locate(self.network, self._complete(inputs))
        self._places = {(place.attention, place.layer): place for place in places}
        self.stacks = stacks_of(places, self.network.config)
        self._sites = frozenset(site for place in places for site in sites_of(place))
        self._direct: DirectLogits | None = find_direct_logits(self.network, ends)

    def sites(self) -> frozenset[Site]:
        """Every site that can be read and edited."""
        return self._sites

    @property
    def places(self) -> list[Place]:
        """Every attention and what belongs to it, layer by layer."""
        return list(self._places.values())

    def without(self, sites: Collection[Site]) -> None:
        """Take sites out of ``sites()``, those that failed their check at load."""
        self._sites -= frozenset(sites)

    def run(self, inputs: Mapping[str, Tensor], edits: Mapping[Site, Edit] | None = None, capture: Collection[Site] = (), *,
            cache: Any = None, use_cache: bool = False) -> Run:
        """One forward pass; see ``Backend.run``.

        With ``use_cache`` the ``Run`` carries a cache that a later call takes as ``cache`` together with the new tokens and
        the mask of all tokens; that call extends it in place (``copy.deepcopy`` it to branch). q, k, v are those of the
        pass' own tokens, and what the cache keeps are the edited keys and values.

        Raises:
            InterpError: a site the network lacks, or one that this pass does not come by; an edit that changes a shape.
        """
        taps = Taps(edits or {}, capture)
        for site in sorted(taps.sites):
            self._check(site)
        if use_cache and cache is None:
            cache = _new_cache(self.network.config)
        reused = self._reused(taps, cache)
        arguments = self._complete(inputs) | ({"past_key_values": cache} if cache is not None else {})
        if "use_cache" in inspect.signature(self.network.forward).parameters:
            arguments["use_cache"] = cache is not None
        with self.tapped(taps, cache):
            output = self.network(**arguments)
        if missed := [site for site in taps.unreached() if site not in reused]:
            raise InterpError(f"read or edit the {missed[0]}", "this forward pass does not come by it",
                              "give the inputs that the layer needs")
        logits = output.get("logits")
        hidden = output.get("last_hidden_state") if logits is None else logits
        main = logits if logits is not None and logits.dim() == 3 else None
        return Run(main, taps.captured, None if main is not None else hidden, cache)

    def W_O(self, layer: int, attention: str = "self") -> Tensor:
        """Output weights per head: [head, d_head, d_model]."""
        return head_output(self._with_out(layer, attention))

    def b_O(self, layer: int, attention: str = "self") -> Tensor | None:
        """Bias of the attention output: [d_model], None without one."""
        return self._with_out(layer, attention).out.bias

    def W_Q(self, layer: int, attention: str = "self") -> Tensor:
        """Query weights per head, [head, d_model, d_qk]: ``q_pre`` is what attention reads times these, plus ``b_Q``."""
        return self._qkv("q", layer, attention)[0]

    def W_K(self, layer: int, attention: str = "self") -> Tensor:
        """Key weights per key-value head: [kv_head, d_model, d_qk]."""
        return self._qkv("k", layer, attention)[0]

    def W_V(self, layer: int, attention: str = "self") -> Tensor:
        """Value weights per key-value head: [kv_head, d_model, d_head]."""
        return self._qkv("v", layer, attention)[0]

    def b_Q(self, layer: int, attention: str = "self") -> Tensor | None:
        """Query bias per head, [head, d_qk]; None without one."""
        return self._qkv("q", layer, attention)[1]

    def b_K(self, layer: int, attention: str = "self") -> Tensor | None:
        """Key bias per key-value head, [kv_head, d_qk]; None without one."""
        return self._qkv("k", layer, attention)[1]

    def b_V(self, layer: int, attention: str = "self") -> Tensor | None:
        """Value bias per key-value head, [kv_head, d_head]; None without one."""
        return self._qkv("v", layer, attention)[1]

    def write_parts(self, what: str, layer: int, parts: Tensor, total: Tensor, attention: str = "self") -> Tensor:
        """What ``parts`` of ``total`` add to the residual stream, a post-norm frozen at ``total``; see ``Backend``."""
        place = self._place(layer, attention)
        self._check(Site(what.replace("_out", "_write"), layer, attention))
        norm = {"attn_out": place.attn_norm, "mlp_out": place.mlp_norm}[what]
        return parts if norm is None else frozen_norm(norm, total, parts)

    def logit_parts(self, parts: Tensor, resid: Tensor, columns: Tensor) -> Tensor:
        """Direct logits of ``parts`` of the final residual stream on vocabulary ``columns``; see ``Backend``."""
        return self._logits().parts(parts, resid, columns)

    def logit_bias(self, columns: Tensor) -> Tensor:
        """Part of the logits that does not depend on the input: [batch, c]."""
        return self._logits().bias(columns)

    def _logits(self) -> DirectLogits:
        if self._direct is None:
            raise InterpError(f"split the logits of {self.architecture} into parts",
                              "they are not a norm and a linear map of the last residual stream",
                              "use a measure that needs no direct logits, such as activation patching")
        return self._direct

    def _place(self, layer: int, attention: str) -> Place:
        if (attention, layer) not in self._places:
            kinds = ", ".join(f"{s.attention} of {s.n_layers} layers" for s in self.stacks)
            raise InterpError(f"address layer {layer} of the {attention} attention of {self.architecture}",
                              f"it has {kinds}", "choose a layer of one of these, counted from 0")
        return self._places[attention, layer]

    def _with_out(self, layer: int, attention: str) -> Place:
        place = self._place(layer, attention)
        if place.out is None:
            raise InterpError(f"take W_O of layer {layer} of {self.architecture}", "no linear layer takes z as it is",
                              "use the sites q, k, v, scores and pattern")
        return place

    def _qkv(self, which: str, layer: int, attention: str) -> tuple[Tensor, Tensor | None]:
        found = self._place(layer, attention).projections
        if found is None:
            raise InterpError(f"take the weights of {which} of layer {layer} of {self.architecture} per head",
                              "its projections are of no known form", "work with the activations instead")
        return found.weights(which)

    def _check(self, site: Site) -> None:
        place = self._place(site.layer, site.attention)
        if site in self._sites:
            return
        raise InterpError(f"read or edit the {site} of {self.architecture}", why_not(site.what, place),
                          "choose one of " + ", ".join(sorted(s.what for s in self._sites
                                                              if (s.layer, s.attention) == (site.layer, site.attention))))

    def _complete(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return with_positions(self.network, inputs)

    def _reused(self, taps: Taps, cache: Any) -> set[Site]:
        """Sites of cross-attention whose keys and values an earlier pass has put into the cache, with its edits."""
        updated = getattr(cache, "is_updated", None) or {}
        reused = set()
        for site in taps.sites:
            if site.attention == "cross" and site.what in ("k_pre", "k", "v"):
                core = self._places["cross", site.layer].core
                if updated.get(core.layer_idx):
                    reused.add(site)
                    taps.stored.add(core)
                    if site in taps.capture and site.what != "k_pre":
                        layer = cache.cross_attention_cache.layers[core.layer_idx]
                        taps.captured[site] = (layer.keys if site.what == "k" else layer.values).transpose(1, 2)
        return reused

    @contextlib.contextmanager
    def tapped(self, taps: Taps, cache: Any) -> Iterator[None]:
        """The taps in place for the duration of one pass, or of one block's part of it."""
        with contextlib.ExitStack() as stack:
            of_layer: dict[str, dict[int, tuple[nn.Module, CoreTap]]] = {"self": {}, "cross": {}}
            for key in {(site.attention, site.layer) for site in taps.sites}:
                if (place := self._places.get(key)) is None:
                    continue
                for handle in install(place, taps):
                    stack.callback(handle.remove)
                if not taps.wants(*(Site(what, place.layer, place.attention) for what in CORE)):
                    continue
                tap = CoreTap(taps, place.layer, place.attention, place.n_heads, place.n_kv_heads, place.learned_sink)
                taps.cores[place.core] = tap
                stack.callback(taps.cores.pop, place.core)     # they hold each other and what was captured
                if place.inline:
                    forward = tapped_forward(place.core.forward, tap, place.core)
                    stack.enter_context(_attribute(place.core, "forward", forward))
                if not place.latent and tap.wants("k", "v") and place.attention in of_layer:
                    of_layer[place.attention][getattr(place.core, "layer_idx", place.layer)] = place.core, tap
            for kind, store in _stores(cache):
                if of_layer[kind]:
                    stack.enter_context(_attribute(store, "update", tapped_update(store.update, of_layer[kind], taps)))
            token = ACTIVE.set(taps)
            stack.callback(ACTIVE.reset, token)
            yield


def _stores(cache: Any) -> list[tuple[str, Any]]:
    if cache is None:
        return []
    if hasattr(cache, "cross_attention_cache"):
        return [("self", cache.self_attention_cache), ("cross", cache.cross_attention_cache)]
    return [("self", cache)]


def _new_cache(config: Any) -> Any:
    """A cache that keeps every position, also in layers with a sliding window: keys keep their index."""
    from transformers import DynamicCache, EncoderDecoderCache

    if getattr(config, "is_encoder_decoder", False):
        return EncoderDecoderCache(DynamicCache(), DynamicCache())
    return DynamicCache()


@contextlib.contextmanager
def _attribute(thing: Any, name: str, value: Any) -> Iterator[None]:
    """An attribute of one object set for a while, and put back as it was."""
    missing = object()
    before = vars(thing).get(name, missing)
    object.__setattr__(thing, name, value)
    try:
        yield
    finally:
        if before is missing:
            object.__delattr__(thing, name)
        else:
            object.__setattr__(thing, name, before)

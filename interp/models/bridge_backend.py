"""``BridgeBackend``: the backend protocol over a TransformerBridge of TransformerLens 4.

It gives the same sites, in the same layout, with the same numbers as the transformers backend on the same weights, so
that what one computes can be checked with the other, and so that models that exist only for TransformerLens
(``interp.models.native``) can be studied at all. TransformerLens is imported only when a bridge is built.

What TransformerLens cannot give is missing from ``sites()``, and asking for it raises: ``k_pre`` in latent attention;
``q`` and ``k`` in attention that it delegates to transformers, beyond the classes named in ``bridge_stacks``; writes of
blocks that scale them (Granite). Networks that it does not know, or bridges wrongly, are refused by ``bridge_of``.
"""

import inspect
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from interp.core.errors import InterpError
from interp.models.backend import Edit, Run, Stack
from interp.models.bridge_sites import Act, Install
from interp.models.bridge_stacks import find_attention, output_weights, seams, stack_of
from interp.models.frozen_norm import frozen_norm, norm_bias
from interp.models.sites import WHATS, Site
from interp.models.taps import Taps


class BridgeBackend:
    """Sites, runs and weights of one TransformerBridge (see ``interp.models.backend.Backend`` for each method).

    The bridge is switched to evaluation mode and eager attention: with the default attention its patterns never appear.

    Raises:
        InterpError: the bridge has ``use_attn_result`` on (its output hooks then do not fire), or no attention at all.
    """

    name = "transformer_lens"

    def __init__(self, bridge: Any):
        if getattr(bridge.cfg, "use_attn_result", False):
            raise InterpError("wrap the TransformerBridge", "its option use_attn_result is on",
                              "call bridge.set_use_attn_result(False) first; the site 'result' gives the same tensor")
        self.bridge = bridge.eval()
        self.network: nn.Module = bridge.original_model
        if hasattr(self.network, "set_attn_implementation"):
            self.network.set_attn_implementation("eager")
        self.architecture: str = bridge.cfg.architecture
        self._has_cache = "use_cache" in inspect.signature(self.network.forward).parameters
        self._takes_positions = _takes_positions(self.network)
        self._attention = find_attention(bridge)
        if not self._attention:
            raise InterpError(f"wrap the TransformerBridge of {self.architecture}", "it has no attention heads with hooks",
                              "use a network with attention")
        self.stacks: tuple[Stack, ...] = tuple(stack_of(bridge, kind, layers) for kind, layers in self._attention.items())
        self._seams: dict[Site, Install] = {
            Site(what, layer, kind): install for kind, layers in self._attention.items()
            for layer, (block, attention) in layers.items()
            for what, install in seams(bridge, kind, block, attention).items()}

    def sites(self) -> frozenset[Site]:
        return frozenset(self._seams)

    def without(self, sites: Collection[Site]) -> None:
        """Take sites out of ``sites()``, those that failed their check at load."""
        self._seams = {site: seam for site, seam in self._seams.items() if site not in set(sites)}

    def run(self, inputs: Mapping[str, Tensor], edits: Mapping[Site, Edit] | None = None, capture: Collection[Site] = (), *,
            cache: Any = None, use_cache: bool = False) -> Run:
        taps = Taps(edits or {}, capture)
        sites = sorted(taps.sites, key=lambda site: (site.attention, site.layer, _ORDER[site.what]))
        for site in sites:
            if site not in self._seams:
                raise self._missing(site)
        reused = _reused(taps, cache)
        with ExitStack() as stack:
            for site in sites:
                stack.callback(self._seams[site](Act(taps, site)))
            output = self._forward(inputs, cache, use_cache)
        for site in sorted(set(taps.unreached()) - reused):
            raise InterpError(f"read or edit {site} of {self.architecture}", "the pass did not come by it",
                              "use the transformers backend, or inputs that need this layer")
        logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
        main = logits if logits is not None and logits.ndim == 3 else None
        other = None if main is not None else logits if logits is not None else output.last_hidden_state
        return Run(main, taps.captured, other, getattr(output, "past_key_values", None) if use_cache else cache)

    def _forward(self, inputs: Mapping[str, Tensor], cache: Any, use_cache: bool) -> Any:
        """The network's own output; positions are derived from the mask, 0 for the first real token."""
        given = dict(inputs)
        if "pixel_values" in given:
            return self.network(**given)
        mask, length = given.get("attention_mask"), given["input_ids"].shape[1]
        if mask is not None and "position_ids" not in given and self._takes_positions:
            given["position_ids"] = (mask.long().cumsum(-1) - 1).clamp_min(0)[:, mask.shape[1] - length:]
        if self._has_cache:
            given |= {"use_cache": use_cache or cache is not None} | ({} if cache is None else {"past_key_values": cache})
        elif use_cache or cache is not None:
            raise InterpError(f"keep a key-value cache of {self.architecture}", "the network has none",
                              "run it on the whole sequence at every step")
        return self.network(**given)

    def _missing(self, site: Site) -> InterpError:
        stacks = {stack.attention: stack for stack in self.stacks}
        asked = f"read or edit {site} of {self.architecture}"
        if site.attention not in stacks:
            return InterpError(asked, f"it has no {site.attention} attention", "use " + " or ".join(stacks))
        if site.layer >= stacks[site.attention].n_layers:
            return InterpError(asked, f"it has {stacks[site.attention].n_layers} layers, counted from 0", "use one of those")
        return InterpError(asked, "TransformerLens gives no access to it there" if site.what not in ("resid_mid",)
                           else "the block has no single stream between attention and MLP",
                           "use another site, or the transformers backend")

    def W_O(self, layer: int, attention: str = "self") -> Tensor:
        return output_weights(self._o(layer, attention), self._stack(attention).n_heads)

    def b_O(self, layer: int, attention: str = "self") -> Tensor | None:
        return getattr(self._o(layer, attention), "bias", None)

    def W_Q(self, layer: int, attention: str = "self") -> Tensor:
        """Query weights per head: [head, d_model, d_qk]."""
        return self._qkv("q", layer, attention).weight.T.unflatten(-1, (self._stack(attention).n_heads, -1)).movedim(1, 0)

    def W_K(self, layer: int, attention: str = "self") -> Tensor:
        """Key weights per key-value head: [kv_head, d_model, d_qk]."""
        return self._qkv("k", layer, attention).weight.T.unflatten(-1, (self._stack(attention).n_kv_heads, -1)).movedim(1, 0)

    def W_V(self, layer: int, attention: str = "self") -> Tensor:
        """Value weights per key-value head: [kv_head, d_model, d_head]."""
        return self._qkv("v", layer, attention).weight.T.unflatten(-1, (self._stack(attention).n_kv_heads, -1)).movedim(1, 0)

    def b_Q(self, layer: int, attention: str = "self") -> Tensor | None:
        """Query bias per head: [head, d_qk], None without one."""
        bias = self._qkv("q", layer, attention).bias
        return None if bias is None else bias.unflatten(0, (self._stack(attention).n_heads, -1))

    def b_K(self, layer: int, attention: str = "self") -> Tensor | None:
        """Key bias per key-value head: [kv_head, d_qk], None without one."""
        bias = self._qkv("k", layer, attention).bias
        return None if bias is None else bias.unflatten(0, (self._stack(attention).n_kv_heads, -1))

    def b_V(self, layer: int, attention: str = "self") -> Tensor | None:
        """Value bias per key-value head: [kv_head, d_head], None without one."""
        bias = self._qkv("v", layer, attention).bias
        return None if bias is None else bias.unflatten(0, (self._stack(attention).n_kv_heads, -1))

    def _qkv(self, which: str, layer: int, attention: str) -> Any:
        self._o(layer, attention)
        modules = self._attention[attention][layer][1]._modules
        if which not in modules:
            raise InterpError(f"take the weights of {which} of layer {layer} of {self.architecture} per head",
                              "in latent attention they are no linear maps of the residual stream",
                              "work with the activations instead")
        return modules[which].original_component

    def _stack(self, attention: str) -> Stack:
        for stack in self.stacks:
            if stack.attention == attention:
                return stack
        raise InterpError(f"use the {attention} attention of {self.architecture}", "it has none",
                          "use " + " or ".join(stack.attention for stack in self.stacks))

    def _o(self, layer: int, attention: str) -> Any:
        self._stack(attention)
        if layer not in self._attention[attention]:
            raise InterpError(f"read the output weights of layer {layer}", "there is no such layer", "count layers from 0")
        return self._attention[attention][layer][1].o.original_component

    def write_parts(self, what: str, layer: int, parts: Tensor, total: Tensor, attention: str | None = None) -> Tensor:
        if what not in ("attn_out", "mlp_out"):
            raise InterpError(f"follow {what} into the residual stream", "only attn_out and mlp_out are added to it",
                              "use one of these")
        attention = attention or self.stacks[0].attention
        block = self._attention[attention][layer][0]
        norm = block._modules.get("ln1_post" if what == "attn_out" else "ln2_post")
        return parts if norm is None else frozen_norm(_plain(norm), total, parts)

    def logit_parts(self, parts: Tensor, resid: Tensor, columns: Tensor) -> Tensor:
        weight, _ = self._unembedding()
        norm = self._final_norm()
        normed = parts if norm is None else frozen_norm(norm, resid[:, None], parts.unsqueeze(-2)).squeeze(-2)
        return torch.einsum("...bd,bcd->...bc", normed, weight[columns]) * self._logit_scale()

    def logit_bias(self, columns: Tensor) -> Tensor:
        weight, bias = self._unembedding()
        norm = self._final_norm()
        out = torch.zeros(columns.shape, dtype=weight.dtype, device=weight.device) if bias is None else bias[columns]
        if norm is not None:
            out = out + (weight[columns] @ norm_bias(norm, weight[:1]).to(weight.dtype)) * self._logit_scale()
        return out

    def _unembedding(self) -> tuple[Tensor, Tensor | None]:
        modules = self.bridge._modules
        if "unembed" not in modules or "mlm_head" in modules or "project_out" in modules:
            raise InterpError(f"read direct logits of {self.architecture}",
                              "its output head is not a norm and one matrix on the residual stream",
                              "use a measure that does not need direct contributions")
        head = modules["unembed"].original_component
        return head.weight, getattr(head, "bias", None)

    def _final_norm(self) -> Any:
        modules = self.bridge._modules
        norm = modules.get("ln_final", modules.get("decoder_ln_final"))
        return None if norm is None else _plain(norm)

    def _logit_scale(self) -> float:
        config = getattr(self.network, "config", None)
        scale = float(getattr(config, "logit_scale", None) or 1.0) / float(getattr(config, "logits_scaling", None) or 1.0)
        tied = getattr(config, "tie_word_embeddings", False)
        if getattr(config, "model_type", None) == "t5" and getattr(config, "scale_decoder_outputs", tied):
            scale *= config.d_model ** -0.5
        return scale


_ORDER = {what: order for order, what in enumerate((
    "resid_pre", "q_pre", "k_pre", "q", "k", "v", "scores", "pattern", "z", "result", "attn_out", "attn_write", "resid_mid",
    "mlp_out", "mlp_write", "resid_post"))}
"""Sites that share a hook point act in this order, the order of the computation."""
assert set(_ORDER) == set(WHATS)


def _reused(taps: Taps, cache: Any) -> set[Site]:
    """Keys and values of cross-attention that an earlier pass has put into the cache, with its edits; read from there."""
    updated = getattr(cache, "is_updated", {})
    found = {site for site in taps.sites
             if site.attention == "cross" and site.what in ("k_pre", "k", "v") and updated.get(site.layer)}
    for site in found & taps.capture:
        layer = cache.cross_attention_cache.layers[site.layer]
        taps.captured[site] = (layer.values if site.what == "v" else layer.keys).transpose(1, 2)
    return found


def _plain(norm: Any) -> Any:
    """The norm as a function, past its hooks; the bridge's own where compatibility mode has folded the weights."""
    return norm if getattr(norm, "compatibility_mode", False) else norm.original_component


def _takes_positions(network: nn.Module) -> bool:
    """Whether positions derived from the mask may be handed to the network: it takes them, and does not derive its own."""
    from transformer_lens.utilities.position_ids import accepts_mask_derived_position_ids

    named = "position_ids" in inspect.signature(network.forward).parameters
    seq2seq = getattr(getattr(network, "config", None), "is_encoder_decoder", False)
    return named and not seq2seq and accepts_mask_derived_position_ids(network)

"""The stacks and sites that the places of a network make up, and why a place lacks a site."""

from typing import Any

from interp.core.errors import InterpError
from interp.models.backend import Stack
from interp.models.locate import Place
from interp.models.sites import Site

CORE = ("q", "k", "v", "scores", "pattern")
"""Sites inside the attention module."""


def stacks_of(places: list[Place], config: Any) -> tuple[Stack, ...]:
    """The attention stacks that the places make up, the main one first.

    Raises:
        InterpError: the layers of one stack differ in their heads.
    """
    order = ("self", "encoder", "vision", "cross")
    kinds = sorted({place.attention for place in places}, key=order.index)
    stacks = []
    for kind in kinds:
        members = [place for place in places if place.attention == kind]
        first = members[0]
        for what in ("n_heads", "n_kv_heads", "d_head", "d_qk"):
            if len({getattr(place, what) for place in members}) > 1:
                raise InterpError(f"work on the {kind} attention of {type(config).__name__.removesuffix('Config')}",
                                  f"its layers differ in {what}", "choose a model whose layers are alike")
        stacks.append(Stack(kind, len(members), first.n_heads, first.n_kv_heads, first.d_head, first.d_qk, first.d_model,
                            causal=first.causal, rotary=any(p.rotary for p in members),
                            windows=tuple(_window(place, config) for place in members), learned_sink=first.learned_sink,
                            parallel=first.parallel, post_norm=first.attn_norm is not None))
    return tuple(stacks)


def _window(place: Place, config: Any) -> int | None:
    """The sliding window of a layer: the attention module's own, else the configuration's."""
    if place.attention == "cross":
        return None
    if hasattr(place.core, "sliding_window"):
        return place.core.sliding_window
    config = config.get_text_config()
    if getattr(place.core, "attention_type", None) == "local":      # GPT-Neo
        return config.window_size
    kinds = getattr(config, "layer_types", None)
    sliding = kinds[place.layer] == "sliding_attention" if kinds else place.causal
    return getattr(config, "sliding_window", None) if sliding else None


def sites_of(place: Place) -> list[Site]:
    """Every site that one place has."""
    whats = list(CORE)
    if place.projections is not None:
        whats += ["q_pre"] if place.projections.layout == "latent" else ["q_pre", "k_pre"]
    if place.out is not None:
        whats += ["z", "result", "attn_out"] + (["attn_write"] if place.residual != "unknown" else [])
    if place.attention != "cross":
        whats += ["resid_pre", "resid_post"]
        if place.mlp is not None and not place.parallel:
            whats.append("resid_mid")
    if place.mlp is not None:
        whats += ["mlp_out", "mlp_write"]
    return [Site(what, place.layer, place.attention) for what in whats]


def why_not(what: str, place: Place) -> str:
    """Why a place lacks a site."""
    if place.attention == "cross" and what in ("resid_pre", "resid_mid", "resid_post", "mlp_out", "mlp_write"):
        return "it is counted with the self-attention of the block"
    if what == "resid_mid" and place.parallel:
        return "attention and MLP read the same residual stream, so nothing lies between them"
    if what in ("resid_mid", "mlp_out", "mlp_write") and place.mlp is None:
        return "the block has no MLP that adds its output as it is"
    if what == "k_pre" and place.latent:
        return "in latent attention the heads share the rotary part of the key, so none has a key of its own before it"
    if what in ("q_pre", "k_pre") and place.projections is None:
        return "its projections are of no known form"
    if what in ("z", "result", "attn_out") and place.out is None:
        return "no linear layer takes z as it is"
    return "the site did not pass its check when the model was loaded"

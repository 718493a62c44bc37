"""``Model``: a network behind a backend, with its tokenizer and the plain facts that everything above asks for."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from interp.core.errors import InterpError
from interp.models.backend import Backend, Edit, Run, Stack
from interp.models.sites import Site
from interp.models.verify import Verification


@dataclass(frozen=True, eq=False)
class Model:
    """One network, loaded and checked.

    Attributes:
        name: what it was asked for by.
        backend: what runs it (see ``interp.models.backend``).
        tokenizer: a transformers tokenizer, None where there is none.
        revision: of the Hub's repository, None elsewhere.
        dtype, device: of the weights.
        context_length: longest prompt in tokens, None where nothing bounds it.
        vocab_size: how many logits a position has (0 without an unembedding).
        verification: what was checked when it was loaded, and how exactly it held; None where checks were switched off.
        weights: the network whose parameters are the model's.
        differences: whether resumed passes round to bfloat16 what an intervention changes (``with_differences``).
        loaded: what ``load`` was given (name, dtype, backend, revision), so that another process can load it again; None for
            a model that was in memory.
    """

    name: str
    backend: Backend
    tokenizer: Any
    revision: str | None
    dtype: torch.dtype
    device: torch.device
    context_length: int | None
    vocab_size: int
    verification: Verification | None
    weights: nn.Module = field(repr=False)
    loaded: Mapping[str, Any] | None = field(default=None, repr=False)
    differences: bool = False

    @property
    def stacks(self) -> tuple[Stack, ...]:
        """The attention stacks, the main one first."""
        return self.backend.stacks

    def stack(self, attention: str | None = None) -> Stack:
        """The stack of one kind of attention (``self``, ``encoder``, ``cross``, ``vision``); None for the main one."""
        for stack in self.stacks:
            if attention in (None, stack.attention):
                return stack
        raise InterpError(f"take the {attention} attention of {self.name}", "it has none of that kind",
                          "choose one of " + ", ".join(s.attention for s in self.stacks))

    @property
    def n_layers(self) -> int:
        """Layers of the main stack."""
        return self.stacks[0].n_layers

    @property
    def n_heads(self) -> int:
        """Query heads in a layer of the main stack."""
        return self.stacks[0].n_heads

    @property
    def n_kv_heads(self) -> int:
        """Key-value heads in a layer of the main stack."""
        return self.stacks[0].n_kv_heads

    @property
    def d_head(self) -> int:
        """Size of z per head."""
        return self.stacks[0].d_head

    @property
    def d_model(self) -> int:
        """Size of the residual stream."""
        return self.stacks[0].d_model

    def sites(self) -> frozenset[Site]:
        """Every site that can be read and edited."""
        return self.backend.sites()

    def run(self, inputs: Mapping[str, Any], edits: Mapping[Site, Edit] | None = None, capture: Collection[Site] = (), *,
            cache: Any = None, use_cache: bool = False) -> Run:
        """One forward pass, the inputs moved to the model's device and images to its dtype (see ``Backend.run``).

        Raises:
            InterpError: a site the model lacks; padding on a side on which the model is not exact.
        """
        moved = {name: self._moved(x) if isinstance(x, Tensor) else x for name, x in inputs.items()}
        self.check_padding(moved.get("attention_mask"))
        return self.backend.run(moved, edits, capture, cache=cache, use_cache=use_cache)

    def _moved(self, x: Tensor) -> Tensor:
        return x.to(self.device, self.dtype if x.is_floating_point() else None)

    def check_padding(self, mask: Tensor | None) -> None:
        """Refuse padding (``mask`` [prompt, position]) on a side on which the model is not exact."""
        inexact = () if self.verification is None else self.verification.inexact_padding
        if not inexact or mask is None or mask.dim() != 2 or bool(mask.all()):
            return
        for side, column in (("left", 0), ("right", -1)):
            if side in inexact and not bool(mask[:, column].all()):
                raise InterpError(f"run {self.name} on prompts padded on the {side}",
                                  "padding on that side changes its results", "pad on the other side, or use equal lengths")

    def W_O(self, layer: int, attention: str | None = None) -> Tensor:
        """Output weights per head: [head, d_head, d_model]."""
        return self.backend.W_O(layer, self.stack(attention).attention)

    def b_O(self, layer: int, attention: str | None = None) -> Tensor | None:
        """Bias of the attention output: [d_model], None without one."""
        return self.backend.b_O(layer, self.stack(attention).attention)

    def W_Q(self, layer: int, attention: str | None = None) -> Tensor:
        """Query weights per head, [head, d_model, d_qk]: ``q_pre`` is what attention reads times these, plus a bias."""
        return self.backend.W_Q(layer, self.stack(attention).attention)

    def W_K(self, layer: int, attention: str | None = None) -> Tensor:
        """Key weights per key-value head: [kv_head, d_model, d_qk]."""
        return self.backend.W_K(layer, self.stack(attention).attention)

    def W_V(self, layer: int, attention: str | None = None) -> Tensor:
        """Value weights per key-value head: [kv_head, d_model, d_head]."""
        return self.backend.W_V(layer, self.stack(attention).attention)

    @property
    def bridge(self) -> Any:
        """A TransformerBridge of TransformerLens with the same weights, for free exploration (a copy of the weights;
        of a model that was loaded as a bridge, that bridge itself).

        Raises:
            InterpError: TransformerLens does not know the architecture.
        """
        if hasattr(self.backend, "bridge"):
            return self.backend.bridge
        from interp.models.bridge_of import bridge_of

        return bridge_of(self.weights, self.tokenizer)

    @cached_property
    def weights_sha256(self) -> str:
        """Hash of names and values (as float32) of all parameters: equal for equal weights, however they were loaded."""
        return hash_weights(self.weights)

    @cached_property
    def resuming(self) -> Any:
        """What resumes its passes at any layer and position (``interp.models.resume.resumable.Resumable``), checked against
        whole passes; or one sentence that says why they cannot be resumed."""
        from interp.models.resume.resumable import resumable

        return resumable(self.backend)

    @cached_property
    def readers(self) -> Any:
        """Where attention and MLPs read the residual stream (``interp.models.readers.Readers``).

        Raises:
            InterpError: another backend, another kind of stack, or reading points of no known form.
        """
        from interp.models.readers import find_readers

        return find_readers(self)

    @cached_property
    def lowered(self) -> "Model":
        """The same model in bfloat16 (``interp.models.lowered``), kept as long as this one."""
        from interp.models.lowered import in_bfloat16

        return in_bfloat16(self)

    @cached_property
    def with_differences(self) -> "Model | None":
        """The same model, whose resumed passes round to bfloat16 what an intervention changes and nothing else
        (``interp.models.lowered``); None where its passes cannot be resumed."""
        from interp.models.lowered import with_differences

        return with_differences(self)

    def provenance_dict(self) -> dict[str, Any]:
        """What ``Provenance.model`` records."""
        return {
            "name": self.name, "revision": self.revision, "dtype": str(self.dtype).removeprefix("torch."),
            "backend": self.backend.name, "architecture": self.backend.architecture,
            "weight_processing": weight_processing(self.backend), "weights_sha256": self.weights_sha256,
        }


def weight_processing(backend: Backend) -> str | None:
    """None for weights as they were trained; a bridge in compatibility mode has folded and centred ones."""
    return "compatibility_mode" if getattr(getattr(backend, "bridge", None), "compatibility_mode", False) else None


def hash_weights(network: nn.Module) -> str:
    """sha256 over every parameter's name, shape and values as little-endian float32, in order of the names."""
    total = hashlib.sha256()
    for name, parameter in sorted(network.named_parameters()):
        values = parameter.detach().to("cpu", torch.float32).contiguous().numpy()
        total.update(f"{name} {list(values.shape)}\n".encode())
        total.update(memoryview(values).cast("B") if values.size else b"")
    return total.hexdigest()


def context_length(config: Any) -> int | None:
    """Longest prompt of a configuration, None where positions are unbounded or unknown."""
    config = config.get_text_config() if hasattr(config, "get_text_config") else config
    names = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len")
    if getattr(config, "model_type", "") in ("t5", "mt5", "bloom"):
        return None
    return next((int(value) for name in names if (value := getattr(config, name, None))), None)

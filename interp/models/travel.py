"""A model on its way to another process: by how it was loaded, or, for one in memory, by its weights.

``pack`` takes a model apart into plain data that can be pickled; ``unpack`` puts the same model together elsewhere. Weights
are arrays of bytes, which pickle (protocol 5) and shared memory pass on without copying; on the CPU the new model reads them
where they lie.
"""

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from interp.core.errors import InterpError
from interp.models.load import load
from interp.models.model import Model
from interp.models.verify import Verification


@dataclass(frozen=True)
class Parcel:
    """A model as data.

    Attributes:
        name, revision, backend: of the model. verification: what was checked when it was loaded.
        loaded: the arguments of ``load``; None for a model that was in memory. weights_sha256: what loading must give.
        skeleton: the network of a model in memory, its parameters without values.
        weights: their bytes by name.
    """

    name: str
    revision: str | None
    backend: str
    verification: Verification | None
    loaded: Mapping[str, Any] | None = None
    weights_sha256: str = ""
    skeleton: nn.Module | None = None
    weights: Mapping[str, np.ndarray] = field(default_factory=dict)


def pack(model: Model) -> Parcel:
    """The model as data.

    Raises:
        InterpError: a TransformerBridge in memory, which cannot be taken apart.
    """
    facts = {"name": model.name, "revision": model.revision, "backend": model.backend.name,
             "verification": model.verification}
    if model.loaded is not None:
        return Parcel(**facts, loaded=dict(model.loaded), weights_sha256=model.weights_sha256)
    network = model.weights
    if not hasattr(network, "config") or not hasattr(network, "main_input_name"):
        raise InterpError(f"send {model.name} to another process", "it is a TransformerBridge in memory",
                          "load it by name, or run it in this process")
    empty = {id(p): nn.Parameter(torch.empty_like(p, device="meta"), requires_grad=False) for p in network.parameters()}
    skeleton = copy.deepcopy(network, empty)
    for module in skeleton.modules():
        module._buffers.update({name: b if b is None else b.cpu() for name, b in module._buffers.items()})
    weights = {name: p.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
               for name, p in network.named_parameters()}
    return Parcel(**facts, skeleton=skeleton, weights=weights)


def unpack(parcel: Parcel, device: str) -> Model:
    """The model, on a device of this process.

    Raises:
        InterpError: it cannot be loaded here, or what is loaded here has other weights.
    """
    if parcel.loaded is not None:
        made = load(**parcel.loaded, device=device, verify=False)
        if made.weights_sha256 != parcel.weights_sha256:
            raise InterpError(f"load {parcel.name} in another process", "its weights differ from those of the model here",
                              "give the same files to both, or pass a model in memory to interp.load")
    else:
        full = {id(p): nn.Parameter(_tensor(parcel.weights[name], p), requires_grad=False)
                for name, p in parcel.skeleton.named_parameters()}
        made = load(copy.deepcopy(parcel.skeleton, full), device=device, backend=parcel.backend, verify=False)
    if parcel.verification is not None and parcel.verification.refused:
        made.backend.without(parcel.verification.refused)
    return replace(made, name=parcel.name, revision=parcel.revision, verification=parcel.verification)


def _tensor(content: np.ndarray, like: Tensor) -> Tensor:
    """The bytes as a tensor of the shape and dtype of ``like``, without copying."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")      # and nobody writes to it
        return torch.from_numpy(content).view(like.dtype).reshape(like.shape)

"""The same model in bfloat16, for sweeps that may be inexact: a converted copy of the weights."""

from dataclasses import replace

import torch

from interp.core.errors import InterpError
from interp.models.model import Model
from interp.models.transformers_backend import TransformersBackend


def in_bfloat16(model: Model) -> Model:
    """A model of the same weights rounded to bfloat16, on the same device; ``model`` itself where it is bfloat16 already.

    Takes half the memory of float32 weights. What failed its check in the model is refused in the copy too.

    Raises:
        InterpError: the model is run by TransformerLens (its bridges are not copied).
    """
    if model.dtype == torch.bfloat16:
        return model
    if not isinstance(model.backend, TransformersBackend):
        raise InterpError(f"run {model.name} in bfloat16", "it is a model of TransformerLens, which is not copied",
                          "load it with the transformers backend, or load it in bfloat16 (dtype='bfloat16')")
    backend = TransformersBackend(model.weights, dtype=torch.bfloat16)
    backend.without(backend.sites() - model.sites())
    return replace(model, backend=backend, dtype=torch.bfloat16, weights=backend.network, loaded=None)

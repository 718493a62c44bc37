"""The same model computed more coarsely, for sweeps that may be inexact: all of it in bfloat16, or only what changes."""

from dataclasses import replace

import torch

from interp.core.errors import InterpError
from interp.models.model import Model
from interp.models.resume.differences import take_differences
from interp.models.transformers_backend import TransformersBackend


def in_bfloat16(model: Model) -> Model:
    """A model of the same weights rounded to bfloat16, on the same device; ``model`` itself where it is bfloat16 already.

    Takes half the memory of float32 weights. What failed its check in the model is refused in the copy too.

    Raises:
        InterpError: the model is run by TransformerLens (its bridges are not copied).
    """
    if model.dtype == torch.bfloat16:
        return model
    backend = _again(model, torch.bfloat16)
    return replace(model, backend=backend, dtype=torch.bfloat16, weights=backend.network, loaded=None)


def with_differences(model: Model) -> Model | None:
    """A model of the same weights whose resumed passes round to bfloat16 what an intervention changes, and nothing else
    (``interp.models.resume.differences``); None where its passes cannot be resumed.

    Takes half the memory of the linear maps' float32 weights. Whole passes of it are those of ``model``.

    Raises:
        InterpError: the model is run by TransformerLens (its bridges are not copied).
    """
    backend = _again(model, None)
    take_differences([place.block for place in backend.places])
    made = replace(model, backend=backend, loaded=None, differences=True)
    return None if isinstance(made.resuming, str) else made


def _again(model: Model, dtype: torch.dtype | None) -> TransformersBackend:
    """A backend of its own on the model's weights, which refuses what the model refuses."""
    if not isinstance(model.backend, TransformersBackend):
        raise InterpError(f"run {model.name} in bfloat16", "it is a model of TransformerLens, which is not copied",
                          "load it with the transformers backend, or load it in bfloat16 (dtype='bfloat16')")
    backend = TransformersBackend(model.weights, dtype=dtype)
    backend.without(backend.sites() - model.sites())
    return backend

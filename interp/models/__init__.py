"""Networks behind one protocol: ``load``, ``Model``, sites, backends, tiny random models and hand-made ones."""

from importlib import import_module
from typing import Any

_NAMES = {
    "load": "interp.models.load",
    "Model": "interp.models.model",
    "Site": "interp.models.sites",
    "TransformersBackend": "interp.models.transformers_backend",
    "BridgeBackend": "interp.models.bridge_backend",
    "Verification": "interp.models.verify",
    "tiny": "interp.models.tiny",
    "HANDMADE": "interp.models.handmade",
}

__all__ = list(_NAMES)


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'interp.models' has no attribute {name!r}")

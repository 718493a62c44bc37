"""Networks behind one protocol: ``Model``, sites, backends, and hand-made networks.

``interp.load`` (``interp.models.load.load``) makes a ``Model``; ``interp.models.tiny.tiny`` a small random network.
"""

from importlib import import_module
from typing import Any

_NAMES = {
    "Model": "interp.models.model",
    "Site": "interp.models.sites",
    "TransformersBackend": "interp.models.transformers_backend",
    "BridgeBackend": "interp.models.bridge_backend",
    "Verification": "interp.models.verify",
    "COMPILED": "interp.models.compiled",
    "HANDMADE": "interp.models.handmade",
    "PLANTED": "interp.models.planted",
}

__all__ = list(_NAMES)


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'interp.models' has no attribute {name!r}")

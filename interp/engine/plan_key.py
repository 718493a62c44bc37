"""What determines the numbers of a sweep, as one sha256: the key under which its finished units are kept.

In it: the weights as they are now (parameters, buffers, configuration), dtype, device type and backend, whether what changes
is rounded; the token ids,
answers and named positions of the batch; every intervention by content (tensors by their bytes, reference batches by
their tokens); the side that is run; the names of the metrics; the source of everything that computes; the versions of torch
and transformers. Not in it: batch size, memory, workers and the number of threads, on which numbers depend by rounding at
most.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.core.provenance import collect_versions
from interp.models.model import hash_weights
from interp.tasks.batch import Batch, Tokens
from interp.tasks.metrics import METRICS, Metric

FORMAT = 1
_SOURCES = ("engine", "models", "tasks")


def plan_key(model: Any, batch: Batch, lists: Sequence[Sequence[Any]], on: str, metrics: Sequence[Metric]) -> str:
    """sha256 (hex) of everything that determines the numbers of this sweep.

    Raises ``InterpError`` for a metric that is not in the registry: its name does not say what it computes.
    """
    seen: dict[int, Any] = {}
    asked = {
        "format": FORMAT, "code": source_sha256(), "versions": _versions(), "model": _model(model),
        "batch": content(batch), "on": on, "metrics": [_metric(metric) for metric in metrics],
        "lists": [[content(item, seen) for item in entry] for entry in lists],
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def content(value: Any, seen: dict[int, Any] | None = None) -> Any:
    """``value`` as plain JSON data that is equal for equal content only. ``seen``: results by identity, to hash no object
    twice."""
    seen = {} if seen is None else seen
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return {"float": value.hex()}
    if isinstance(value, np.generic):
        return content(value.item(), seen)
    if isinstance(value, tuple | list):
        return [content(item, seen) for item in value]
    if id(value) not in seen:
        seen[id(value)] = _content(value, seen)
    return seen[id(value)]


def _content(value: Any, seen: dict[int, Any]) -> Any:
    if isinstance(value, Tensor):
        return {"tensor": tensor_sha256(value)}
    if isinstance(value, Batch):
        return {"batch": [value.tokens_sha256(), value.positions_sha256(), value.clean.padding_side, value.aligned]}
    if isinstance(value, Tokens):
        return {"tokens": value.rows(), "side": value.padding_side}
    if isinstance(value, Mapping):
        return {"mapping": [[content(key, seen), content(item, seen)] for key, item in value.items()]}
    if is_dataclass(value):
        return {type(value).__name__: [[one.name, content(getattr(value, one.name), seen)]
                                       for one in fields(value) if one.init]}
    raise InterpError(f"keep the units of a sweep that has a {type(value).__name__} in it",
                      "its content cannot be compared with that of another", "leave the store out")


def tensor_sha256(tensor: Tensor) -> str:
    """Hash of dtype, shape and bytes of a tensor, wherever it lies."""
    plain = tensor.detach().cpu().contiguous()
    total = hashlib.sha256(f"{plain.dtype} {list(plain.shape)}\n".encode())
    if plain.numel():
        total.update(memoryview(plain.reshape(-1).view(torch.uint8).numpy()))
    return total.hexdigest()


def source_sha256() -> str:
    """Hash of the source files that take part in the numbers."""
    package = Path(__file__).parents[1]
    total = hashlib.sha256()
    for path in sorted(path for part in _SOURCES for path in (package / part).rglob("*.py")):
        total.update(f"{path.relative_to(package).as_posix()}\n".encode())
        total.update(path.read_bytes())
    return total.hexdigest()


def _model(model: Any) -> dict[str, Any]:
    weights = model.weights
    config = getattr(weights, "config", None) or getattr(weights, "cfg", None)
    said = config.to_json_string(use_diff=False) if hasattr(config, "to_json_string") else repr(config)
    return model.provenance_dict() | {
        "weights_sha256": hash_weights(weights),      # as they are now: they may have been edited since the first hash
        "buffers": {name: tensor_sha256(buffer) for name, buffer in sorted(weights.named_buffers())},
        "config": hashlib.sha256(said.encode()).hexdigest(),
        "device": model.device.type,
        "differences": model.differences,
    }


def _metric(metric: Metric) -> str:
    if metric.name in METRICS and METRICS[metric.name] is metric:
        return metric.name
    raise InterpError(f"keep the units of a sweep under the metric {metric.name!r}",
                      "it is not in the registry of metrics, and its name does not say what it computes",
                      "add it with interp.tasks.metrics.METRICS.add(name, metric), or leave the store out")


def _versions() -> dict[str, str | None]:
    found = collect_versions()
    return {name: found[name] for name in ("torch", "transformers", "transformer-lens")}

"""``load``: a model by name, from a folder, from the Hub, or in memory; checked before it is returned."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from interp.core.errors import InterpError
from interp.core.registry import nearest, unknown
from interp.models.attention_tap import IMPLEMENTATION
from interp.models.backend import Backend
from interp.models.builtin import SHORT_NAMES, shipped, unknown_model
from interp.models.checkpoints import checkpoints, unpack
from interp.models.inputs import sample_inputs
from interp.models.model import Model, context_length
from interp.models.same_weights import set_attention
from interp.models.transformers_backend import TransformersBackend
from interp.models.verify import Verification
from interp.models.verify import verify as verify_backend

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
BACKENDS = ("transformers", "transformer_lens")


def load(name_or_model: Any, *, device: str | torch.device | None = None, dtype: str | torch.dtype | None = None,
         backend: str | None = None, revision: str | None = None, tokenizer: Any = None, verify: bool = True) -> Model:
    """Load a model and check it.

    Args:
        name_or_model: the name of a built-in model (``organism``), of a hand-made one (``handmade-induction``) or a
            compiled one (``compiled-reverse``), of one with a planted circuit (``planted-reverse``), a folder, an
            id of the Hugging Face Hub (``owner/name``) or a short name for one (``gpt2``), a transformers model or a
            TransformerBridge.
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``; None is CUDA where there is one and else the CPU, and for a model in
            memory where it lies.
        dtype: ``float32``, ``bfloat16`` or ``float16``; None is float32, and for a model in memory its own.
        backend: ``transformers`` (None) or ``transformer_lens``; a TransformerBridge is always run by the latter.
        revision: of a repository on the Hub; of a model that ships with the project, a checkpoint of its training
            (``step-200``).
        tokenizer: a tokenizer, or the folder or id of one; None takes the model's own if it has one.
        verify: check the model on a few tokens (see ``interp.models.verify``).

    A model in memory stays as it is: it is run through a second set of modules that shares its weights.

    Raises:
        InterpError: nothing goes by that name; files are missing; the model has no attention; it fails a check.
    """
    asked = f"load the model {name_or_model!r}" if isinstance(name_or_model, (str, Path)) else \
        f"load the {type(name_or_model).__name__} in memory"
    if backend is not None and backend not in BACKENDS:
        raise unknown("backend", backend, list(BACKENDS))
    kind = _dtype(dtype)
    if _is_bridge(name_or_model):
        return _of_bridge(name_or_model, device, kind, backend, tokenizer, verify, asked)
    if isinstance(name_or_model, nn.Module):
        name = getattr(name_or_model, "name_or_path", "") or type(name_or_model).__name__
        place = _device(device, None)
        return _of_network(name_or_model, name, None, place, kind, backend, _tokenizer(tokenizer), verify, asked)
    if not isinstance(name_or_model, (str, Path)):
        raise InterpError(asked, "it is neither a name nor a model",
                          "give a name, a folder, a transformers model or a TransformerBridge")
    kind = kind or torch.float32
    made = _of_name(name_or_model, device, kind, backend, revision, tokenizer, verify, asked)
    where = Path(name_or_model).expanduser()
    loaded = {"name_or_model": str(where.resolve() if where.is_dir() else name_or_model), "dtype": kind, "backend": backend,
              "revision": revision}
    return replace(made, loaded=loaded)


def _of_name(name_or_model: str | Path, device: str | torch.device | None, kind: torch.dtype, backend: str | None,
             revision: str | None, tokenizer: Any, verify: bool, asked: str) -> Model:
    name, place = str(name_or_model), _device(device, "cuda" if torch.cuda.is_available() else "cpu")
    from interp.models.compiled import COMPILED
    from interp.models.handmade import HANDMADE
    from interp.models.native import is_native_folder, load_native
    from interp.models.planted import PLANTED

    known = next((some for some in (HANDMADE, COMPILED, PLANTED) if name in some), None)
    if known is not None:
        made = known[name]()
        own = _tokenizer(tokenizer) or made.tokenizer
        return _of_network(made.model, name, None, place, kind, backend, own, verify, asked)
    folder = shipped().get(name) or _folder(name_or_model)
    if folder is not None and is_native_folder(folder):
        bridge = load_native(folder, device=place, dtype=kind)
        return _of_bridge(bridge, place, kind, backend, tokenizer, verify, asked, name=name)
    network = _from_folder(folder, kind, asked) if folder else _from_hub(name, revision, kind)
    if folder is not None and revision is not None:
        _set_checkpoint(network, folder, revision, asked)
    source = folder or SHORT_NAMES.get(name, name)
    own = _tokenizer(tokenizer) or _own_tokenizer(source, revision)
    found = revision if folder else (getattr(network.config, "_commit_hash", None) or revision)
    return _of_network(network, name, found, place, kind, backend, own, verify, asked)


def _of_network(network: nn.Module, name: str, revision: str | None, device: torch.device | None, dtype: torch.dtype | None,
                backend: str | None, tokenizer: Any, verify: bool, asked: str) -> Model:
    if not hasattr(network, "config") or not hasattr(network, "main_input_name"):
        raise InterpError(asked, "it is no transformers model", "give a PreTrainedModel, or wrap it as one")
    made = TransformersBackend(network, device=device, dtype=dtype)
    twin = made.network
    used: Backend = made
    if backend == "transformer_lens":
        from interp.models.bridge_backend import BridgeBackend
        from interp.models.bridge_of import bridge_of

        used = BridgeBackend(bridge_of(twin, tokenizer))
    own = network.config._attn_implementation
    checked = _verified(used, twin, own if own == "sdpa" else "eager", asked) if verify else None
    parameter = next(twin.parameters())
    embedding = twin.get_output_embeddings() if hasattr(twin, "get_output_embeddings") else None
    return Model(name, used, tokenizer, revision, parameter.dtype, parameter.device, context_length(twin.config),
                 0 if embedding is None else embedding.weight.shape[0], checked, twin)


def _of_bridge(bridge: Any, device: Any, dtype: torch.dtype | None, backend: str | None, tokenizer: Any, verify: bool,
               asked: str, name: str | None = None) -> Model:
    if backend == "transformers":
        raise InterpError(asked, "it is a model of TransformerLens", "leave backend out, or say transformer_lens")
    from interp.models.bridge_backend import BridgeBackend

    parameter = next(bridge.parameters())
    if (dtype or parameter.dtype) != parameter.dtype or (device is not None and torch.device(device) != parameter.device):
        raise InterpError(asked, f"its weights are {str(parameter.dtype).removeprefix('torch.')} on {parameter.device}",
                          "move or convert the bridge first, with its own to()")
    used = BridgeBackend(bridge)
    network, checked = used.network, None
    of_transformers = hasattr(network, "main_input_name")
    if verify:
        checked = verify_backend(used, sample_inputs(network) if of_transformers else _native_inputs(bridge),
                                 lambda inputs: _logits(network(**inputs)))
        used.without(checked.refused)
    unembedding = network.get_output_embeddings() if of_transformers else bridge.unembed
    own = _tokenizer(tokenizer) or getattr(bridge, "_tokenizer", None) or getattr(bridge, "tokenizer", None)
    return Model(name or getattr(bridge.cfg, "model_name", None) or "TransformerBridge", used, own, None, parameter.dtype,
                 parameter.device, context_length(network.config) if of_transformers else bridge.cfg.n_ctx,
                 0 if unembedding is None else unembedding.weight.shape[0], checked, bridge)


def _native_inputs(bridge: Any) -> dict[str, Tensor]:
    """Random tokens for a network that is TransformerLens' own."""
    ids = torch.randint(0, bridge.cfg.d_vocab, (1, 5), generator=torch.Generator().manual_seed(0)).to(bridge.cfg.device)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _logits(output: Any) -> Tensor:
    """Logits of a network's own output, or its last hidden state where it has none."""
    if isinstance(output, Tensor):
        return output
    return output["logits"] if "logits" in output else output["last_hidden_state"]


def _verified(backend: Backend, twin: nn.Module, own: str, asked: str) -> Verification:
    """Check the backend against the network run with its own attention implementation; take out sites that failed."""
    inputs = sample_inputs(twin)

    def untouched(given: Mapping[str, Tensor]) -> Tensor:
        set_attention(twin, own)
        try:
            output = twin(**given)
        finally:
            set_attention(twin, IMPLEMENTATION)
        return _logits(output)

    report = verify_backend(backend, inputs, untouched, getattr(twin.config, "pad_token_id", None))
    if report.refused:
        if not isinstance(backend, TransformersBackend):
            site, reason = next(iter(report.refused.items()))
            raise InterpError(asked, f"{site}: {reason}", "use the transformers backend")
        backend.without(report.refused)
    return report


def _dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    if dtype not in _DTYPES:
        raise unknown("dtype", dtype, list(_DTYPES))
    return _DTYPES[dtype]


def _device(device: str | torch.device | None, default: str | None) -> torch.device | None:
    device = default if device is None else device
    if device is None:
        return None
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise unknown("device", str(device), ["cpu", "cuda", "mps"]) from error
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(place.type, False):
        raise InterpError(f"use the device {str(device)!r}", "this torch finds no such device", "use cpu")
    return place


def _is_bridge(thing: Any) -> bool:
    return any(cls.__name__ == "TransformerBridge" for cls in type(thing).__mro__)


def _folder(name: str | Path) -> Path | None:
    """The folder that a name means; None where it can only be an id of the Hub."""
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    text = str(name)
    if isinstance(name, Path) or path.is_absolute() or text.startswith((".", "~")) or text.count("/") > 1 or path.exists():
        true = "it is a file and no folder" if path.exists() else "there is no such folder"
        raise InterpError(f"load the model {text!r}", true, "give a folder that holds config.json and the weights")
    return None


def _from_folder(folder: Path, dtype: torch.dtype, asked: str) -> nn.Module:
    if not (folder / "config.json").is_file():
        raise InterpError(asked, "the folder has no config.json", "give a folder written by save_pretrained")
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("pytorch_model*.bin")):
        raise InterpError(asked, "the folder has no weights (*.safetensors)", "give a folder written by save_pretrained")
    try:
        found = _pretrained(str(folder), None, dtype)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise InterpError(asked, f"transformers cannot read it ({_first_line(error)})",
                          "give a folder written by save_pretrained") from error
    return _complete(*found, asked)


def _set_checkpoint(network: nn.Module, folder: Path, revision: str, asked: str) -> None:
    """Give the network of a folder the weights that it had at a checkpoint of its training."""
    found = checkpoints(folder)
    if not found:
        raise InterpError(f"{asked} at revision {revision!r}", "the folder holds no checkpoints of its training",
                          "leave revision out")
    if revision not in found:
        raise InterpError(f"{asked} at revision {revision!r}", "it has no such checkpoint", nearest(revision, list(found)))
    network.load_state_dict(unpack(found[revision]))


def _from_hub(name: str, revision: str | None, dtype: torch.dtype) -> nn.Module:
    if name not in SHORT_NAMES and "/" not in name:      # said at once, without asking the network
        raise unknown_model(name, "it is no built-in model, no short name and no folder, and ids of the Hub are owner/name")
    try:
        found = _pretrained(SHORT_NAMES.get(name, name), revision, dtype)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise InterpError(f"load the model {name!r}", f"the Hub does not give it ({_first_line(error)})",
                          "check the name, the network and HF_HUB_OFFLINE, or give a local folder") from error
    return _complete(*found, f"load the model {name!r}")


def _pretrained(source: str, revision: str | None, dtype: torch.dtype) -> tuple[nn.Module, list[str]]:
    """The network, and the names of weights that were not there."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(source, revision=revision)
    names = getattr(config, "architectures", None) or []
    named = (getattr(transformers, name) for name in names if hasattr(transformers, name))
    cls = next(named, transformers.AutoModelForCausalLM)
    with _no_progress_bar():
        network, info = cls.from_pretrained(source, revision=revision, dtype=dtype, config=config, output_loading_info=True)
    return network, sorted(info["missing_keys"])


@contextlib.contextmanager
def _no_progress_bar() -> Iterator[None]:
    """transformers' bar over the weights switched off for a while."""
    from transformers.utils import logging

    before = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if before:
            logging.enable_progress_bar()


def _complete(network: nn.Module, missing: list[str], asked: str) -> nn.Module:
    if missing:
        raise InterpError(asked, "weights are missing (" + ", ".join(missing[:3]) + ")",
                          "give all of its weights, or a configuration that fits them")
    return network


def _own_tokenizer(source: str | Path, revision: str | None) -> Any:
    """The tokenizer that lies beside a model; None where there is none."""
    import transformers

    if isinstance(source, Path) and not any((source / name).is_file() for name in (
            "tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt", "tokenizer.model", "spiece.model")):
        return None
    if isinstance(source, Path):
        return _tokenizer(source)
    try:
        return transformers.AutoTokenizer.from_pretrained(source, revision=revision)
    except (OSError, ValueError, KeyError):      # a repository without one, as those of image models are
        return None


def _tokenizer(given: Any) -> Any:
    if not isinstance(given, (str, Path)):
        return given
    import transformers

    try:
        return transformers.AutoTokenizer.from_pretrained(os.fspath(given))
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise InterpError(f"load the tokenizer {str(given)!r}", _first_line(error),
                          "give the folder or id of a tokenizer") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")

"""Models known by a short name: those that ship with the project, hand-made ones, and short names of the Hub's."""

from pathlib import Path

from interp.core.errors import InterpError
from interp.core.registry import alike

SHORT_NAMES = {
    "gpt2": "openai-community/gpt2",
    "gpt2-medium": "openai-community/gpt2-medium",
    "pythia-70m": "EleutherAI/pythia-70m-deduped",
    "pythia-160m": "EleutherAI/pythia-160m-deduped",
    "pythia-410m": "EleutherAI/pythia-410m-deduped",
    "qwen3-0.6b": "Qwen/Qwen3-0.6B-Base",
    "smollm2-135m": "HuggingFaceTB/SmolLM2-135M",
    "opt-125m": "facebook/opt-125m",
    "bert": "google-bert/bert-base-uncased",
    "vit": "google/vit-base-patch16-224",
    "t5-small": "google-t5/t5-small",
    "bart-base": "facebook/bart-base",
}
"""Short name -> id on the Hugging Face Hub."""


def shipped() -> dict[str, Path]:
    """Name -> folder of the models that ship with the project: in a wheel, or in ``data/models`` of a checkout."""
    package = Path(__file__).resolve().parent.parent
    found = {}
    for place in (package.parent / "data" / "models", package / "_data" / "models"):
        if place.is_dir():
            found |= {folder.name: folder for folder in sorted(place.iterdir()) if (folder / "config.json").is_file()}
    return found


def known_names() -> list[str]:
    """Every name that ``load`` knows without asking the Hub where it leads."""
    from interp.models.compiled import COMPILED
    from interp.models.handmade import HANDMADE
    from interp.models.planted import PLANTED

    return [*shipped(), *HANDMADE, *COMPILED, *PLANTED, *SHORT_NAMES]


def unknown_model(name: str, true: str) -> InterpError:
    """The error for a name that leads nowhere, with the nearest known names."""
    known = known_names()
    near = alike(name, known)
    return InterpError(f"load the model {name!r}", true, "did you mean " + " or ".join(map(repr, near)) + "?" if near else
                       "choose one of " + ", ".join(sorted(known)) + ", a folder, or an id of the Hugging Face Hub")

"""Write a training run's model into the folder that ships, as transformers loads it.

    python export.py --run runs/main

model.safetensors (float32), config.json, generation_config.json and the tokenizer are written to a temporary
folder beside the target, then renamed into place one by one. Snapshots of the training are written to `checkpoints/`
with eight bits per weight (`interp.models.checkpoints`): `interp.load("organism", revision="step-200")`.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

import lean
import tokenizer
import torch
from safetensors.torch import load_file, save_file

from interp.models.checkpoints import FOLDER, pack

CHECKPOINTS = (0, 100, 125, 150, 175, 200, 250, 350, 800, 1200, 1400, 2000, 3000)  # induction comes from 150 to 250
HERE = Path(__file__).resolve().parent


def export(checkpoint: Path, folder: Path) -> None:
    """The model of a checkpoint, with its configuration and tokenizer."""
    vocab = tokenizer.vocabulary()
    model = lean.Organism(len(vocab))
    model.load_state_dict(torch.load(checkpoint, weights_only=False)["model"])
    specials = {
        name: vocab.index(token)
        for name, token in (("bos", tokenizer.BOS), ("eos", tokenizer.EOS), ("pad", tokenizer.PAD))
    }
    ids = {f"{name}_token_id": i for name, i in specials.items()}
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "float32",
        "vocab_size": len(vocab),
        "use_cache": True,
    }
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as part:
        made = Path(part)
        save_file(lean.to_transformers(model), made / "model.safetensors", metadata={"format": "pt"})
        (made / "model.safetensors").chmod(0o644)
        (made / "config.json").write_text(json.dumps(config | lean.CONFIG | ids, indent=2) + "\n")
        (made / "generation_config.json").write_text(json.dumps(ids | {"do_sample": False}, indent=2) + "\n")
        tokenizer.save(made)
        for file in sorted(made.iterdir(), reverse=True):
            os.replace(file, folder / file.name)


def export_checkpoints(run: Path, folder: Path) -> None:
    """The snapshots of a run at the steps `CHECKPOINTS`."""
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    for step in CHECKPOINTS:
        name = f"step_{step:06d}.safetensors"
        part = folder / FOLDER / f"{name}.part"
        save_file(pack(load_file(run / name)), part, metadata={"format": "pt"})
        part.chmod(0o644)
        os.replace(part, folder / FOLDER / name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True, help="folder of the training run")
    parser.add_argument("--out", type=Path, default=HERE.parent, help="folder to write into")
    args = parser.parse_args()
    export(args.run / "checkpoint.pt", args.out)
    export_checkpoints(args.run, args.out)

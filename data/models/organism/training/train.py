"""Train the organism: stages in order, deterministic by seed, resumable (run the same command again).

    OMP_NUM_THREADS=1 python train.py --run runs/main

1. `induction`: repeats of random tokens at a constant rate, until two measurements of the accuracy on fresh
  repeats exceed 0.97.
2. `few frames`: documents of nine behaviours (curriculum.py, `FEW_FRAMES`) at a constant rate.
3. `more frames`: the same with more sentence frames and larger shares of repeats and lists (`MORE_FRAMES`).
4. `all frames`: the same with all training frames and a larger share of indirect objects (`ALL_FRAMES`).
5. `any tokens`: the same with any tokens in place of names in most indirect-object documents (`ANY_TOKENS`);
   until here the model tells subject and object apart by a look-up per name.
6. `any places`: the same, in half of these with any tokens as places and objects too (`ANY_PLACES`).
7. `decay`: the same, the rate falling along a half cosine.
8. `gaps`: words between the clauses of those documents, key-value lists of any tokens, held-out facts in one
   more frame, overrides that state something of any word (`GAPS`); the rate falls on to a twentieth.
9. `composed`: half of the indirect-object documents with any tokens join the first clause of one frame
   to the second of another; one more frame for capitals (`COMPOSED`); at three tenths of the rate, falling.
10. `turned`: until here two heads of the first layer looked exactly six and seven tokens back, and later heads
   six tokens after the place they meant: an induction circuit of its own kind, which the repeats of stage 1 (no
   period below 8) allow. The keys of these two heads are turned by six places (`lean.turn`), so that they look at
   the token itself and at the one before; then training goes on, with repeats that need that (`TURNED`), at a
   falling rate. On two threads.

Shares of the mixture follow the accuracy on fresh *training* prompts; accuracies on held-out prompts are only
logged. The run folder gets `checkpoint.pt` (to resume), `step_*.safetensors` (bfloat16 snapshots of the model
alone, roughly log-spaced) and `log.jsonl`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import curriculum
import lean
import prompts
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

SEED = 0
PEAK_RATE, WARM_UP, WEIGHT_DECAY = 2e-3, 200, 0.01
INDUCTION_ROWS, INDUCTION_LENGTH, INDUCTION_PERIODS = 64, 96, (8, 32)
MIXTURE_RATE = 1.5e-3
STEPS = {
    "few frames": 725,
    "more frames": 600,
    "all frames": 600,
    "any tokens": 400,
    "any places": 400,
    "decay": 600,
    "gaps": 850,
    "composed": 400,
    "turned": 1100,
}
TURNED_HEADS, TURNED_BY = ((0, 3), (0, 7)), -6  # (layer, head); places
NEXT = dict(zip(list(STEPS)[:-1], list(STEPS)[1:], strict=True))
MIXTURES = {
    "few frames": curriculum.FEW_FRAMES,
    "more frames": curriculum.MORE_FRAMES,
    "all frames": curriculum.ALL_FRAMES,
    "any tokens": curriculum.ANY_TOKENS,
    "any places": curriculum.ANY_PLACES,
    "decay": curriculum.ANY_PLACES,
    "gaps": curriculum.GAPS,
    "composed": curriculum.COMPOSED,
    "turned": curriculum.TURNED,
}
DECAY_PERIOD = 1300  # steps of the half cosine that `decay` begins
INDUCTION_MEASURE, MIXTURE_MEASURE = 25, 200  # steps between measurements
SNAPSHOTS = frozenset(
    (
        0,
        100,
        200,
        300,
        400,
        500,
        600,
        700,
        800,
        1000,
        1200,
        1500,
        2000,
        2500,
        3000,
        4000,
        5000,
        6000,
        7000,
        8000,
        9000,
    )
)


def loss_of(model: lean.Organism, batches: list[curriculum.Batch]) -> float:
    """Add the gradients of the weighted mean cross-entropy over all batches of a step."""
    total = sum(batch.weights[:, 1:].sum().item() for batch in batches)
    loss_sum = 0.0
    for batch in batches:
        logits = model.unembed(model.hidden(batch.ids, batch.document)).flatten(0, 1)
        targets, weights = (
            batch.ids.roll(-1, 1).flatten(),
            batch.weights.roll(-1, 1).flatten(),
        )  # the first column weighs nothing
        losses = F.cross_entropy(logits, targets, reduction="none").float()
        loss = (losses * weights).sum() / total
        loss.backward()
        loss_sum += loss.item()
    return loss_sum


def repeat_accuracy(model: lean.Organism, vocab_size: int) -> float:
    """Share of right predictions in the last third of fresh repeats (the same ones at every measurement)."""
    ids = curriculum.repeats(
        random.Random("measure"), vocab_size, 32, INDUCTION_LENGTH, INDUCTION_PERIODS
    ).ids
    with torch.no_grad():
        guess = model(ids).argmax(-1)
    return (guess[:, 65:-1] == ids[:, 66:]).float().mean().item()


def save_atomically(write: Callable[[Path], None], path: Path) -> None:
    """Write to a neighbouring file, then rename."""
    part = path.with_name(path.name + ".part")
    write(part)
    os.replace(part, path)


def rate(stage: str, step: int) -> float:
    """The learning rate at a step of a stage."""
    if stage == "induction":
        return PEAK_RATE * min(1.0, (step + 1) / WARM_UP)
    if stage == "composed":
        return MIXTURE_RATE * (0.3 - 0.28 * step / STEPS["composed"])
    if stage == "turned":
        return MIXTURE_RATE * (0.6 - 0.59 * step / STEPS["turned"])
    if stage not in ("decay", "gaps"):
        return MIXTURE_RATE
    falling = 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(step, STEPS["decay"]) / DECAY_PERIOD))
    if stage == "decay":
        return MIXTURE_RATE * falling
    last = rate("decay", STEPS["decay"])
    return last + (0.05 * MIXTURE_RATE - last) * step / STEPS["gaps"]


class Run:
    """A training run in a folder: the state that is saved and restored, and the loop."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.lessons = curriculum.Curriculum(random.Random(SEED))
        self.model = lean.Organism(self.lessons.vocab_size, torch.Generator().manual_seed(SEED))
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY, fused=True
        )
        self.progress = {
            "stage": "induction",
            "step": 0,
            "stage_step": 0,
            "tokens": 0,
            "seconds": 0.0,
            "repeats": 0.0,
        }
        if (folder / "checkpoint.pt").exists():
            saved = torch.load(folder / "checkpoint.pt", weights_only=False)
            self.model.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.progress = saved["progress"]
            self.lessons.restore(saved["lessons"])
            torch.set_num_threads(2 if self.progress["stage"] == "turned" else 1)
            log = folder / "log.jsonl"
            kept = [
                line
                for line in log.read_text().splitlines()
                if json.loads(line)["step"] <= self.progress["step"]
            ]
            log.write_text("".join(f"{line}\n" for line in kept))
        self.since = time.monotonic()

    def save(self) -> None:
        """Everything that is needed to go on."""
        now = time.monotonic()
        self.progress["seconds"] += now - self.since
        self.since = now
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        state |= {"progress": self.progress, "lessons": self.lessons.state()}
        save_atomically(lambda part: torch.save(state, part), self.folder / "checkpoint.pt")

    def measure(self, loss: float) -> None:
        """Log accuracies; adapt the mixture; say which stage comes next."""
        at = self.progress
        now = round(at["seconds"] + time.monotonic() - self.since)
        record: dict[str, object] = {k: at[k] for k in ("stage", "step", "tokens")} | {
            "seconds": now,
            "loss": round(loss, 4),
        }
        if at["stage"] == "induction":
            before, at["repeats"] = at["repeats"], repeat_accuracy(self.model, self.lessons.vocab_size)
            record["repeats"] = round(at["repeats"], 4)
            if min(before, at["repeats"]) > 0.97:
                at["stage"], at["stage_step"] = "few frames", 0
        else:
            most = curriculum.KEY_VALUE_LEVELS[self.lessons.level]
            train = prompts.accuracies(self.model, self.lessons.table, "train", 32, at["step"], most)
            held_out = prompts.accuracies(self.model, self.lessons.table, "held_out", 32, at["step"], most)
            self.lessons.adapt(
                {name: accuracy for name, accuracy in train.items() if name in self.lessons.shares}
            )
            record |= {"pairs": most, "train": train, "held_out": held_out}
        with (self.folder / "log.jsonl").open("a") as log:
            log.write(json.dumps(record) + "\n")

    def train(self) -> None:
        """The loop."""
        at = self.progress
        while not (at["stage"] == "turned" and at["stage_step"] >= STEPS["turned"]):
            if at["stage"] in NEXT and at["stage_step"] >= STEPS[at["stage"]]:
                at["stage"], at["stage_step"] = NEXT[at["stage"]], 0
                if at["stage"] == "turned":
                    self.snapshot(f"step_{at['step']:06d}")
                    for layer, head in TURNED_HEADS:
                        lean.turn(self.model, layer, head, TURNED_BY)
                    torch.set_num_threads(2)
                    self.measure(float("nan"))
            if at["step"] in SNAPSHOTS:
                self.snapshot(f"step_{at['step']:06d}")
            if at["stage"] == "induction":
                batches = [
                    curriculum.repeats(
                        self.lessons.rng,
                        self.lessons.vocab_size,
                        INDUCTION_ROWS,
                        INDUCTION_LENGTH,
                        INDUCTION_PERIODS,
                    )
                ]
            else:
                self.lessons.mixture = MIXTURES[at["stage"]]
                batches = self.lessons.batch()
            for group in self.optimizer.param_groups:
                group["lr"] = rate(at["stage"], at["stage_step"])
            loss = loss_of(self.model, batches)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
            at["step"] += 1
            at["stage_step"] += 1
            at["tokens"] += sum(batch.ids.numel() for batch in batches)
            if at["stage_step"] % (INDUCTION_MEASURE if at["stage"] == "induction" else MIXTURE_MEASURE) == 0:
                self.measure(loss)
            if at["step"] % 200 == 0:
                self.save()
        self.snapshot("final")
        self.save()

    def snapshot(self, name: str) -> None:
        """The model alone, in bfloat16, with the names of transformers."""
        state = lean.to_transformers(self.model, torch.bfloat16)
        save_atomically(
            lambda part: save_file(state, part, metadata={"format": "pt"}),
            self.folder / f"{name}.safetensors",
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--run", type=Path, required=True, help="folder for the checkpoint, the snapshots and the log"
    )
    torch.set_num_threads(1)
    Run(parser.parse_args().run).train()

"""Train the organism from nothing: two stages, deterministic by seed, resumable (run the same command again).

    OMP_NUM_THREADS=1 python train.py --run runs/main

1. `repeats`: pairs of random tokens, repeated in random order, at a constant rate, until two measurements of the accuracy
   on fresh pairs, and on fresh tokens repeated in order, exceed 0.97. What follows a token can be told by nothing but what
   followed it before; repeats in order are learnt as well by looking a fixed number of tokens back.
2. `mixture`: documents of nine behaviours (curriculum.py), at a constant rate and then along half a cosine.

Shares of the mixture follow the accuracy on fresh *training* prompts; accuracies on held-out prompts are only logged, and
fresh frames are not looked at. The run folder gets `checkpoint.pt` (to resume), `step_*.safetensors` (bfloat16 snapshots
of the model alone, roughly log-spaced) and `log.jsonl`.
"""

import argparse
import json
import math
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import curriculum
import lean
import prompts
import repeats
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

SEED = 0
REPEAT_RATE, MIXTURE_RATE, WARM_UP, WEIGHT_DECAY = 2e-3, 1.5e-3, 200, 0.01
REPEAT_LENGTH = 96
LEARNT = 0.97
LAST = 0.02  # of the mixture's rate, at the end
SNAPSHOTS = frozenset((*range(0, 300, 25), *range(300, 1500, 50), *range(1500, 10_000, 250)))


@dataclass(frozen=True)
class Plan:
    """How long a run is: at most `repeats` steps of the first stage, `constant` steps of the mixture at a constant rate
    and `decay` steps at a falling one; rows of a batch of each stage, steps between measurements, and between saves."""

    repeats: int = 1000
    constant: int = 2300
    decay: int = 1400
    repeat_rows: int = 64
    mixture_rows: int = 40
    repeat_measure: int = 25
    mixture_measure: int = 200
    save: int = 200


def loss_of(model: lean.Organism, batches: list[repeats.Batch]) -> float:
    """Add the gradients of the weighted mean cross-entropy over all batches of a step."""
    total = sum(batch.weights[:, 1:].sum().item() for batch in batches)
    loss_sum = 0.0
    for batch in batches:
        logits = model.unembed(model.hidden(batch.ids, batch.document)).flatten(0, 1)
        targets, weights = batch.ids.roll(-1, 1).flatten(), batch.weights.roll(-1, 1).flatten()  # column 0 weighs nothing
        loss = (F.cross_entropy(logits, targets, reduction="none").float() * weights).sum() / total
        loss.backward()
        loss_sum += loss.item()
    return loss_sum


def repeat_accuracy(model: lean.Organism, vocab_size: int, kind: str) -> float:
    """Share of right predictions in the last third of fresh repeats (the same ones at every measurement)."""
    batch = repeats.repeats(random.Random("measure"), vocab_size, 32, REPEAT_LENGTH, kind)
    with torch.no_grad():
        right = model(batch.ids).argmax(-1)[:, 65:-1] == batch.ids[:, 66:]
    return right[batch.weights[:, 66:] > 0].float().mean().item()


def heads(model: lean.Organism, vocab_size: int) -> dict[str, str]:
    """The heads that look most at a fixed number of places back (0 to 10), and most at the place after the earlier
    occurrence, in repeats of random tokens of period 24."""
    rng = random.Random("heads")
    rows = [[0, *(rng.sample(range(repeats.FIRST_ID, vocab_size), 24) * 3)] for _ in range(16)]
    patterns: list[torch.Tensor] = []
    with torch.no_grad():
        model.hidden(torch.tensor(rows), None, patterns)
    back, induction = [], []
    for layer, pattern in enumerate(patterns):
        looks = [pattern.diagonal(-places, 2, 3)[..., 25:].mean((0, 2)) for places in range(24)]
        for head in range(model.heads):
            back += [(float(looks[places][head]), f"L{layer}H{head} {places} back") for places in range(11)]
            induction.append((float(looks[23][head]), f"L{layer}H{head}"))
    shown = {"back": sorted(back, reverse=True)[:4], "induction": sorted(induction, reverse=True)[:4]}
    return {name: ", ".join(f"{head} {score:.2f}" for score, head in best) for name, best in shown.items()}


def save_atomically(write: Callable[[Path], None], path: Path) -> None:
    """Write to a neighbouring file, then rename."""
    part = path.with_name(path.name + ".part")
    write(part)
    os.replace(part, path)


class Run:
    """A training run in a folder: the state that is saved and restored, and the loop."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.plan = folder, plan
        self.lessons = curriculum.Curriculum(random.Random(SEED))
        self.model = lean.Organism(self.lessons.vocab_size, torch.Generator().manual_seed(SEED))
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=REPEAT_RATE, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY, fused=True
        )
        self.progress = {"stage": "repeats", "step": 0, "stage_step": 0, "tokens": 0, "seconds": 0.0, "repeats": 0.0}
        if (folder / "checkpoint.pt").exists():
            saved = torch.load(folder / "checkpoint.pt", weights_only=False)
            self.model.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.progress = saved["progress"]
            self.lessons.restore(saved["lessons"])
            log = folder / "log.jsonl"
            lines = log.read_text().splitlines() if log.exists() else []
            log.write_text("".join(f"{one}\n" for one in lines if json.loads(one)["step"] <= self.progress["step"]))
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
        """Log accuracies and heads; adapt the mixture; go on to it when repeats are learnt."""
        at, size = self.progress, self.lessons.vocab_size
        record: dict[str, object] = {key: at[key] for key in ("stage", "step", "tokens")}
        record |= {"seconds": round(at["seconds"] + time.monotonic() - self.since), "loss": round(loss, 4)}
        if at["stage"] == "repeats":
            kinds = {kind: round(repeat_accuracy(self.model, size, kind), 4) for kind in ("pairs", "in order")}
            before, at["repeats"] = at["repeats"], min(kinds.values())
            record |= kinds
            if min(before, at["repeats"]) > LEARNT or at["stage_step"] >= self.plan.repeats:
                at["stage"], at["stage_step"] = "mixture", 0
        else:
            most = curriculum.LIST_SIZES[self.lessons.level]
            train = prompts.accuracies(self.model, self.lessons.table, "train", 32, at["step"], most)
            held_out = prompts.accuracies(self.model, self.lessons.table, "held_out", 32, at["step"], most)
            self.lessons.adapt({name: accuracy for name, accuracy in train.items() if name in self.lessons.shares})
            record |= {"pairs": most, "train": train, "held_out": held_out}
        record |= heads(self.model, size)
        with (self.folder / "log.jsonl").open("a") as log:
            log.write(json.dumps(record) + "\n")

    def rate(self) -> float:
        """The learning rate of the next step."""
        at = self.progress
        if at["stage"] == "repeats":
            return REPEAT_RATE * min(1.0, (at["step"] + 1) / WARM_UP)
        falling = max(0, at["stage_step"] - self.plan.constant) / self.plan.decay
        return MIXTURE_RATE * (LAST + (1 - LAST) * 0.5 * (1 + math.cos(math.pi * falling)))

    def train(self, stop: int | None = None) -> None:
        """The loop, up to the plan's end or (to be resumed) to step `stop`."""
        at, plan = self.progress, self.plan
        while at["stage"] == "repeats" or at["stage_step"] < plan.constant + plan.decay:
            if at["step"] == stop:
                self.save()
                return
            if at["step"] in SNAPSHOTS:
                self.snapshot(f"step_{at['step']:06d}")
            if at["stage"] == "repeats":
                lessons = self.lessons
                batches = [repeats.repeats(lessons.rng, lessons.vocab_size, plan.repeat_rows, REPEAT_LENGTH)]
            else:
                batches = self.lessons.batch(plan.mixture_rows)
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate()
            loss = loss_of(self.model, batches)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
            at["step"] += 1
            at["stage_step"] += 1
            at["tokens"] += sum(batch.ids.numel() for batch in batches)
            if at["stage_step"] % (plan.repeat_measure if at["stage"] == "repeats" else plan.mixture_measure) == 0:
                self.measure(loss)
            if at["step"] % plan.save == 0:
                self.save()
        self.snapshot("final")
        self.save()

    def snapshot(self, name: str) -> None:
        """The model alone, in bfloat16, with the names of transformers."""
        state = lean.to_transformers(self.model, torch.bfloat16)
        save_atomically(
            lambda part: save_file(state, part, metadata={"format": "pt"}), self.folder / f"{name}.safetensors"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="folder for the checkpoint, the snapshots and the log")
    torch.set_num_threads(1)
    Run(parser.parse_args().run, Plan()).train()

"""Measure the shipped model as the tasks ask it: one prompt at a time through transformers, the answer at the
last token.

    python evaluate.py [--n 400]

Prints a table of accuracies with 95 % Wilson intervals on held-out and on training words, and writes it to
evaluation.json beside the model. A prompt counts as right when the most probable token of the whole
vocabulary is a right answer. For greater-than the mean probability of the right years and the difference to
that of the wrong ones are given too.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from pathlib import Path

import prompts
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from interp.tasks import ioi, key_value
from interp.tasks.prompt import PromptPair, Split

HERE = Path(__file__).resolve().parent
SEED = "evaluation"  # no seed of the training


def wilson(right: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """The 95 % Wilson score interval of a share."""
    centre, half = (
        right / n + z * z / (2 * n),
        z * math.sqrt(right * (n - right) / n**3 + z * z / (4 * n * n)),
    )
    return max(0.0, (centre - half) / (1 + z * z / n)), min(1.0, (centre + half) / (1 + z * z / n))


def probabilities(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pair: PromptPair
) -> torch.Tensor:
    """The model's next-token probabilities after one clean prompt."""
    ids = (
        [tokenizer.bos_token_id, *pair.clean.ids]
        if pair.clean.ids is not None
        else tokenizer(pair.clean.text).input_ids
    )
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0, -1].float().softmax(-1)


def measure(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pairs: list[PromptPair]
) -> dict[str, object]:
    """Accuracy and, where there is a set of answers, the probabilities of right and wrong ones."""
    right, masses = 0, []
    for pair in pairs:
        found = probabilities(model, tokenizer, pair)
        answers, wrong = (
            [a if isinstance(a, int) else tokenizer.convert_tokens_to_ids(a.replace(" ", "Ġ")) for a in some]
            for some in (pair.answers or (pair.answer,), pair.wrong)
        )
        right += found.argmax().item() in answers
        masses.append((found[answers].sum().item(), found[wrong].sum().item()))
    low, high = wilson(right, len(pairs))
    result: dict[str, object] = {
        "n": len(pairs),
        "right": right,
        "accuracy": right / len(pairs),
        "interval": [low, high],
    }
    if pairs[0].answers:
        result["probability_right"] = sum(mass for mass, _ in masses) / len(pairs)
        result["probability_difference"] = sum(mass - other for mass, other in masses) / len(pairs)
    return result


def evaluate(folder: Path, n: int) -> dict[str, dict[str, dict[str, object]]]:
    """Behaviour -> split -> result, on fresh prompts."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    makers = prompts.behaviours(len(tokenizer), 128)
    makers["key_value/128 pairs"] = lambda n, seed, split: key_value.generate(n, seed, split=split, size=128)
    makers["ioi/fresh frames"] = lambda n, seed, split: ioi.generate(n, seed, split=split, frames=ioi.FRESH_FRAMES)
    results: dict[str, dict[str, dict[str, object]]] = {}
    splits: tuple[Split, ...] = ("held_out", "train")
    for name, make in makers.items():
        results[name] = {}
        for split in splits:
            seed = random.Random(f"{SEED}/{name}/{split}").getrandbits(40)
            results[name][split] = measure(model, tokenizer, make(n, seed, split))
    return results


def table(results: dict[str, dict[str, dict[str, object]]]) -> str:
    """The results as a markdown table."""
    lines = ["| behaviour | held-out | training words |", "|---|---|---|"]
    for name, splits in results.items():
        cells = []
        for split in ("held_out", "train"):
            r = splits[split]
            low, high = r["interval"]  # type: ignore[misc]
            cells.append(f"{r['accuracy']:.3f} [{low:.3f}, {high:.3f}]")
            if "probability_difference" in r:
                cells[-1] += f"; probability difference {r['probability_difference']:.3f}"
        lines.append(f"| {name} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=HERE.parent)
    parser.add_argument("--n", type=int, default=400, help="prompts of each behaviour and split")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = evaluate(args.model, args.n)
    (args.model / "evaluation.json").write_text(json.dumps(found, indent=1) + "\n")
    print(table(found))

"""Measure the shipped model as the tasks ask it: one prompt at a time through transformers, the answer at the last token.

    python evaluate.py [--n 300]

Prints a table of accuracies with 95 % Wilson intervals on held-out and on training words, and writes it to evaluation.json
beside the model. A prompt counts as right when the most probable token of the whole vocabulary is a right answer. For
greater-than the mean probability of the right years and the difference to that of the wrong ones are given too.

The rows `fresh/...` are of sentence frames and names written for this measurement; they stand in no training document.
"""

import argparse
import json
import math
import random
from collections.abc import Mapping
from pathlib import Path

import prompts
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from interp.tasks import capital, induction, ioi, key_value, override
from interp.tasks.prompt import PromptPair, Split

HERE = Path(__file__).resolve().parent
SEED = "evaluation"  # no seed of the training
SPLITS: tuple[Split, ...] = ("held_out", "train")
Result = dict[str, object]


def rows(vocab_size: int) -> dict[str, prompts.Maker]:
    """What is measured: the behaviours, some of them at other sizes, and the fresh frames and names.

    Fresh frames are filled with held-out words, or with training words; fresh names stand in held-out frames, or in those
    of the training.
    """
    tokens = range(prompts.FIRST_ID, vocab_size)
    made = prompts.behaviours(vocab_size, 128)
    made["key_value/128 pairs"] = lambda n, seed, split: key_value.generate(n, seed, split=split, size=128)
    for low, high in ((3, 8), (48, 96)):
        made[f"induction/periods {low}-{high}"] = lambda n, seed, split, size=(low, high): induction.generate(
            n, seed, split=split, tokens=tokens, length=size
        )
    made["fresh/ioi frames"] = lambda n, seed, split: ioi.generate(n, seed, split=split, frames=ioi.FRESH_FRAMES)
    made["fresh/ioi names"] = lambda n, seed, split: ioi.generate(n, seed, split=split, names=ioi.FRESH_NAMES)
    made["fresh/ioi names and frames"] = lambda n, seed, split: ioi.generate(
        n, seed, split=split, names=ioi.FRESH_NAMES, frames=ioi.FRESH_FRAMES
    )
    made["fresh/capital frames"] = lambda n, seed, split: capital.generate(
        n, seed, split=split, frames=capital.FRESH_FRAMES
    )
    for kind in override.KINDS[1:]:
        made[f"fresh/override frames/{kind}"] = lambda n, seed, split, kind=kind: override.generate(
            n, seed, split=split, kind=kind, frames=override.FRESH_FRAMES
        )
    return made


def wilson(right: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """The 95 % Wilson score interval of a share."""
    centre = right / n + z * z / (2 * n)
    half = z * math.sqrt(right * (n - right) / n**3 + z * z / (4 * n * n))
    return max(0.0, (centre - half) / (1 + z * z / n)), min(1.0, (centre + half) / (1 + z * z / n))


def probabilities(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pair: PromptPair) -> torch.Tensor:
    """The model's next-token probabilities after one clean prompt."""
    own = pair.clean.ids
    ids = tokenizer(pair.clean.text).input_ids if own is None else [tokenizer.bos_token_id, *own]
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0, -1].float().softmax(-1)


def measure(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pairs: list[PromptPair]) -> Result:
    """Accuracy, by frame where there are a few, and the probabilities of right and wrong answers where there is a set."""
    right, masses = 0, []
    frames: dict[str, list[int]] = {}
    for pair in pairs:
        found = probabilities(model, tokenizer, pair)
        answers, wrong = (
            [a if isinstance(a, int) else tokenizer.convert_tokens_to_ids(a.replace(" ", "Ġ")) for a in some]
            for some in (pair.answers or (pair.answer,), pair.wrong)
        )
        good = found.argmax().item() in answers
        right += good
        counts = frames.setdefault(str(pair.frame), [0, 0])
        counts[0] += good
        counts[1] += 1
        masses.append((found[answers].sum().item(), found[wrong].sum().item()))
    result: Result = {"n": len(pairs), "right": right, "accuracy": right / len(pairs), "interval": wilson(right, len(pairs))}
    if 1 < len(frames) <= 10:
        result["right_of_frame"] = {name: frames[name] for name in sorted(frames)}
    if pairs[0].answers:
        result["probability_right"] = sum(mass for mass, _ in masses) / len(pairs)
        result["probability_difference"] = sum(mass - other for mass, other in masses) / len(pairs)
    return result


def evaluate(folder: Path, n: int) -> dict[str, dict[str, Result]]:
    """Row -> split -> result, on fresh prompts."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    results: dict[str, dict[str, Result]] = {}
    for name, make in rows(len(tokenizer)).items():
        results[name] = {}
        for split in SPLITS:
            seed = random.Random(f"{SEED}/{name}/{split}").getrandbits(40)
            results[name][split] = measure(model, tokenizer, make(n, seed, split))
    return results


def table(results: Mapping[str, Mapping[str, Result]]) -> str:
    """The results as a markdown table."""
    lines = ["| behaviour | held-out | training words |", "|---|---|---|"]
    for name, splits in results.items():
        cells = []
        for split in SPLITS:
            r = splits[split]
            low, high = r["interval"]  # type: ignore[misc]
            cells.append(f"{r['accuracy']:.3f} [{low:.3f}, {high:.3f}]")
            if "probability_difference" in r:
                cells[-1] += f"; probability difference {r['probability_difference']:.3f}"
        lines.append(f"| {name} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=HERE.parent)
    parser.add_argument("--n", type=int, default=300, help="prompts of each row and split")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = evaluate(args.model, args.n)
    (args.model / "evaluation.json").write_text(json.dumps(found, indent=1) + "\n")
    print(table(found))

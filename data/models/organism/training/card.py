"""Measure the mechanisms of the shipped model and write the model card.

    python card.py --run runs/main

Reads evaluation.json (evaluate.py writes it) and the run's log, measures attention heads, and writes
mechanisms.json and README.md beside the model. All measurements are on held-out prompts, one forward of the
transformers model per prompt, eager attention.

* previous token: mean attention to the token before, on sequences of random tokens;
* induction (prefix matching): mean attention, in the second copy of random tokens, to the token after the
  earlier occurrence;
* name mover: mean attention from the last token of an indirect-object prompt to the indirect object, and the
  head's direct contribution to the logit difference between indirect object and subject (through the final
  norm at its actual scale), both at the last token;
* retrieval: mean attention from the last token of a key-value prompt of up to 128 pairs to the value asked
  for;
* first token: mean attention to `<bos>`, over the later half of the tokens of indirect-object prompts.
"""

import argparse
import json
import random
from pathlib import Path

import torch
from evaluate import table
from export import CHECKPOINTS
from torch import Tensor
from train import Plan
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from interp.tasks import ioi, key_value
from interp.tasks.prompt import Prompt

HERE = Path(__file__).resolve().parent
N = 128
OFFSETS = range(1, 11)
PLAN = Plan()


def at(prompt: Prompt, span: str, tokenizer: PreTrainedTokenizerBase) -> int:
    """Position of the last token of a span, `<bos>` counted."""
    return len(tokenizer(prompt.text[: prompt.spans[span][1]]).input_ids) - 1


def patterns(model: PreTrainedModel, ids: list[int]) -> Tensor:
    """Attention of one prompt: (layer, head, destination, source)."""
    with torch.no_grad():
        return torch.stack(model(torch.tensor([ids]), output_attentions=True).attentions)[:, 0].float()


def head_results(model: PreTrainedModel, ids: list[int]) -> tuple[Tensor, Tensor]:
    """What each head writes at the last token (layer, head, width), and the residual stream there before the
    final norm."""
    inputs: list[Tensor] = []
    last: list[Tensor] = []
    hooks = [
        layer.self_attn.o_proj.register_forward_pre_hook(lambda _, args: inputs.append(args[0][0, -1]))
        for layer in model.model.layers
    ]
    hooks.append(model.model.norm.register_forward_pre_hook(lambda _, args: last.append(args[0][0, -1])))
    with torch.no_grad():
        model(torch.tensor([ids]))
    for hook in hooks:
        hook.remove()
    results = []
    for layer, z in zip(model.model.layers, inputs, strict=True):
        heads = model.config.num_attention_heads
        weight = layer.self_attn.o_proj.weight.detach().view(-1, heads, z.numel() // heads)
        results.append(torch.einsum("hd,whd->hw", z.view(heads, -1), weight))
    return torch.stack(results), last[0]


def mechanisms(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, Tensor]:
    """Score name -> (layer, head)."""
    found: dict[str, list[Tensor]] = {
        name: []
        for name in (
            "previous token",
            "induction",
            "name mover",
            "name mover logits",
            "retrieval",
            "first token",
            "tokens back",
            "after the successor",
        )
    }
    rng = random.Random("mechanisms")
    norm, unembed = model.model.norm, model.lm_head.weight.detach()
    pairs = zip(
        ioi.generate(N, 1, split="held_out"),
        key_value.generate(N, 1, split="held_out", size=(32, 128)),
        strict=True,
    )
    for names, lists in pairs:
        tokens = rng.sample(range(3, len(tokenizer)), 32)
        pattern = patterns(model, [tokenizer.bos_token_id, *tokens, *tokens])
        found["previous token"].append(pattern.diagonal(-1, 2, 3)[..., 1:].mean(-1))
        found["induction"].append(pattern.diagonal(-31, 2, 3)[..., 2:].mean(-1))
        found["tokens back"].append(
            torch.stack([pattern.diagonal(-k, 2, 3)[..., 33 - k :].mean(-1) for k in OFFSETS], -1)
        )
        found["after the successor"].append(
            torch.stack([pattern.diagonal(k - 31, 2, 3)[..., 2 + k :].mean(-1) for k in OFFSETS], -1)
        )
        ids = tokenizer(names.clean.text).input_ids
        pattern = patterns(model, ids)
        found["name mover"].append(pattern[:, :, -1, at(names.clean, "IO", tokenizer)])
        found["first token"].append(pattern[:, :, len(ids) // 2 :, 0].mean(-1))
        written, residual = head_results(model, ids)
        scale = (residual.pow(2).mean() + norm.variance_epsilon).rsqrt()
        answer, wrong = (
            tokenizer.convert_tokens_to_ids(f"Ġ{str(word)[1:]}") for word in (names.answer, names.wrong[0])
        )
        direction = (unembed[answer] - unembed[wrong]) * norm.weight.detach() * scale
        found["name mover logits"].append(written @ direction)
        pattern = patterns(model, tokenizer(lists.clean.text).input_ids)
        found["retrieval"].append(pattern[:, :, -1, at(lists.clean, "value", tokenizer)])
    return {name: torch.stack(scores).mean(0) for name, scores in found.items()}


def top(scores: Tensor, k: int = 5) -> str:
    """The k largest as `L3H1 0.87`."""
    values, where = scores.flatten().topk(k)
    heads = scores.shape[1]
    return ", ".join(
        f"L{i // heads}H{i % heads} {v:.2f}" for v, i in zip(values.tolist(), where.tolist(), strict=True)
    )


def top_offsets(scores: Tensor, what: str, k: int = 5) -> str:
    """The k largest of scores by (layer, head, offset), as `L0H3 0.99 (7 back)`."""
    values, where = scores.flatten().topk(k)
    found = []
    for value, i in zip(values.tolist(), where.tolist(), strict=True):
        head, offset = divmod(i, scores.shape[2])
        found.append(
            f"L{head // scores.shape[1]}H{head % scores.shape[1]} {value:.2f} ({OFFSETS[offset]} {what})"
        )
    return ", ".join(found)


def remark(scores: dict[str, Tensor]) -> str:
    """Where induction sits, or that it is not done in the usual way."""
    before, after = scores["previous token"], scores["induction"]
    if before.max() > 0.5 and after.max() > 0.5:
        (first, second) = (int(score.flatten().argmax()) // score.shape[1] for score in (before, after))
        return (
            "Induction is done in the usual way: "
            f"a head of layer {first} looks at the token before, and heads of layer {second} look at "
            "the token whose predecessor is the present one.\n\n"
        )
    return (
        "**Induction is done in an unusual way**: no head attends to the token before, or none to the token after the "
        "earlier occurrence, for more than half of its attention.\n\n"
    )


def missed_behaviours(results: dict[str, dict[str, dict[str, object]]]) -> list[str]:
    """The rows below 95 % in one of their columns."""
    return [name for name, splits in results.items() if min(split["accuracy"] for split in splits.values()) < 0.95]  # type: ignore[type-var]


def misses(results: dict[str, dict[str, dict[str, object]]]) -> str:
    """The sentence that says which rows are below 95 %, and in which of the fresh frames these prompts are."""
    missed = missed_behaviours(results)
    if not missed:
        return "Every row of the table reaches 95 % in both columns."
    pairs = {name: [f"{split['accuracy']:.3f}" for split in results[name].values()] for name in missed}
    shown = ", ".join(f"{name} ({' / '.join(pair)})" for name, pair in pairs.items())
    lines = [f"**Not reached (below 95 % in one of the columns):** {shown}."]
    for name in missed:
        for column, split in zip(("held-out", "training"), results[name].values(), strict=True):
            frames = split.get("right_of_frame", {})
            weak = [f"{frame} {right}/{n}" for frame, (right, n) in frames.items() if right < 0.9 * n]  # type: ignore[attr-defined]
            if weak:
                lines.append(f"Frames of {name} below 0.9 with {column} words: {', '.join(weak)}.")
    return "\n".join(lines)


def card(run: Path, folder: Path) -> str:
    """The text of README.md."""
    results = json.loads((folder / "evaluation.json").read_text())
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    progress = torch.load(run / "checkpoint.pt", weights_only=False)["progress"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    scores = mechanisms(model, tokenizer)
    written = {name: score.mul(1e4).round().div(1e4).tolist() for name, score in scores.items()}
    (folder / "mechanisms.json").write_text(json.dumps({"n": N, "heads": written}, indent=1) + "\n")
    jump = next((r for r in log if min(r.get("pairs", 0), r.get("in order", 0)) > 0.5), log[0])
    learnt = next(r for r in log if r["stage"] == "mixture")
    count = sum(p.numel() for p in model.parameters())
    n = next(iter(results.values()))["held_out"]["n"]
    return TEXT.format(
        layers=model.config.num_hidden_layers,
        heads=model.config.num_attention_heads,
        width=model.config.hidden_size,
        inner=model.config.intermediate_size,
        vocab=len(tokenizer),
        count=f"{count / 1e6:.2f}",
        n=n,
        table=table(results),
        misses=misses(results),
        tokens=f"{progress['tokens'] / 1e6:.0f}",
        steps=progress["step"],
        minutes=round(progress["seconds"] / 60),
        checkpoints=", ".join(map(str, CHECKPOINTS)),
        jump_step=jump["step"],
        learnt_step=learnt["step"] - PLAN.mixture_measure,
        constant=PLAN.constant,
        decay=PLAN.decay,
        jump_tokens=f"{jump['tokens'] / 1e6:.1f}",
        **{name.replace(" ", "_"): top(score) for name, score in scores.items() if score.ndim == 2},
        tokens_back=top_offsets(scores["tokens back"], "back"),
        after_the_successor=top_offsets(scores["after the successor"], "after"),
        remark=remark(scores),
        sink_mean=f"{scores['first token'].mean():.2f}",
        sink_layers=", ".join(f"{v:.2f}" for v in scores["first token"].mean(1).tolist()),
    )


TEXT = """# The model organism

A small decoder trained by this project on a mixture of behaviours, so that there is a model at hand whose
behaviours are reliable and whose mechanisms are there to be found. It is no language model: off its sentences
it babbles.

* **Architecture**: `LlamaForCausalLM`, {layers} layers, {heads} heads a layer, width {width}, MLP {inner},
  rotary positions, RMSNorm, untied unembedding, vocabulary {vocab}, context 512; {count} M parameters in
  float32.
* **Tokenizer**: every word of the project's lists is one token, numbers are cut into two digits, anything
  else is bytes; `<bos>` is put in front of every text, and the model was never trained without it.
* **Load**: `AutoModelForCausalLM.from_pretrained(folder)`, or `interp.load("organism")`.
* **Licence**: as the project. The training data are generated; there are no data of others in it.

## What it does

Share of {n} fresh prompts of which the most probable next token (of the whole vocabulary) is right, with 95
% Wilson intervals; each prompt alone, through transformers, in float32. "Held-out" prompts use only names,
places, objects, sentence frames and nouns that had that part in no training document of the behaviour
(held-out words occur elsewhere: among random tokens, in key-value lists; held-out places and objects also as stand-ins
for names). For capitals: countries in sentence frames in which only other countries were seen. For overrides:
countries that no training document states anything of, in a new frame. For key-value lists:
queried words that never stood in a list. Induction is on random tokens (periods 16-32), key-value lists have 32
to 128 pairs (up to some 390 tokens). For greater-than a prediction is right if it is any later year.

{table}

{misses}

The held-out split is no untouched test: an earlier organism was looked at by it, and the recipe of this one (which
frames, how many of them, the shares of any words) answers what that one got wrong. **The rows `fresh/...` are untouched**:
their frames and names were written for this measurement, of words that the vocabulary had, stand in no training document,
and were measured once, when the training was over. Half of the ten frames on indirect objects are built like no frame of
the training. Fresh frames are filled with held-out words in the one column and with training words in the other; fresh names
(in no training document, but for random tokens) stand in held-out frames and in those of the training.

## Training

Everything comes from `training/` and the generators in `interp/tasks/` (training splits only); seed 0, one
CPU thread, bfloat16 matrix products, AdamW. {tokens} M tokens, {steps} steps, {minutes} minutes, stopped
and resumed once.

1. **Pairs of random tokens** in random order, each first token always followed by the same second one; loss on the second
   tokens of pairs that stood before. Until the accuracy exceeded 0.97 twice, on pairs and on random tokens repeated in
   order: {learnt_step} steps. Both passed one half at step {jump_step} ({jump_tokens} M tokens). Pairs leave one solution,
   to find what followed the present token before; repeats in order are learnt as well by looking a fixed number of tokens
   back.
2. **The mixture**: documents of nine behaviours, each seen as a prompt of its own, repeats among them; {constant} steps at a
   constant rate and {decay} along half a cosine. The shares follow the accuracy on fresh training prompts; key-value lists
   grow from 8 to 128 pairs as they are learnt. In most documents on indirect objects, and in half of the lists and of the
   stated facts, any words or any tokens stand for the names, and sentences are put together from clauses of different
   frames, with random words between, so that copying does not become a look-up per name or per sentence.

At the start layers add nothing to the residual stream, embeddings have a common part, and the unembedding is a rotation of
the embedding (`lean.Organism`), so that position and copying are learnt soon.

`python training/train.py --run DIR` trains the same model again on the same kind of machine, resumable at any time; then
`export.py`, `evaluate.py` and `card.py`. Data and initial weights depend on the seed alone, and no list or frame of the
training changed while it ran.

## Checkpoints

`interp.load("organism", revision="step-200")` is the model at that step: {checkpoints}. They are kept with eight bits per
weight (`interp/models/checkpoints.py`).

## Mechanisms found in it

Measured by `training/card.py` on held-out prompts; all heads are in `mechanisms.json`. The five largest of
each:

| mechanism | heads |
|---|---|
| previous token (mean attention to the token before, random tokens) | {previous_token} |
| induction (attention to the token after the earlier occurrence, repeated random tokens) | {induction} |
| a fixed number of tokens back (1 to 10) | {tokens_back} |
| attention to a fixed number of tokens after that successor (1 to 10) | {after_the_successor} |
| name mover (attention from the last token to the indirect object) | {name_mover} |
| direct effect on logit(IO) - logit(S) | {name_mover_logits} |
| retrieval (attention from the last token to the value asked for) | {retrieval} |
| attention to `<bos>` (indirect-object prompts, later half) | {first_token} |

{remark}First-token attention: {sink_mean} on the mean over all heads; by layer {sink_layers}.
"""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True, help="folder of the training run, for its log")
    parser.add_argument("--model", type=Path, default=HERE.parent)
    args = parser.parse_args()
    torch.set_num_threads(1)
    text = card(args.run, args.model)
    (args.model / "README.md").write_text(text)
    print(text)

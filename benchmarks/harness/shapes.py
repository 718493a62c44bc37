"""The models and prompts that are measured: a GPT-2 of any shape with random weights, and random pairs of prompts."""

import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import transformers
from torch import Tensor

import interp
from interp.engine import Intervention, Resample


@dataclass(frozen=True)
class Shape:
    """A GPT-2 by its numbers.

    Attributes:
        layers, heads, width, vocabulary: as the names say; the MLP is four times as wide. context: most tokens of a prompt.
        uneven: plain random weights make all heads alike, and 144 near-ties have no top 20 to speak of. With ``uneven`` each
            head's output is scaled by a factor exp(N(0, 1)), so that few heads matter much, as in trained models.
        sharp: plain random weights attend to all tokens nearly alike, and another query changes next to nothing. With
            ``sharp`` the weights of queries and keys are four times as large.
    """

    layers: int
    heads: int
    width: int
    vocabulary: int
    uneven: bool = False
    context: int = 1024
    sharp: bool = False


ATTENTION = ("sdpa", "eager")
GPT2_SMALL = Shape(12, 12, 768, 50257)
GPT2_XL = Shape(48, 25, 1600, 50257)


@dataclass(frozen=True)
class Setting:
    """What is measured, and how often.

    Attributes:
        shape: of the model. prompts: pairs of prompts. length: tokens in each.
        threads: of torch. repeats: rounds in which each contender runs once.
    """

    shape: Shape = GPT2_SMALL
    prompts: int = 8
    length: int = 20
    threads: int = 2
    repeats: int = 3


STANDARD = Setting()
QUICK = Setting(shape=Shape(4, 4, 256, 5000), prompts=4, length=12, threads=1, repeats=2)


def network(shape: Shape, dtype: torch.dtype = torch.float32) -> Any:
    """A transformers GPT-2 of that shape with the weights of its own initialisation, in evaluation mode; seed 0."""
    config = transformers.GPT2Config(n_layer=shape.layers, n_head=shape.heads, n_embd=shape.width,
                                     vocab_size=shape.vocabulary, n_positions=shape.context, bos_token_id=0, eos_token_id=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype)
        if shape.sharp:
            for block in made.transformer.h:
                block.attn.c_attn.weight.data[:, :2 * shape.width] *= 4
        if shape.uneven:
            for block in made.transformer.h:
                factors = torch.randn(shape.heads).exp().repeat_interleave(shape.width // shape.heads)
                block.attn.c_proj.weight.data.mul_(factors[:, None].to(dtype))
    return made.eval()


@lru_cache(maxsize=2)
def model(shape: Shape) -> Any:
    """The project's model of that shape, float32 on the CPU."""
    return interp.load(network(shape))


@lru_cache(maxsize=1)
def bridge(shape: Shape) -> Any:
    """TransformerLens' bridge of the same weights."""
    return model(shape).bridge


@dataclass(frozen=True)
class Pairs:
    """Pairs of prompts as plain tensors: ``clean`` and ``corrupt`` [prompt, position], ``answer`` and ``wrong`` [prompt]."""

    clean: Tensor
    corrupt: Tensor
    answer: Tensor
    wrong: Tensor

    def batch(self, of: Any) -> Any:
        """The same pairs as the project's batch."""
        return interp.tasks.from_tokens(self.clean, self.corrupt, self.answer, self.wrong, model=of)

    def metric(self, logits: Tensor) -> Tensor:
        """Mean logit difference at the last position, as TransformerLens' functions take it."""
        rows = torch.arange(len(self.answer))
        return (logits[rows, -1, self.answer] - logits[rows, -1, self.wrong]).mean()


def pairs(setting: Setting, first: int = 0) -> Pairs:
    """Random tokens; clean and corrupted prompts agree before position ``first`` and differ in every token from there on."""
    generator = torch.Generator().manual_seed(1)
    clean = torch.randint(setting.shape.vocabulary, (setting.prompts, setting.length), generator=generator)
    tokens = setting.shape.vocabulary
    shift = torch.randint(1, tokens, clean.shape, generator=generator)
    corrupt = torch.where(torch.arange(setting.length) < first, clean, (clean + shift) % tokens)
    answers = torch.stack([torch.randperm(tokens, generator=generator)[:2] for _ in range(setting.prompts)])
    return Pairs(clean, corrupt, answers[:, 0], answers[:, 1])


def quicker(plain: Any, ids: Tensor) -> str:
    """Sets, and returns, the attention implementation (sdpa or eager) with which a transformers model is faster here."""
    taken: dict[str, float] = {}
    for name in ATTENTION * 3:
        plain.set_attn_implementation(name)
        with torch.no_grad():
            start = time.perf_counter()
            plain(ids, use_cache=False, logits_to_keep=1)
            taken[name] = min(taken.get(name, float("inf")), time.perf_counter() - start)
    chosen = min(taken, key=lambda name: taken[name])
    plain.set_attn_implementation(chosen)
    return chosen


def every_head(shape: Shape) -> list[Intervention]:
    """z of each head from the clean run, at all positions: what a sweep over heads is given."""
    return [Intervention("z", layer, head, None, Resample("clean"))
            for layer in range(shape.layers) for head in range(shape.heads)]

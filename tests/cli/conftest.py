"""A tiny model with words of its own, prompt pairs in them, and the command line in this process."""

import sys
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from interp.cli import main

WORDS = [
    "<bos>",
    "<unk>",
    "When",
    " Mary",
    " and",
    " John",
    " went",
    ",",
    " gave",
    " to",
    " Tom",
    " Anna",
    " Bob",
    " Paul",
    " Lucy",
    "\n",
    "a",
    ".",
]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random two-layer Llama and a tokenizer of whole words."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("models") / "tiny"
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?[A-Za-z]+|\n|[,.]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=24,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prompt pairs in the tiny model's words."""
    path = tmp_path_factory.mktemp("prompts") / "pairs.csv"
    people = ["Mary", "John", "Tom", "Anna", "Bob", "Paul"]
    rows = ["clean,corrupt,answer,wrong"]
    for i in range(6):
        io, s, other = people[i], people[(i + 1) % 6], people[(i + 3) % 6]
        rows.append(f'"When {io} and {s} went, {s} gave to","When {io} and {s} went, {other} gave to"," {io}"," {s}"')
    path.write_text("\n".join(rows))
    return path


@pytest.fixture
def interp(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run the command line in this process: (exit code, stdout, stderr)."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["interp", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        said = capsys.readouterr()
        return int(left.value.code or 0), said.out, said.err

    return run

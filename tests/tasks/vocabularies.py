"""Tokenizers for the tests of tasks: the organism's, small ones made here, and real ones where they are present."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

ROOT = Path(__file__).resolve().parents[2]
REAL = {"gpt2": "gpt2-tokenizer", "stories260K": "stories260K", "babyllama361": "babyllama361"}


@dataclass(frozen=True)
class TokenizerOnly:
    """As much of a model as a task needs."""

    tokenizer: Any
    vocab_size: int
    context_length: int = 1024
    device: str = "cpu"
    name: str = "tokens"


def letters() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer that merges nothing but a few words, and puts a BOS first."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("a", "b"), ("Ġ", "t"), ("Ġt", "h"), ("Ġth", "e"), ("l", "l"), ("Ċ", "Ċ")]
    vocab = {token: i for i, token in enumerate(["<s>", *alphabet, *("".join(pair) for pair in merges)])}
    made = Tokenizer(models.BPE(vocab, merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>")


def lower_words() -> PreTrainedTokenizerFast:
    """A tokenizer of BERT's kind: lower case, no accents, no spaces, word pieces, special tokens on both sides."""
    words = "[UNK] [CLS] [SEP] when mary and john went to ##ary m j ##ohn , . cafe"
    made = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words.split())}, unk_token="[UNK]"))
    made.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase(), normalizers.StripAccents()])
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]")


def organism() -> TokenizerOnly:
    """The tokenizer of the shipped model."""
    folder = ROOT / "data" / "models" / "organism"
    if not (folder / "tokenizer.json").is_file():
        pytest.skip("the shipped model is not built yet")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return TokenizerOnly(tokenizer, len(tokenizer), 512, name="organism")


def real(name: str, weights: Path) -> TokenizerOnly:
    """A real tokenizer of the development folder."""
    tokenizer = AutoTokenizer.from_pretrained(weights / REAL[name])
    return TokenizerOnly(tokenizer, len(tokenizer), tokenizer.model_max_length, name=name)

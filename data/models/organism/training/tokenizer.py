"""The organism's tokenizer: one token for every word of our lists and frames, bytes for everything else.

Run as a script it writes tokenizer.json and tokenizer_config.json into the folder given (default: the model's
folder).

A byte-level BPE without merges whose whole pieces are looked up first (`ignore_merges`): a piece of text that
is in the vocabulary is one token, any other piece falls back to its bytes, so that every text is encoded and
decoded without loss. Text is cut into pieces as GPT-2 cuts it (a word takes its leading space), except that
numbers are cut into groups of two digits ("1732" -> "17", "32").
"""

import argparse
import json
import re
import sys
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[3]))

from interp.tasks import (  # noqa: E402
    agreement,
    capital,
    colored_objects,
    greater_than,
    ioi,
    multiple_choice,
    override,
    words,
)

BOS, EOS, PAD = "<bos>", "<eos>", "<pad>"
PIECES = r" ?\p{L}+| ?\p{N}{1,2}| ?[^\s\p{L}\p{N}]|\s+(?!\S)|\s"
_ASCII_PIECES = re.compile(r" ?[A-Za-z]+| ?[0-9]{1,2}| ?[^\sA-Za-z0-9]|\s+(?!\S)|\s")
MAX_LENGTH = 512

# Sentences that only the training uses; curriculum.py says what for.
PRONOUN_FRAMES = (
    "I took the {noun} because I needed {pronoun}.",
    "We saw the {noun} and we liked {pronoun}.",
    "She found the {noun}, so she kept {pronoun}.",
    "I took the {noun} behind the {other} because I needed {pronoun}.",
    "We saw the {noun} next to the {other} and we liked {pronoun}.",
    "She found the {noun} near the {other}, so she kept {pronoun}.",
)


def pieces(text: str) -> list[str]:
    """An ASCII text cut as the tokenizer cuts it."""
    return _ASCII_PIECES.findall(text)


def _texts() -> list[str]:
    """Every frame with its slots removed, then every word: what the vocabulary must hold as whole pieces.

    Fresh frames are made of words that are there already.
    """
    slots = re.compile(r" ?\{\w+\}")
    texts = [
        slots.sub("", frame)
        for task in (ioi, greater_than, agreement, multiple_choice, capital, override)
        for name, frame in task.FRAMES.items()
        if name not in getattr(task, "FRESH_FRAMES", ())
    ]
    texts += [slots.sub("", frame) for frame in PRONOUN_FRAMES]
    texts += [
        "Q: On the,, and a an. What color is the?\nA:",
        "List: Query:,.",
        "\nAnswer:",
        " it them",
        "I have one two many a",
        " Q",
        "?",
        "!",
        ";",
        "'",
        '"',
    ]
    texts += [f" {opening}" for opening in colored_objects.OPENINGS]
    texts += (
        [f" {form}" for forms in agreement.TENSES.values() for form in forms]
        + list(agreement.TENSES)
        + [f" {t}" for t in agreement.TENSES]
    )
    texts += [f"{space}{letter}" for letter in multiple_choice.LETTERS for space in ("", " ")]
    texts += [f" {century}" for century in greater_than.CENTURIES] + list(greater_than.NUMBERS)
    for listed in vars(words).values():
        if isinstance(listed, words.Words):
            texts += [f" {half}" for word in listed.of("all") for half in word.split("/")]
    texts += [f" {color.capitalize()}" for color in words.COLORS.of("all")] + [f" {name}" for name in ioi.FRESH_NAMES]
    return texts


def vocabulary() -> list[str]:
    """All tokens in order: the specials, 256 bytes, then the words as byte-level strings (a leading space is
    "Ġ")."""
    found: dict[str, None] = {}
    for text in _texts():
        found |= dict.fromkeys(piece for piece in pieces(text) if len(piece) > 1)
    whole = [piece.replace(" ", "Ġ").replace("\n", "Ċ") for piece in sorted(found)]
    return [BOS, EOS, PAD, *sorted(pre_tokenizers.ByteLevel.alphabet()), *whole]


def build() -> Tokenizer:
    """The tokenizer. `<bos>` is put in front of every text."""
    vocab = {token: i for i, token in enumerate(vocabulary())}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS}:1 $B:1", special_tokens=[(BOS, vocab[BOS])]
    )
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in (BOS, EOS, PAD)]
    )
    return tokenizer


def encoder() -> tuple[dict[str, int], Tokenizer]:
    """A table piece -> id for fast encoding of our own sentences, and the tokenizer it stands for."""
    tokenizer = build()
    table = {token.replace("Ġ", " ").replace("Ċ", "\n"): i for token, i in tokenizer.get_vocab().items()}
    return table, tokenizer


def save(folder: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json, so that AutoTokenizer loads them offline."""
    folder.mkdir(parents=True, exist_ok=True)
    build().save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": PAD,
        "model_max_length": MAX_LENGTH,
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        "padding_side": "right",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=HERE.parent)
    save(parser.parse_args().out)

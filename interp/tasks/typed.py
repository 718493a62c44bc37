"""What somebody types, as tokens: an edited prompt, an answer; and a prompt as text that can be edited. No torch."""

from collections.abc import Sequence
from typing import Any

from interp.core.errors import InterpError
from interp.tasks.prompt import Prompt
from interp.tasks.tokenise import encode, token_text, token_texts, word_ids


def prompt_ids(tokenizer: Any, first: Sequence[int], text: str, *, longest: int, vocab_size: int) -> list[int]:
    """Token ids of a prompt that was typed, the tokenizer's own beginning included; numbers, where there is no tokenizer.

    Args:
        first: ``begin(tokenizer)``. longest: most tokens. vocab_size: of the model.

    Raises:
        InterpError: nothing is left of it, the tokenizer cannot read it, it is too long.
    """
    asked, room = "run the edited prompt", longest
    if not text.strip():
        raise InterpError(asked, "it is empty", "write at least one word")
    if len(text.encode(errors="replace")) > 64 * room:
        raise InterpError(asked, f"it has {len(text):,} characters and {room:,} tokens are the most", "shorten it")
    if tokenizer is None:
        try:
            ids = [int(part) for part in text.replace(",", " ").split()]
        except ValueError:
            raise InterpError(asked, "the model has no tokenizer and it is no list of numbers", "write token ids") from None
        if not 0 <= min(ids) <= max(ids) < vocab_size:
            raise InterpError(asked, f"token ids go from 0 to {vocab_size - 1}", "write ids of this vocabulary")
    else:
        if text != text.encode(errors="replace").decode():
            raise InterpError(asked, "it holds half of a character", "delete it, or write the whole character")
        ids = list(encode(tokenizer, Prompt(text), tuple(first)).ids)
    if len(ids) > room:
        raise InterpError(asked, f"it has {len(ids):,} tokens and {room:,} are the most", "shorten it")
    return ids


def answer_ids(tokenizer: Any, typed: str, given: Sequence[int], vocab_size: int) -> list[int]:
    """Token ids of the answer that was typed; the prompt's own where nothing was. A space before a word may be left out.

    Raises:
        InterpError: it is not one token.
    """
    if not typed.strip():
        return list(given)
    asked = f"measure the answer {typed[:40]!r}"
    if tokenizer is None:
        if not typed.strip().isdecimal() or int(typed) >= vocab_size:
            raise InterpError(asked, "the model has no tokenizer", f"write a token id from 0 to {vocab_size - 1}")
        return [int(typed)]
    if typed != typed.encode(errors="replace").decode():
        raise InterpError(asked, "it holds half of a character", "write the whole character")
    spaced = bool(given) and token_text(tokenizer, given[0]).startswith(" ")
    wanted = [" " + typed.strip(), typed] if spaced and not typed.startswith(" ") else [typed]
    found = [word_ids(tokenizer, one) for one in wanted]
    single = next((ids for ids in found if len(ids) == 1 and ids[0] != getattr(tokenizer, "unk_token_id", None)), None)
    if single is None:
        pieces = " ".join(repr(piece) for piece in token_texts(tokenizer, found[0]))
        raise InterpError(asked, f"it is {len(found[0])} tokens ({pieces})" if len(found[0]) != 1 else
                          "the tokenizer does not know it", "write a word that is one token")
    return list(single)


def prompt_text(tokenizer: Any, first: Sequence[int], batch: Any, i: int, ids: Sequence[int]) -> str:
    """Prompt ``i`` of a batch, whose tokens are ``ids``, as text that can be edited; its ids where there is no tokenizer."""
    if tokenizer is None:
        return " ".join(map(str, ids))
    prompts = getattr(batch, "prompts", ())
    text = prompts[i].clean.text if i < len(prompts) and prompts[i].clean.ids is None else ""
    if text and [*first, *tokenizer(text, add_special_tokens=False)["input_ids"]] == list(ids):
        return str(text)
    bare = ids[len(first) :] if tuple(ids[: len(first)]) == tuple(first) else ids
    return str(tokenizer.decode(bare, skip_special_tokens=False, clean_up_tokenization_spaces=False))

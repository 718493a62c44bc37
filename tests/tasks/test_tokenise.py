"""Named characters become the right tokens, whatever the text and the tokenizer."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vocabularies import REAL, letters, lower_words, organism, real

from interp.core.errors import InterpError
from interp.tasks.prompt import Prompt, PromptPair
from interp.tasks.tokenise import SingleTokens, begin, corresponds, encode, is_single, word_ids

HOSTILE = st.sampled_from([
    " Mary", "Mary", " ", "  ", "\n", "\n\n", "\t", "é", "e\u0301", "🙂", "漢字", "\u00a0", "ﬁ", "İ", "ß", "\u200b",
    "👩\u200d🚀", " the", "'s", "<|endoftext|>", "<s>", "</s>", "1732", "don't", "\x00", "\ufeff", "ａ", "\r\n", "A:", "…",
])
PIECES = st.lists(HOSTILE | st.text(max_size=4), min_size=1, max_size=6).map("".join).filter(bool)


def covers(tokenizer, before, word, after):
    """The token range of a span is the smallest that covers its characters."""
    prompt = Prompt.of(before, ("word", word), after)
    found = encode(tokenizer, prompt)
    first = len(begin(tokenizer))
    coded = tokenizer(prompt.text, add_special_tokens=False, return_offsets_mapping=True)
    assert list(found.ids[first:]) == coded["input_ids"]
    start, stop = (index - first for index in found.spans["word"])
    offsets = coded["offset_mapping"]
    left, right = len(before), len(before) + len(word)
    touched = [i for i, (a, b) in enumerate(offsets) if a < right and b > left]
    assert (start, stop) == (touched[0], touched[-1] + 1)
    seen = {i for a, b in offsets for i in range(a, b)}
    told = {i for a, b in offsets[start:stop] for i in range(a, b)}
    assert set(range(left, right)) & seen <= told                       # nothing of the word that has a token is lost
    return offsets, (start, stop), (left, right)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(before=PIECES | st.just(""), word=PIECES, after=PIECES | st.just(""))
def test_spans_of_hostile_text_on_bytes(before, word, after):
    if after.endswith("<s>"):
        after += "."
    tokenizer = letters()
    covers(tokenizer, before, word, after)
    found = encode(tokenizer, Prompt.of(before, ("word", word), after))
    start, stop = found.spans["word"]
    parts = [tokenizer.decode(ids) for ids in (found.ids[1:start], found.ids[start:stop], found.ids[stop:])]
    if (before + word + after).isascii() and "<s>" not in before + word + after:
        assert "".join(parts) == before + word + after
        assert word in parts[1]


@pytest.mark.weights
@pytest.mark.parametrize("name", REAL)
def test_spans_of_hostile_text_on_real_tokenizers(name, weights):
    tokenizer = real(name, weights).tokenizer

    @settings(deadline=None, max_examples=80)
    @given(before=PIECES | st.just(""), word=PIECES, after=PIECES | st.just(""))
    def check(before, word, after):
        prompt = Prompt.of(before, ("word", word), after)
        coded = tokenizer(prompt.text, add_special_tokens=False, return_offsets_mapping=True)
        inside = [a < len(before + word) and b > len(before) for a, b in coded["offset_mapping"]]
        if any(inside) and tokenizer.unk_token not in tokenizer.convert_ids_to_tokens(coded["input_ids"]):
            covers(tokenizer, before, word, after)
        elif not any(inside):
            with pytest.raises(InterpError, match=r"no token|does not know"):
                encode(tokenizer, prompt)

    check()


def test_words_of_the_organism_are_whole_tokens():
    tokenizer = organism().tokenizer
    found = encode(tokenizer, Prompt.fill("When {IO} and {S1} went to the store, {S2} gave a ring to",
                                          {"IO": "Mary", "S1": "John", "S2": "John"}))
    told = {name: tokenizer.decode(found.ids[start:stop]).strip() for name, (start, stop) in found.spans.items()}
    assert told == {"IO": "Mary", "S1": "John", "S2": "John"}
    assert found.ids[0] == tokenizer.bos_token_id


def test_lower_case_without_spaces_and_accents():
    tokenizer = lower_words()
    assert begin(tokenizer) == (1,)
    found = encode(tokenizer, Prompt.of("When", ("A", " Mary"), " and", ("B", " John"), " went to", ("C", " CAFÉ"), ","))
    words = tokenizer.convert_ids_to_tokens(list(found.ids))
    assert words == ["[CLS]", "when", "mary", "and", "john", "went", "to", "cafe", ","]    # and no [SEP]
    assert {name: words[start] for name, (start, _) in found.spans.items()} == {"A": "mary", "B": "john", "C": "cafe"}
    with pytest.raises(InterpError, match=r"no token stands for the span 'gap' \('  '\)"):
        encode(tokenizer, Prompt.of("When", ("gap", "  "), "Mary"))
    with pytest.raises(InterpError, match="does not know 'Zoe'"):
        encode(tokenizer, Prompt("When Zoe went"))
    with pytest.raises(InterpError, match="no tokens"):
        encode(tokenizer, Prompt("  "))


def test_which_words_are_single():
    tokenizer = letters()
    keep = SingleTokens(tokenizer)
    asked = {" the": True, "a": True, " a": False, "ab": True, "é": False, "": False}
    assert {word: keep(word) for word in [*asked, " the"]} == asked
    assert keep.dropped == (" a", "é", "")
    assert not is_single(lower_words(), " zoe")    # one token, but the one for the unknown
    assert is_single(lower_words(), " Mary")
    assert word_ids(tokenizer, "\nab") == tuple(tokenizer("\nab", add_special_tokens=False)["input_ids"])


def test_token_ids_stand_as_they_are():
    found = encode(letters(), Prompt("", {"x": (1, 3)}, (7, 8, 9)))
    assert found.ids == (0, 7, 8, 9)
    assert found.spans == {"x": (2, 4)}
    assert encode(None, Prompt("", {"x": (1, 3)}, (7, 8, 9))).ids == (7, 8, 9)


def test_text_needs_a_tokenizer_that_knows_its_characters():
    with pytest.raises(InterpError, match="no tokenizer"):
        encode(None, Prompt("hello"))
    slow = type("Slow", (), {"is_fast": False, "__call__": lambda self, text, **_: {"input_ids": [1]}})()
    with pytest.raises(InterpError, match="which characters"):
        encode(slow, Prompt("hello"))


@pytest.mark.parametrize(("clean", "corrupt", "moving", "fits"), [
    (("x", "a", "c"), ("x", "c", "c"), (), True),
    (("x", "a", "c"), ("x", "ca", "c"), (), False),           # one token more
    (("x", "a", "b"), ("x", "a", "c"), (), False),            # "ab" is one token: the word is cut
    (("x", "a", "b"), ("y", "a", "b"), (), False),            # cut in both in the same way
    (("xx", "a", "c"), ("x", "a", "cc"), (), False),          # elsewhere
    (("xx", "a", "c"), ("x", "a", "cc"), ("word",), True),    # elsewhere by design
])
def test_which_pairs_correspond(clean, corrupt, moving, fits):
    prompts = [Prompt.of(before, ("word", word), after) for before, word, after in (clean, corrupt)]
    assert corresponds(letters(), PromptPair(*prompts, "a", ("b",)), moving, (0,)) == fits

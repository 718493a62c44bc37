"""Hand-made circuits as the engine and the measures take them: a loaded model and a batch of its prompts."""

from functools import cache

import interp
from interp.models.handmade import HANDMADE, HandMade
from interp.tasks import from_tokens


@cache
def loaded(made: HandMade):
    """The model as ``interp.load`` gives it from memory."""
    return interp.load(made.model, tokenizer=made.tokenizer)


@cache
def built(name: str) -> HandMade:
    """The hand-made model of that name, made once."""
    return HANDMADE[name]()


def batch_of(made: HandMade, n: int = 16, seed: int = 0, corruption: str | None = None, **options):
    """``n`` prompt pairs as a batch."""
    pairs = made.pairs(n, seed, corruption)
    positions = {name: [pair.positions[name] for pair in pairs] for name in pairs[0].positions if name != "end"}
    return from_tokens([pair.clean for pair in pairs], [pair.corrupt for pair in pairs], [pair.answer for pair in pairs],
                       [pair.wrong for pair in pairs], positions=positions, model=loaded(made), name=made.name, **options)

"""A hand-made model of two tasks with two heads in both circuits, of which one does the same in both and one does not.

A prompt is ``<bos> task x y which``: ``first`` asks for x, ``second`` for y. In the task ``names`` x and y are names, in
``colors`` colours. Both heads of layer 0 look from the last token to the word that is asked for::

    L0H0    copies whatever word it reads to the output, in both tasks
    L0H1    copies names to the output; of colours it writes a *code*, which only L1H0 turns into the colour, and L1H0 looks
            at the code only where L0H2 has found the task ``colors``

Each adds GAIN to the answer's logit in either task, so each is needed in both, whatever one measures in one task alone.
"""

import torch

from interp.models.handmade.weights import HeadWeights, Residual, assemble, one_hot
from interp.models.plain import PlainForCausalLM
from interp.tasks import from_tokens

NAMES, COLORS = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn"), ("red", "blue", "green", "pink", "grey", "black")
VOCABULARY = ("<bos>", *NAMES, *COLORS, "names", "colors", "first", "second")
WORD = {text: index for index, text in enumerate(VOCABULARY)}
TASKS = {"names": NAMES, "colors": COLORS}
GAIN, BETA, CONTEXT = 10.0, 30.0, 16


def two_tasks() -> PlainForCausalLM:
    size = len(VOCABULARY)
    space = Residual(tok=size, pos=CONTEXT, one=1, code=size, colored=1, out=size)

    def only(words: tuple[str, ...]) -> torch.Tensor:
        return torch.diag(one_hot(size, *(WORD[word] for word in words))[0])

    asks = torch.zeros(CONTEXT, size)
    asks[2, WORD["first"]] = asks[3, WORD["second"]] = BETA
    look = space.read("tok", asks), space.read("pos")
    word = space.read("tok")
    mover = HeadWeights(*look, word, space.write("out"))
    split = HeadWeights(*look, word, space.write("out", only(NAMES)) + space.write("code", only(COLORS)))
    task = HeadWeights(BETA * space.read("one"), space.read("pos", one_hot(CONTEXT, 1)),
                       space.read("tok", one_hot(size, WORD["colors"])), space.write("colored"))
    silent = mover.silent()
    # at the last token: BETA (colored - 1/2) at itself, 0 elsewhere
    itself = torch.cat([space.read("colored"), -space.read("one") / 2])
    at_end = torch.cat([space.read("pos", one_hot(CONTEXT, 4))] * 2)
    decode = HeadWeights(BETA * itself, at_end, space.read("code"), space.write("out"))
    return assemble(space, [[mover, split, task, silent], [decode, silent, silent, silent]], GAIN * space.read("out"))


def batches(n: int, seed: int, model: object) -> dict[str, object]:
    """Prompts of both tasks; the corrupted ones ask for the other word."""
    generator, found = torch.Generator().manual_seed(seed), {}
    for task, words in TASKS.items():
        clean, corrupt, answers, wrong = [], [], [], []
        for _ in range(n):
            x, y = (WORD[words[int(i)]] for i in torch.randperm(len(words), generator=generator)[:2])
            second = bool(torch.rand(1, generator=generator) < 0.5)
            asked = [WORD["second" if second else "first"], WORD["first" if second else "second"]]
            clean.append([0, WORD[task], x, y, asked[0]])
            corrupt.append([0, WORD[task], x, y, asked[1]])
            answers.append(y if second else x)
            wrong.append(x if second else y)
        found[task] = from_tokens(clean, corrupt, answers, wrong, name=task, model=model)
    return found

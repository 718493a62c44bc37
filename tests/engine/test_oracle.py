"""Every intervention against hooks on the untouched transformers model, one unpadded prompt at a time, on every decoder."""

from functools import cache, partial

import pytest
import torch
from cases import CLEAN, CORRUPT, SPANS, batch_of, model_of
from plain_hooks import Plain
from torch import Tensor

from interp.engine.forward import run
from interp.engine.intervention import (
    Add,
    AttendToFirst,
    Intervention,
    Mean,
    Replace,
    Resample,
    RowEdit,
    Scale,
    Uniform,
    Zero,
)
from interp.models.tiny import DECODERS

LAYER = 1
WINDOW = {"mistral": 4}
"""Sliding window of the tiny models' middle layer (the windowed layers of the others are their first and last)."""


@cache
def plain(architecture: str) -> Plain:
    return Plain(architecture)


@cache
def loaded(architecture: str):
    return model_of(architecture)


@cache
def captured(architecture: str, what: str) -> dict[str, list[Tensor]]:
    """Activations of each clean and corrupted prompt on its own."""
    return {side: [plain(architecture).forward(ids, capture=[(what, LAYER)])[1][what, LAYER] for ids in prompts]
            for side, prompts in (("clean", CLEAN), ("corrupt", CORRUPT))}


def tokens(positions, i: int) -> list[int]:
    """The token indices that a position spec means in prompt i."""
    if positions is None:
        return list(range(len(CLEAN[i])))
    if positions == "end":
        return [len(CLEAN[i]) - 1]
    if isinstance(positions, tuple):
        return sorted({t for p in positions for t in ([p % len(CLEAN[i])] if isinstance(p, int) else tokens(p, i))})
    return list(range(*SPANS[positions][i]))


def mean_by_position(acts: list[Tensor], positions, rank: int, head: int) -> Tensor:
    found = [acts[j][tokens(positions, j)[rank], head] for j in range(4) if len(tokens(positions, j)) > rank]
    return sum(found) / len(found)


def mean_by_token(acts: list[Tensor], head: int) -> Tensor:
    rows = [x[p, head] for x in acts for p in range(len(x))]
    return sum(rows) / len(rows)


def mean_rows(acts: list[Tensor], positions, rank: int, head: int, width: int) -> Tensor:
    """Mean of rows of patterns, a missing key counting as 0."""
    total, n = torch.zeros(9), 0
    for j, x in enumerate(acts):
        if len(tokens(positions, j)) > rank:
            row = x[head, tokens(positions, j)[rank]]
            total[:len(row)] += row
            n += 1
    return (total / n)[:width]


def vector_cases(what: str, acts: dict[str, list[Tensor]], d: int, head: int):
    """(value, positions, what it puts at (prompt, rank, position, old row)) for activations with a vector per head."""
    add, put = torch.linspace(-2, 1, d), torch.linspace(1, -1, d)
    yield Zero(), "S", lambda i, r, p, x: torch.zeros(d)
    yield Scale(1.7), "phrase", lambda i, r, p, x: 1.7 * x
    yield Resample("corrupt"), None, lambda i, r, p, x: acts["corrupt"][i][p, head]
    yield Resample("corrupt"), ("S", -1), lambda i, r, p, x: acts["corrupt"][i][p, head]
    yield Mean("corrupt"), None, lambda i, r, p, x: mean_by_position(acts["corrupt"], None, r, head)
    if what in ("z", "v"):
        yield Mean("clean"), "phrase", lambda i, r, p, x: mean_by_position(acts["clean"], "phrase", r, head)
        yield Mean("corrupt", "token"), "end", lambda i, r, p, x: mean_by_token(acts["corrupt"], head)
        yield Add(add), "end", lambda i, r, p, x: x + add
        yield Replace(put), (0, "S"), lambda i, r, p, x: put


def row_cases(acts: dict[str, list[Tensor]], head: int, window: int | None):
    """The same for rows of a pattern: (value, positions, keys, new row)."""
    def some(i, p, x, new, keys):
        out = x.clone()
        out[tokens(keys, i)] = new[tokens(keys, i)]
        return out

    def seen(i, p, width):
        first = 0 if window is None else max(0, p - window + 1)
        return torch.tensor([first <= k <= p for k in range(width)])

    yield Zero(), None, None, lambda i, r, p, x: torch.zeros_like(x)
    yield Zero(), "end", "S", lambda i, r, p, x: some(i, p, x, torch.zeros_like(x), "S")
    yield Scale(0.5), "phrase", None, lambda i, r, p, x: 0.5 * x
    yield Resample("corrupt"), None, None, lambda i, r, p, x: acts["corrupt"][i][head, p]
    yield Resample("corrupt"), "end", ("phrase", 0), lambda i, r, p, x: some(
        i, p, x, acts["corrupt"][i][head, p], ("phrase", 0))
    yield Mean("corrupt"), None, None, lambda i, r, p, x: torch.where(
        seen(i, p, len(x)), mean_rows(acts["corrupt"], None, r, head, len(x)), x)
    yield Uniform(), None, None, lambda i, r, p, x: seen(i, p, len(x)) / seen(i, p, len(x)).sum()
    yield AttendToFirst(), "phrase", None, lambda i, r, p, x: (seen(i, p, len(x)).cumsum(0) == 1) & seen(i, p, len(x))
    yield RowEdit({"end": 0.25, -2: 0.75}), "end", None, lambda i, r, p, x: torch.tensor([0.0] * (len(x) - 2) + [0.75, 0.25])


def close(found: Tensor, want: Tensor, where: str) -> None:
    torch.testing.assert_close(found, want, atol=1e-4, rtol=1e-4, msg=lambda m: f"{where}: {m}")


def expected(architecture: str, what: str, head: int, ids, i: int, positions, new) -> Tensor:
    """Logits of prompt i when the rows at ``positions`` of one head are replaced by what ``new`` says."""
    def change(x: Tensor) -> Tensor:
        x = x.clone()
        rows = x[head] if what == "pattern" else x[:, head]
        for rank, p in enumerate(tokens(positions, i)):
            rows[p] = new(i, rank, p, rows[p].clone()).to(x.dtype)
        return x

    return plain(architecture).forward(ids, [(what, LAYER, change)])[0][-1]


@pytest.mark.parametrize("what", ["z", "q", "k", "v"])
@pytest.mark.parametrize("architecture", DECODERS)
def test_head_vectors(architecture, what):
    if architecture == "deepseek_v3" and what == "k":
        pytest.skip("heads of latent attention share the rotary part of the key: see test_keys_of_latent_attention")
    acts = captured(architecture, what)
    d, heads = acts["clean"][0].shape[2], acts["clean"][0].shape[1]
    head = min(2, heads - 1)
    model, right, left = loaded(architecture), batch_of("right"), batch_of("left")
    for value, positions, new in vector_cases(what, acts, d, head):
        item = Intervention(what, LAYER, head, positions, value)
        logits, padded_left = run(model, right, item).logits, run(model, left, item).logits
        for i, ids in enumerate(CLEAN):
            want = expected(architecture, what, head, ids, i, positions, new)
            close(logits[i], want, f"{item}, prompt {i}")
            close(padded_left[i], want, f"{item}, prompt {i}, padded left")


def test_keys_of_latent_attention():
    """The keys of all heads at once: the part of each head's own, and the rotary part that they share."""
    parts = ("k without rotary", "k with rotary")
    acts = {part: captured("deepseek_v3", part)["corrupt"] for part in parts}
    resampled = run(loaded("deepseek_v3"), batch_of("left"), Intervention("k", LAYER, None, "S", Resample("corrupt"))).logits
    zeroed = run(loaded("deepseek_v3"), batch_of("left"), Intervention("k", LAYER, None, "phrase", Zero())).logits
    for i, ids in enumerate(CLEAN):
        def take(x, part, i=i):
            x = x.clone()
            x[tokens("S", i)] = acts[part][i][tokens("S", i)]
            return x

        def zero(x, i=i):
            x = x.clone()
            x[tokens("phrase", i)] = 0
            return x

        want = plain("deepseek_v3").forward(ids, [(part, LAYER, partial(take, part=part)) for part in parts])[0][-1]
        close(resampled[i], want, f"prompt {i}")
        want = plain("deepseek_v3").forward(ids, [(part, LAYER, zero) for part in parts])[0][-1]
        close(zeroed[i], want, f"prompt {i}")


@pytest.mark.parametrize("architecture", DECODERS)
def test_patterns(architecture):
    acts, head = captured(architecture, "pattern"), 3
    model, right, left = loaded(architecture), batch_of("right"), batch_of("left")
    for value, positions, keys, new in row_cases(acts, head, WINDOW.get(architecture)):
        item = Intervention("pattern", LAYER, head, positions, value, keys=keys)
        logits, padded_left = run(model, right, item).logits, run(model, left, item).logits
        for i, ids in enumerate(CLEAN):
            want = expected(architecture, "pattern", head, ids, i, positions, new)
            close(logits[i], want, f"{item}, prompt {i}")
            close(padded_left[i], want, f"{item}, prompt {i}, padded left")


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gpt_neox", "gemma2"])
@pytest.mark.parametrize("what", ["z", "v"])
def test_denoising(architecture, what):
    """Run on corrupted prompts, activations from clean ones."""
    acts = captured(architecture, what)
    head = 1
    item = Intervention(what, LAYER, head, "S", Resample("clean"))
    logits = run(loaded(architecture), batch_of(), item, on="corrupt").logits
    for i, ids in enumerate(CORRUPT):
        want = expected(architecture, what, head, ids, i, "S", lambda i, r, p, x: acts["clean"][i][p, head])
        close(logits[i], want, f"prompt {i}")


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gpt_neox", "gemma2"])
def test_several_at_once(architecture):
    """Two heads of one layer and one of the next, each with its own value; two interventions on one head in order."""
    acts = captured(architecture, "z")
    vector = torch.linspace(-1, 1, acts["clean"][0].shape[2])
    items = [Intervention("z", LAYER, (0, 2), "S", Resample("corrupt")), Intervention("z", LAYER, 2, None, Add(vector)),
             Intervention("z", LAYER, 2, "end", Scale(3.0)), Intervention("z", 2, 1, None, Zero())]
    logits = run(loaded(architecture), batch_of(), items).logits

    for i, ids in enumerate(CLEAN):
        s = SPANS["S"][i][0]

        def first(x, i=i, s=s):
            x = x.clone()
            x[s, [0, 2]] = acts["corrupt"][i][s, [0, 2]]
            x[:, 2] += vector
            x[-1, 2] *= 3
            return x

        def second(x):
            x = x.clone()
            x[:, 1] = 0
            return x

        want = plain(architecture).forward(ids, [("z", LAYER, first), ("z", 2, second)])[0][-1]
        close(logits[i], want, f"prompt {i}")

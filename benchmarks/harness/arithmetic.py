"""The arithmetic that exactness needs, counted without the engine: multiplications and additions of a GPT-2 forward pass.

Counted is what can change the answer and nothing else: after a patch only positions whose residual stream differs, in the
last layer only keys, values and the answer position, of the unembedding only the columns that are read; a key that did not
change keeps its score. Norms, softmax, GELU and copies are not counted. ``positions`` are those where the two runs differ.
"""

from collections.abc import Collection

from benchmarks.harness.shapes import Setting, Shape

COLUMNS = 2
"""Logits that the metric reads: an answer and a wrong one."""


def sweep_flops(setting: Setting, what: str = "z", first: int = 0, *, by_position: bool = False) -> float:
    """A whole sweep over heads (and positions): every patched run of every prompt, and the two runs that it starts from."""
    shape, length = setting.shape, setting.length
    places = [range(p, p + 1) for p in range(first, length)] if by_position else [range(first, length)]
    patched = sum(patched_flops(shape, length, what, layer, place) for layer in range(shape.layers) for place in places)
    both = untouched_flops(shape, length) + untouched_flops(shape, length, range(first, length))
    return setting.prompts * (shape.heads * patched + both)


def patched_flops(shape: Shape, length: int, what: str, layer: int, positions: Collection[int]) -> float:
    """One run of one prompt with ``what`` of one head of ``layer`` patched at ``positions``, given the unpatched run."""
    size, last = shape.width // shape.heads, layer == shape.layers - 1
    queries = range(min(positions), length) if what in ("k", "v") else positions
    queries = [q for q in queries if not last or q == length - 1]
    if not queries:
        return 0.0
    seen = {q: q + 1 for q in queries}
    changed = {q: sum(p <= q for p in positions) for q in queries}
    scores = {"q": sum(seen.values()), "k": sum(changed.values())}.get(what, 0)
    mixed = {"q": sum(seen.values()), "k": sum(seen.values()), "pattern": sum(seen.values()), "v": sum(changed.values())}
    inside = 2 * size * (scores + mixed.get(what, 0)) + 2 * len(queries) * size * shape.width
    return inside + _mlp(shape, len(queries)) + _above(shape, length, layer + 1, queries)


def edges_flops(setting: Setting) -> float:
    """Every edge patched alone, in every prompt: one projection of one receiver made anew, and what follows from it."""
    shape, length, total, places = setting.shape, setting.length, 0.0, range(setting.length)
    size, output = shape.width // shape.heads, 2.0 * shape.width * COLUMNS
    for layer in range(shape.layers):
        senders, read = 1 + layer * (shape.heads + 1), [length - 1] if layer == shape.layers - 1 else places
        for what in ("q", "k", "v"):
            projected = 2.0 * shape.width * size * len(read if what == "q" else places)
            total += senders * shape.heads * (projected + patched_flops(shape, length, what, layer, places))
        total += (senders + shape.heads) * (_mlp(shape, len(read)) + _above(shape, length, layer + 1, read))
    return setting.prompts * (total + (1 + shape.layers * (shape.heads + 1)) * output)


def untouched_flops(shape: Shape, length: int, positions: Collection[int] | None = None) -> float:
    """A run of one prompt to the columns that are read; only at ``positions``, where the rest is known from another run."""
    return _above(shape, length, 0, range(length) if positions is None else positions)


def _above(shape: Shape, length: int, start: int, changed: Collection[int]) -> float:
    """Layers from ``start`` on, whose residual stream differs at ``changed``, and the columns that are read."""
    total, changed = 0.0, set(changed)
    for layer in range(start, shape.layers):
        last = layer == shape.layers - 1
        queries = [q for q in range(min(changed), length) if not last or q == length - 1]
        total += _linear(2, shape, len(changed)) + _linear(1, shape, len(changed & set(queries)))
        for q in queries:
            keys = q + 1 if q in changed else sum(k <= q for k in changed)
            total += 2 * shape.width * (keys + q + 1)
        total += _linear(1, shape, len(queries)) + _mlp(shape, len(queries))
        changed = set(queries)
    return total + 2 * shape.width * COLUMNS


def _linear(parts: int, shape: Shape, tokens: int) -> float:
    return 2.0 * parts * tokens * shape.width**2


def _mlp(shape: Shape, tokens: int) -> float:
    return 16.0 * tokens * shape.width**2

"""Patterns whose features are known: a sink, a previous-token head, a head that attends to itself, one with NaN rows."""

import numpy as np

HOSTILE = ("</script><script>window.hacked=1</script>", "<img src=x onerror=window.hacked=1>", "\u202egnp.exe", "\ud83d",
           " ", "\n", "", "العربية", "x" * 300, "<!--", "{{ 7*7 }}", "<0xF0>")


def patterns(layers: int = 2, heads: int = 3, size: int = 12) -> np.ndarray:
    """[layer, head, query, key], causal: head 0 gives all to the first key, head 1 0.9 to the previous token and 0.1 to the
    first, other heads all to the token itself."""
    out = np.zeros((layers, heads, size, size), np.float32)
    at = np.arange(size)
    for head in range(heads):
        if head == 0:
            out[:, head, :, 0] = 1
        elif head == 1:
            out[:, head, at[1:], at[:-1]] += 0.9
            out[:, head, at[1:], 0] += 0.1
            out[:, head, 0, 0] = 1
        else:
            out[:, head, at, at] = 1
    return out

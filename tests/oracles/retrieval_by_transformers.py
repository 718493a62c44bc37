"""Retrieval scores written a second time, on transformers alone: its own generation, its own ``output_attentions``."""

import numpy as np
import torch


def scores(network, ids, needle, steps, stop, counting):
    """[layer, head] for one prompt: ``ids``, ``needle`` (start, stop), at most ``steps`` tokens up to one of ``stop``."""
    start, end = needle
    wanted = ids[start:end]
    with torch.no_grad():
        begun = network(torch.tensor([ids[:-1]]), use_cache=True)
        cache, fed, seen = begun.past_key_values, ids[-1], {}
        total = None
        for _ in range(steps):
            out = network(torch.tensor([[fed]]), past_key_values=cache, use_cache=True, output_attentions=True)
            cache, token = out.past_key_values, int(out.logits[0, -1].argmax())
            rows = np.stack([layer[0, :, -1].numpy() for layer in out.attentions])
            total = np.zeros(rows.shape[:2]) if total is None else total
            for layer, head in np.ndindex(*rows.shape[:2]):
                at = int(np.argmax(rows[layer, head]))
                if start <= at < end and ids[at] == token:
                    total[layer, head] += 1
                    seen.setdefault((layer, head), set()).add(token)
            if token in stop:
                break
            fed = token
    if counting == "count":
        return total / len(wanted)
    found = np.zeros_like(total)
    for place, tokens in seen.items():
        found[place] = len(tokens & set(wanted)) / len(set(wanted))
    return found

"""Tables of effects with proxies, of many shapes, for simulations of what is certified."""

import numpy as np

SHAPES = ("normal", "heavy", "skewed", "spiky", "tied", "crowded", "signs")


def population(shape, seed, candidates=60, prompts=8, error=0.2):
    """(values, proxy), each [candidate, prompt]: means spread over some units, proxies off by about ``error`` of a unit.

    ``heavy``: errors of Student's t with 3 degrees of freedom; ``skewed``: log-normal; ``spiky``: one error in twenty is ten
    times as large; ``tied``: values rounded, so that means coincide; ``crowded``: all means within a tenth of a unit;
    ``signs``: half of the effects are negative.
    """
    rng = np.random.default_rng(seed)
    draw = {
        "heavy": lambda size: rng.standard_t(3, size),
        "skewed": lambda size: np.exp(rng.standard_normal(size)) - np.exp(0.5),
        "spiky": lambda size: np.where(rng.random(size) < 0.05, 10, 1) * rng.standard_normal(size),
    }.get(shape, rng.standard_normal)
    mean = rng.exponential(1, (candidates, 1))
    if shape == "crowded":
        mean = 1 + 0.1 * rng.standard_normal((candidates, 1))
    if shape == "signs":
        mean = mean * rng.choice([-1, 1], (candidates, 1))
    proxy = mean + 0.3 * rng.standard_normal((candidates, prompts))
    values = proxy + error * draw((candidates, 1)) + error * draw((candidates, prompts))
    return (np.round(values, 0) if shape == "tied" else values), proxy


def hidden(seed, candidates=60, prompts=8, count=3):
    """A table in which the proxy knows nothing of the ``count`` largest effects: it is zero there, and exact elsewhere."""
    rng = np.random.default_rng(seed)
    values = rng.exponential(1, (candidates, 1)) + 0.1 * rng.standard_normal((candidates, prompts))
    proxy = values.copy()
    where = rng.choice(candidates, count, replace=False)
    values[where] += 20
    proxy[where] = 0.0
    return values, proxy


def reader(values, log=None):
    """``read`` of a table; ``log`` gathers how many entries each call asked for."""

    def read(candidates, prompts):
        if log is not None:
            log.append((len(candidates), len(prompts)))
        return values[np.ix_(candidates, prompts)]

    return read


def missed(found, values, magnitude=False):
    """How many of the true top k are not among those found (a tie with the smallest found counts as found)."""
    mean = np.nanmean(values, axis=1)
    mean = np.abs(mean) if magnitude else mean
    smallest = mean[found].min()
    return int((np.delete(mean, found) > smallest + 1e-9).sum()) if len(found) else 0

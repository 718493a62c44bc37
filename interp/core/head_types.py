"""What each head is, called from evidence: values per role, text and prompt; "unknown" where they do not bear it out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from interp.core.errors import InterpError
from interp.core.head import Head
from interp.core.intervals import Floats, bootstrap, check_confidence, resamples

UNKNOWN = "unknown"
SINK = "first-token sink"


@dataclass(frozen=True, eq=False)
class Role:
    """The evidence for one role.

    Attributes:
        values: text -> [layer, head, prompt]: how strongly the head plays the role there; 0 is what a head does that knows
            nothing of it, 1 is doing nothing else. NaN where a prompt cannot tell.
        at_least: the mean over prompts that is asked for.
        raw: text -> the same before chance was taken off, with its unit: what a reader is told.
        resting: whether the role is one of doing nothing; a head that has any other is named by that.
    """

    values: Mapping[str, Floats]
    at_least: float
    raw: Mapping[str, Floats]
    unit: str = "share of attention"
    resting: bool = False


@dataclass(frozen=True, eq=False)
class HeadTypes:
    """What each head is, and why.

    Attributes:
        table: a row per head: head, layer, index, type (the strongest role that was called, or ``unknown``), also (the other
            roles), reliability (share of resamples of the prompts in which this role is called), texts (on how many of the
            texts that can tell, as ``2/3``), strength, and for a head that knows none the ``nearest`` role. ``sink_rows``:
            the share of rows that rest on the first token, in every row; a sink is never called without it.
        evidence: a row per head, role and text: strength with its interval, the raw value and its unit, passed, n prompts.
        asked: confidence, thresholds, texts, and what could not be asked and why.
    """

    table: pd.DataFrame
    evidence: pd.DataFrame
    asked: Mapping[str, object]

    def heads(self, role: str) -> list[str]:
        """Labels of the heads that have this role, as their type or besides it."""
        names = self.table["roles"].map(lambda roles: role in roles)
        return [str(head) for head in self.table.loc[names, "head"]]


def call_types(roles: Mapping[str, Role], *, attention: str = "self", confidence: float = 0.95, in_texts: float = 0.5,
               n_boot: int = 1000, seed: int = 0, asked: Mapping[str, object] | None = None) -> HeadTypes:
    """Call the roles of every head.

    A role is called where the mean over prompts is at least ``at_least`` on more than the share ``in_texts`` of the texts
    that can tell it, and where that holds in the share ``confidence`` of resamples of the prompts (bootstrap, each text's
    prompts by themselves). The type is the strongest role called, a resting one only where there is no other.

    Raises:
        InterpError: no evidence, or a confidence or share outside its range.
    """
    check_confidence(confidence)
    if not roles or not 0 <= in_texts < 1:
        raise InterpError("call head types", f"there are {len(roles)} roles, and in_texts is {in_texts}",
                          "give evidence for some role, and a share from 0 up to (not including) 1")
    found = {name: _judged(role, confidence, in_texts, n_boot, seed) for name, role in roles.items()}
    n_layers, n_heads = next(iter(next(iter(roles.values())).values.values())).shape[:2]
    rows: list[dict[str, object]] = []
    evidence: list[dict[str, object]] = []
    for layer, index in np.ndindex(n_layers, n_heads):
        head = str(Head(layer, index, attention))
        called = [name for name, one in found.items() if one.called[layer, index]]
        called.sort(key=lambda name: (roles[name].resting, -found[name].strength[layer, index]))
        nearest = max(found, key=lambda name: np.nan_to_num(found[name].strength[layer, index], nan=-np.inf))
        shown = called[0] if called else nearest
        one = found[shown]
        row = {"head": head, "layer": layer, "index": index,
               "type": _named(called[0], roles, layer, index) if called else UNKNOWN,
               "also": ", ".join(_named(name, roles, layer, index) for name in called[1:]), "nearest": nearest,
               "reliability": one.reliability[layer, index], "strength": one.strength[layer, index],
               "texts": f"{one.passed[:, layer, index].sum()}/{one.able[:, layer, index].sum()}", "roles": tuple(called)}
        if SINK in roles:
            row["sink_rows"] = _overall(roles[SINK].raw, layer, index)
        rows.append(row)
    for name, role in roles.items():
        evidence += _evidence(name, role, found[name], attention, confidence)
    told = {"confidence": confidence, "in_texts": in_texts, "n_boot": n_boot, "seed": seed,
            "at_least": {name: role.at_least for name, role in roles.items()}, **(asked or {})}
    return HeadTypes(pd.DataFrame(rows), pd.DataFrame(evidence), told)


@dataclass(frozen=True, eq=False)
class _Judged:
    """Of one role: called and strength (mean over texts) [layer, head], passed and able [text, layer, head]."""

    called: np.ndarray
    strength: Floats
    reliability: Floats
    passed: np.ndarray
    able: np.ndarray


def _judged(role: Role, confidence: float, in_texts: float, n_boot: int, seed: int) -> _Judged:
    values = list(role.values.values())
    means = np.stack([_mean(one, np.ones((1, one.shape[2])))[0] for one in values])
    drawn = np.stack([_mean(one, resamples(one.shape[2], n_boot, seed + i)) for i, one in enumerate(values)])
    able = np.isfinite(means)
    passed = means >= role.at_least
    enough = _enough(passed, able, in_texts)
    with np.errstate(invalid="ignore"):
        each = _enough(drawn >= role.at_least, np.isfinite(drawn), in_texts)
        strength = np.where(able, means, 0).sum(0) / able.sum(0)
    reliability = each.mean(0)
    several = np.max([np.isfinite(one).sum(2) for one in values], axis=0) > 1      # one prompt says nothing of others
    return _Judged(enough & (reliability >= confidence) & several, strength, np.where(several, reliability, np.nan),
                   passed, able)


def _enough(passed: np.ndarray, able: np.ndarray, in_texts: float) -> np.ndarray:
    """Whether the role shows on enough of the texts that can tell (first axis)."""
    count = able.sum(0)
    shown: np.ndarray = (count > 0) & (passed.sum(0) > in_texts * count)
    return shown


def _mean(values: Floats, draws: Floats) -> Floats:
    """[draw, layer, head]: means over prompts, each counted as often as drawn."""
    there = np.isfinite(values)
    total = np.einsum("bn,lhn->blh", draws, np.where(there, values, 0))
    number = np.einsum("bn,lhn->blh", draws, there.astype(np.float64))
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: Floats = total / number
    return mean


def _overall(raw: Mapping[str, Floats], layer: int, index: int) -> float:
    """Mean over texts of the mean over prompts."""
    means = [np.nanmean(one[layer, index]) for one in raw.values() if np.isfinite(one[layer, index]).any()]
    return float(np.mean(means)) if means else float("nan")


def _named(name: str, roles: Mapping[str, Role], layer: int, index: int) -> str:
    """A sink with its share of rows, any other role by its name."""
    return f"{name} ({_overall(roles[name].raw, layer, index):.0%} of rows)" if name == SINK else name


def _evidence(name: str, role: Role, judged: _Judged, attention: str, confidence: float) -> Sequence[dict[str, object]]:
    rows = []
    for i, (text, values) in enumerate(role.values.items()):
        low, high = bootstrap(np.moveaxis(values, 2, 0), confidence=confidence)
        for layer, index in zip(*np.nonzero(judged.able[i]), strict=True):
            here = values[layer, index]
            rows.append({
                "head": str(Head(int(layer), int(index), attention)), "role": name, "text": text,
                "strength": float(np.nanmean(here)), "low": float(low[layer, index]), "high": float(high[layer, index]),
                "raw": float(np.nanmean(role.raw[text][layer, index])), "unit": role.unit,
                "passed": bool(judged.passed[i, layer, index]), "prompts": int(np.isfinite(here).sum())})
    return rows

"""What a result that was not computed in full says of itself: counts, bounds and assumptions, in words.

A screening (``activation_patching(top=...)``) and a certified precision (``precision="certified"``) write what they found
out into ``Provenance.outcome``, under ``screening`` and ``precision``; ``certificate`` puts it into sentences.
"""

from collections.abc import Mapping
from typing import Any

from interp.core.provenance import Provenance

RANKED = {"mean": "mean", "magnitude": "absolute mean"}


def certificate(provenance: Provenance) -> str:
    """The sentences of a result's certificate, one a line; empty for a result that was computed in full."""
    found = provenance.outcome
    lines: list[str] = []
    if "screening" in found:
        lines += _screening(found["screening"], provenance.metric)
    if "precision" in found:
        lines += _precision(found["precision"], provenance.metric)
    return "\n".join(lines)


def unmeasured(provenance: Provenance) -> int:
    """How many heads (and positions) a screening left without a value; 0 for all other results."""
    return int(provenance.outcome.get("screening", {}).get("left", 0))


def _screening(found: Mapping[str, Any], metric: str) -> list[str]:
    k, of, sure = found["top"], found["of"], _percent(found["confidence"])
    lines = [
        f"The {k} {of} of the largest {RANKED[found['rank']]} effect on {metric}, each patched exactly on all prompts; "
        f"{found['spent']:,} exact evaluations, of {found['full']:,} of a full sweep "
        f"({_percent(found['spent'] / max(found['full'], 1))}; {found['free']:,} more were known to be zero).",
    ]
    left = found["left"]
    if not left:
        return [*lines, "Every candidate was patched on all prompts: these are the first of the full sweep, exactly."]
    lines += [
        f"{left:,} candidates were left out, unmeasured: their intervals end below {found['highest_left']:.4g}; the {k}-th "
        f"of the top has {found['threshold']:.4g}.",
        f"With {sure} confidence none of them belongs to the top {k}, if the gradient's errors have no longer tail than "
        f"c^-{found['tail']:g} beyond the largest of {found['sampled']} sampled at random from {found['population']:,} "
        f"(allowed for: {found['factor']:.3g} times that error).",
    ]
    lines.append(
        f"Whatever the errors are, with {sure} confidence at most {found['most_outside']:,} of those left out lie outside "
        "their intervals" + (f": at most {found['most_missed']} of the true top {k} are missing." if found["most_missed"] < k
                             else f"; that fewer than {k} do, a sample of {found['sampled']} cannot say (draw more).")
    )
    if found["refuted"]:
        lines.append(f"{found['refuted']} candidates lay outside their first interval when they were patched; all intervals "
                     "were widened to hold them.")
    return lines


def _precision(found: Mapping[str, Any], metric: str) -> list[str]:
    sure, share = _percent(found["confidence"]), _percent(found["redone"] / max(found["full"], 1))
    fine = found["redone_in"]
    lines = [
        f"Swept in {found['swept_in']}; {found['redone']:,} of {found['full']:,} candidates ({share}) redone in {fine}. "
        f"Error of a mean in a random sample of {found['sampled']}: median {found['error_median']:.2g}, largest "
        f"{found['error_largest']:.2g} {metric}.",
    ]
    if found["redone"] == found["full"]:
        return [*lines, f"Everything was redone: all values are those of {fine}."]
    lines.append(
        f"With {sure} confidence the first {found['ranks']} by {RANKED[found['rank']]}, their order and every significance "
        f"flag (t test, false-discovery rate {found['level']:g}) are those of {fine}; means that were not redone are off by "
        f"at most {found['bound']:.2g}. Assumed: errors have no longer tail than c^-{found['tail']:g} beyond the largest "
        f"sampled (allowed for: {found['factor']:.3g} times that error)."
    )
    if found["refuted"]:
        lines.append(f"{found['refuted']} candidates had a larger error than was allowed for; the allowance was raised.")
    return lines


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"

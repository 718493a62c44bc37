"""Checks of a loaded model, on a few random tokens: that what is read is what the network computes, and that edits act.

A site whose check fails is refused by name. Whether an edit acts is judged by what lies right behind its site (an edit of q
must move the scores, one of the pattern must move z, ...) and not by the logits, as a head that writes nothing may be real.
All edits are tried in one forward pass, one row of the batch for each; row 0 has none and must stay as it was.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.models.backend import Backend, Run, Stack
from interp.models.sites import Site

# An edit of the first site must move the second. For q and k the other one is made random in all rows that are compared,
# for the pattern the values, because a head may have zeros there; scores are replaced, because a softmax may be saturated.
_BEHIND = {"q_pre": "q", "k_pre": "k", "q": "scores", "k": "scores", "v": "z", "scores": "pattern", "pattern": "z",
           "attn_write": "resid_post", "resid_pre": "resid_post", "resid_mid": "resid_post", "mlp_write": "resid_post"}
_COMPANION = {"q": "k", "k": "q", "pattern": "v"}
_SUMMED = ("z", "result")
# A stream and what is written into it: where the sum holds in a run without edits, it must hold after an edit of its parts
# (an edit behind the fork of the residual stream would reach one branch only).
_STREAM = {"resid_pre": ("resid_mid", "resid_pre", "attn_write"), "attn_write": ("resid_mid", "resid_pre", "attn_write"),
           "resid_mid": ("resid_post", "resid_mid", "mlp_write"), "mlp_write": ("resid_post", "resid_mid", "mlp_write")}


@dataclass(frozen=True)
class Verification:
    """What was checked.

    Attributes:
        errors: name of a check -> largest deviation found, relative to the size of what is compared.
        refused: sites that failed their check, with the reason.
        inexact_padding: sides of padding that change the results of real tokens.
        silent: sites (of the first and last layer) whose edit acts on what lies behind it, but moves no logits.
    """

    errors: Mapping[str, float] = field(default_factory=dict)
    refused: Mapping[Site, str] = field(default_factory=dict)
    inexact_padding: tuple[str, ...] = ()
    silent: tuple[Site, ...] = ()


def verify(backend: Backend, inputs: Mapping[str, Tensor], reference: Callable[[Mapping[str, Tensor]], Tensor],
           pad: int | None = None) -> Verification:
    """Check a backend against ``reference``, the same network run untouched (inputs -> logits).

    Args:
        inputs: one valid example.
        pad: the padding token; None is token 0.

    Raises:
        InterpError: the logits differ from the reference, a run with identity edits differs from one without, or an edit
            of one prompt reaches another.
    """
    with torch.no_grad():
        errors: dict[str, float] = {}
        refused: dict[Site, str] = {}
        expected = reference(inputs)
        sites = sorted(backend.sites())
        run = backend.run(inputs, capture=sites)
        # the network's precision: logits and patterns may be in a higher one than what they were computed from
        allowed = tolerance(run.captured[Site("v", 0, backend.stacks[0].attention)].dtype)
        _demand("run the network with its own numbers", errors, "logits", logits_of(run), expected, allowed)
        same = backend.run(inputs, edits=dict.fromkeys(sites, torch.clone))
        _demand("patch a run with itself unchanged", errors, "self-patching", logits_of(same), logits_of(run), allowed)
        for stack in backend.stacks:
            _check_sums(backend, stack, run, errors, refused, allowed)
        silent = _check_edits(backend, inputs, errors, refused, allowed)
        padding = _check_padding(backend, inputs, expected, errors, allowed, pad or 0)
    return Verification(errors, refused, padding, silent)


def logits_of(run: Run) -> Tensor:
    """The logits, or what a network without them returns."""
    return run.output if run.logits is None else run.logits


def tolerance(dtype: torch.dtype) -> float:
    """How far two orders of computation may differ, relative to the largest entry."""
    return {torch.float64: 1e-8, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}[dtype]


def _deviation(a: Tensor, b: Tensor) -> float:
    """Largest difference relative to the largest entry (NaN where either has one)."""
    a, b = a.float(), b.float()
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-6))


def _demand(asked: str, errors: dict[str, float], name: str, got: Tensor, expected: Tensor, allowed: float) -> None:
    errors[name] = max(errors.get(name, 0.0), _deviation(got, expected))
    if not errors[name] <= allowed:
        raise InterpError(asked, f"its results differ by {errors[name]:.2g} of their size ({name})",
                          "report this architecture; load with verify=False to look at it nonetheless")


def _check_sums(backend: Backend, stack: Stack, run: Run, errors: dict[str, float], refused: dict[Site, str],
                allowed: float) -> None:
    """Heads sum to the attention output, patterns to one, and the softmax of the scores is the pattern."""
    for layer in range(stack.n_layers):
        def at(what: str, layer: int = layer) -> Site:
            return Site(what, layer, stack.attention)

        def check(name: str, got: Tensor, expected: Tensor, *whats: str, at: Callable[[str], Site] = at) -> None:
            error = _deviation(got, expected)
            errors[name] = max(errors.get(name, 0.0), error)
            if not error <= allowed:
                refused.update({at(what): f"{name} does not hold" for what in whats})

        if at("z") in run.captured:
            out, bias = run.captured[at("attn_out")], backend.b_O(layer, stack.attention)
            summed = torch.einsum("bthd,hdm->btm", run.captured[at("z")], backend.W_O(layer, stack.attention))
            check("heads sum to the attention output", summed if bias is None else summed + bias, out, *_SUMMED)
            results = run.captured[at("result")].sum(2)
            check("results sum to the attention output", results if bias is None else results + bias, out, "result")
        if at("pattern") in run.captured:
            pattern, scores = run.captured[at("pattern")], run.captured[at("scores")]
            total = pattern.float().sum(-1)
            owed = total.clamp(max=1) if stack.learned_sink else torch.ones_like(total)      # a sink takes the rest
            check("patterns sum to one", total, owed, "pattern")
            soft = scores.float().softmax(-1)
            own = pattern.float() / total[..., None] if stack.learned_sink else pattern.float()
            check("softmax of the scores is the pattern", own.to(pattern.dtype), soft.to(pattern.dtype), "scores", "pattern")


@dataclass(frozen=True)
class _Trial:
    """One row of the batch: what is done there to which sites of a layer; ``base`` is the row it is compared with."""

    row: int
    base: int
    tested: Site | None
    noised: tuple[Site, ...]


def _trials(backend: Backend) -> list[_Trial]:
    sites, trials, row = backend.sites(), [], 1
    for stack in backend.stacks:
        for layer in sorted({0, stack.n_layers - 1}):
            def at(what: str, layer: int = layer, stack: Stack = stack) -> Site:
                return Site(what, layer, stack.attention)

            bases = {None: 0}
            for what in dict.fromkeys(_COMPANION.values()):
                bases[what] = row
                trials.append(_Trial(row, 0, None, (at(what),)))
                row += 1
            for what in (*_BEHIND, *_SUMMED, "attn_out", "mlp_out", "resid_post"):
                if at(what) in sites:
                    companion = _COMPANION.get(what)
                    noised = (at(what),) if companion is None else (at(what), at(companion))
                    trials.append(_Trial(row, bases[companion], at(what), noised))
                    row += 1
    return trials


def _check_edits(backend: Backend, inputs: Mapping[str, Tensor], errors: dict[str, float], refused: dict[Site, str],
                 allowed: float) -> tuple[Site, ...]:
    """Try an edit of every kind of site in the first and last layer; what does not act is refused. Returns silent sites."""
    trials = _trials(backend)
    rows: dict[Site, list[int]] = {}
    for trial in trials:
        for site in trial.noised:
            rows.setdefault(site, []).append(trial.row)
    many = {name: x.repeat_interleave(1 + len(trials), 0) for name, x in inputs.items()}
    edits = {site: _noise(site, members) for site, members in rows.items()}
    looked_at = {0, 1, *(stack.n_layers - 1 for stack in backend.stacks)}
    captured = frozenset(site for site in backend.sites() if site.layer in looked_at)
    run = backend.run(many, edits, captured)
    logits = logits_of(run)
    _demand("edit one prompt without touching another", errors, "unedited prompt", logits[:1],
            logits_of(backend.run(inputs)).to(logits), allowed)
    silent = []
    for trial in trials:
        if trial.tested is None:
            continue
        site = trial.tested
        still = torch.equal(logits[trial.row], logits[trial.base])
        if not _acts(backend, run, trial, allowed) or (still and site == _last(backend)):
            refused |= {other: "an edit of it does not act" for other in backend.sites()
                        if (other.what, other.attention) == (site.what, site.attention)}
        elif still:
            silent.append(site)
    return tuple(silent)


def _last(backend: Backend) -> Site:
    """The residual stream that the logits are made of."""
    return Site("resid_post", backend.stacks[0].n_layers - 1, backend.stacks[0].attention)


def _noise(site: Site, rows: list[int]) -> Callable[[Tensor], Tensor]:
    """Noise in the given rows, the same in each: added, except for scores and patterns, which are replaced."""
    def edit(tensor: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(site.layer)
        noise = torch.randn(tensor.shape[1:], generator=generator).to(tensor)
        if site.what == "pattern":
            new = torch.where(tensor[0] == 0, tensor[0], noise.abs().to(tensor))
        elif site.what == "scores":
            new = torch.where(tensor[0] < -1e3, tensor[0], noise)
        else:
            new = tensor[0] + noise * tensor[0].float().square().mean().sqrt().clamp(min=0.1).to(tensor)
        out = tensor.clone()
        out[rows] = new
        return out

    return edit


def _acts(backend: Backend, run: Run, trial: _Trial, allowed: float) -> bool:
    """Whether what lies behind the edited site moved, or (where that is a linear map) is what the edit says it should be."""
    site, captured = trial.tested, run.captured

    def value(what: str, row: int = trial.row) -> Tensor:
        return captured[Site(what, site.layer, site.attention)][row]

    if site.what in _SUMMED:
        bias = backend.b_O(site.layer, site.attention)
        parts = value("result") if site.what == "result" else torch.einsum(
            "thd,hdm->thm", value("z"), backend.W_O(site.layer, site.attention))
        expected = parts.sum(1) if bias is None else parts.sum(1) + bias
        return _deviation(value("attn_out"), expected) <= allowed
    if site.what in _STREAM and all(Site(what, site.layer, site.attention) in captured for what in _STREAM[site.what]):
        off = [_deviation(value(total, row), value(a, row) + value(b, row))
               for row in (0, trial.row) for total, a, b in [_STREAM[site.what]]]
        if off[0] <= allowed and not off[1] <= allowed:
            return False
    if site.what == "resid_post":
        following = Site("resid_pre", site.layer + 1, site.attention)
        return following not in captured or _deviation(captured[following][trial.row], value("resid_post")) <= allowed
    behind = _BEHIND.get(site.what, site.what.replace("_out", "_write"))
    stream = "self" if behind == "resid_post" and site.attention == "cross" else site.attention
    where = Site(behind, site.layer, stream)
    return where not in captured or not torch.equal(captured[where][trial.row], captured[where][trial.base])


def _check_padding(backend: Backend, inputs: Mapping[str, Tensor], expected: Tensor, errors: dict[str, float],
                   allowed: float, pad: int) -> tuple[str, ...]:
    """Sides on which two tokens of padding change what the real tokens give (token models only)."""
    if "input_ids" not in inputs or "attention_mask" not in inputs:
        return ()
    inexact = []
    for side, (before, after) in {"left": (2, 0), "right": (0, 2)}.items():
        padded = dict(inputs)
        padded["input_ids"] = torch.nn.functional.pad(inputs["input_ids"], (before, after), value=pad)
        padded["attention_mask"] = torch.nn.functional.pad(inputs["attention_mask"], (before, after), value=0)
        got = logits_of(backend.run(padded))
        if "decoder_input_ids" not in inputs:
            got = got[:, before:got.shape[1] - after]
        name = f"padding on the {side}"
        errors[name] = _deviation(got, expected)
        if not errors[name] <= allowed:
            inexact.append(side)
    return tuple(inexact)

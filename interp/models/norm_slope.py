"""``NormSlope``: the derivative of a normalisation at one input, taken apart into the few numbers that it consists of."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from interp.core.errors import InterpError

_PROBE = 128.0      # so large that the norm's epsilon is lost in rounding


@dataclass(frozen=True)
class NormSlope:
    """The Jacobian of a layer norm or RMS norm (or of none) at ``x`` [..., d]::

        J p = w · inverse · (p − c·mean(p) − unit · (unit · p) / d)

    Attributes:
        weight: w, [d].
        centred: c, whether the mean is taken out (layer norm).
        inverse: 1 / s(x), [..., 1]: the factor by which the norm scales.
        unit: (x − c·mean(x)) / s(x), [..., d]: what the norm returns before weight and bias; 0 where there is no norm.
    """

    weight: Tensor
    centred: bool
    inverse: Tensor
    unit: Tensor

    def push(self, parts: Tensor) -> Tensor:
        """J p for parts [..., d] that broadcast against ``x``: what a small change of the input does to the output."""
        core = parts - parts.mean(-1, keepdim=True) if self.centred else parts
        along = (core * self.unit).mean(-1, keepdim=True)
        return (core - self.unit * along) * self.inverse * self.weight

    def between(self, other: "NormSlope", parts: Tensor) -> Tensor:
        """What parts [..., d] of the step from ``other``'s input to this one's contribute to the norm's difference.

        The derivative's place is taken by a secant, linear in the parts, so that parts that add up to the step add up to
        norm(x) − norm(x')::

            w · ((i + i')/2 · p − s (s·p)/d · (i i')² / 2 (i + i'))        i = 1 / s(x), s = both centred inputs together

        since 1/s² is quadratic in the input. At x = x' it is the derivative.
        """
        core = parts - parts.mean(-1, keepdim=True) if self.centred else parts
        both = self.inverse + other.inverse
        together = self.unit / self.inverse + other.unit / other.inverse
        along = (core * together).mean(-1, keepdim=True)
        return self.weight * (core * both / 2 - together * along * (self.inverse * other.inverse) ** 2 / (2 * both))

    def pull(self, slopes: Tensor) -> Tensor:
        """Jᵀ g for gradients [..., d] by the output: the gradients by the input."""
        core = slopes * self.weight
        core = core - core.mean(-1, keepdim=True) if self.centred else core
        return (core - self.unit * (core * self.unit).mean(-1, keepdim=True)) * self.inverse

    def read_by(self, matrices: Tensor) -> Tensor:
        """Weights [..., d, k] behind the norm with its weight and centring folded in: J p = pᵀ · these, but for the factor
        ``inverse`` and the part along ``unit``."""
        folded = matrices * self.weight[:, None]
        return folded - folded.mean(-2, keepdim=True) if self.centred else folded


def norm_slope(norm: Callable[[Tensor], Tensor] | None, at: Tensor) -> NormSlope:
    """The derivative of ``norm`` at ``at`` [..., d]; None stands for no norm. Found by evaluating ``norm``.

    Raises:
        InterpError: ``norm`` is neither a layer norm nor an RMS norm.
    """
    wide = torch.promote_types(at.dtype, torch.float32)
    if norm is None:
        one = torch.ones((), dtype=wide, device=at.device)
        return NormSlope(one.expand(at.shape[-1]), False, one.expand(*at.shape[:-1], 1), torch.zeros_like(at, dtype=wide))
    weight, bias, centred = affine(norm, at, wide)
    x = at.to(wide)
    core = x - x.mean(-1, keepdim=True) if centred else x
    out = norm(at).to(wide) - bias
    weighted = core * weight
    tiny = torch.finfo(wide).tiny
    inverse = (weighted * out).sum(-1, keepdim=True) / (weighted * weighted).sum(-1, keepdim=True).clamp_min(tiny)
    tolerance = 1e-4 if torch.finfo(at.dtype).eps < 1e-5 else 3e-2
    if not torch.allclose(weighted * inverse, out, rtol=tolerance, atol=tolerance * float(out.abs().max().clamp_min(1e-30))):
        raise InterpError("differentiate a normalisation", "it is neither a layer norm nor an RMS norm",
                          "use attribution of heads, which needs no derivative of it")
    return NormSlope(weight, centred, inverse, core * inverse)


def affine(norm: Callable[[Tensor], Tensor], like: Tensor, wide: torch.dtype) -> tuple[Tensor, Tensor, bool]:
    """Weight [d], bias [d] and whether the mean is taken out, from vectors of known mean and size."""
    size = like.shape[-1]
    if size % 2:
        raise InterpError("take a normalisation apart", f"its size {size} is odd", "use another model")
    probe = torch.full((size,), _PROBE, dtype=like.dtype, device=like.device)
    probe[1::2] = -_PROBE
    plus, minus, level = norm(torch.stack([probe, -probe, probe.abs()])[:, None]).to(wide)[:, 0]
    bias, weight = (plus + minus) / 2, (plus - minus) / 2 * probe.sign().to(wide)
    return weight, bias, bool((level - bias).abs().max() <= 1e-3 * weight.abs().max())

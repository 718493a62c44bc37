"""``frozen_norm``: a normalisation held at one input, as the linear map it then is."""

from collections.abc import Callable

import torch
from torch import Tensor

from interp.core.errors import InterpError


def frozen_norm(norm: Callable[[Tensor], Tensor], at: Tensor, parts: Tensor) -> Tensor:
    """What ``parts`` [..., batch, *, d] of ``at`` [batch, *, d] contribute to ``norm(at)``, its scale held at ``at``.

    For layer norm (and RMS norm, and none), norm(x) = (x − c·mean(x)) · w / s(x) + b; the contribution of a part p is
    (p − c·mean(p)) · w / s(at). Contributions of parts that sum to ``at`` sum to norm(at) − b. w, b, c and s are found by
    evaluating ``norm``, so any of this family works, with an offset weight or a folded one.

    Raises:
        InterpError: ``norm`` is not of this family (its frozen map does not give back its own output).
    """
    b, w, centred = _affine(norm, at)
    flat = at.float()
    core = (flat - flat.mean(-1, keepdim=True) if centred else flat) * w
    out = norm(at).float() - b
    tiny = torch.finfo(torch.float32).tiny
    scale = (core * out).sum(-1, keepdim=True) / (core * core).sum(-1, keepdim=True).clamp_min(tiny)
    tolerance = 1e-4 if at.dtype == torch.float32 else 3e-2
    if not torch.allclose(core * scale, out, rtol=tolerance, atol=tolerance * float(out.abs().max().clamp_min(1e-30))):
        raise InterpError("split a normalised stream into its parts", "the norm is not a layer norm or an RMS norm",
                          "use a measure that does not need direct contributions")
    parts = parts.float()
    return ((parts - parts.mean(-1, keepdim=True) if centred else parts) * w * scale).to(at.dtype)


def norm_bias(norm: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
    """The additive constant of ``norm``, [d_model]; zero for RMS norm. ``like`` [..., d_model] gives size, dtype, device."""
    return _affine(norm, like)[0]


def _affine(norm: Callable[[Tensor], Tensor], like: Tensor) -> tuple[Tensor, Tensor, bool]:
    """Bias, weight (up to a common factor) and whether the mean is taken out. The probe has mean 0 and mean square 1."""
    size = like.shape[-1]
    if size % 2:
        raise InterpError("split a normalised stream into its parts", f"its size {size} is odd", "use another model")
    probe = torch.ones(size, dtype=like.dtype, device=like.device)
    probe[1::2] = -1
    plus, minus, level = norm(torch.stack([probe, -probe, torch.ones_like(probe)])[:, None]).float()[:, 0]
    b, slope = (plus + minus) / 2, (plus - minus) / 2
    w = slope * probe.float()
    return b, w, bool((level - b).abs().max() <= 1e-3 * w.abs().max())

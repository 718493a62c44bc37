"""``frozen_norm``: a normalisation held at one input, as the linear map it then is."""

from collections.abc import Callable

import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.models.norm_slope import affine


def frozen_norm(norm: Callable[[Tensor], Tensor], at: Tensor, parts: Tensor) -> Tensor:
    """What ``parts`` [..., batch, *, d] of ``at`` [batch, *, d] contribute to ``norm(at)``, its scale held at ``at``.

    For layer norm (and RMS norm, and none), norm(x) = (x − c·mean(x)) · w / s(x) + b; the contribution of a part p is
    (p − c·mean(p)) · w / s(at). Contributions of parts that sum to ``at`` sum to norm(at) − b. w, b, c and s are found by
    evaluating ``norm``, so any of this family works, with an offset weight or a folded one.

    Raises:
        InterpError: ``norm`` is not of this family (its frozen map does not give back its own output).
    """
    w, b, centred = affine(norm, at, torch.float32)
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
    return affine(norm, like, torch.float32)[1]

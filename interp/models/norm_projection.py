"""A linear map read through a norm, without making the normalised stream: ``project(norm, matrix)(x) = norm(x) @ matrix``.

With the norm's weight (and centring) folded into the matrix only one number per row is left of the norm, its scale::

    norm(x) @ M = (x @ M') / s(x) + b @ M      M' = diag(w) M, centred for a layer norm; s² = mean square or variance, + ε

Many streams that differ in every position are read by small matrices an order of magnitude faster so.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from interp.core.errors import InterpError
from interp.models.norm_slope import affine

_SMALL = 1e-3      # so small that the norm's epsilon shows


def project(norm: nn.Module | None, matrix: Tensor) -> Callable[[Tensor], Tensor]:
    """x [..., d] -> norm(x) @ matrix [d, e]. A norm of another kind than layer norm and RMS norm is called as it is; hooks
    on the norm are passed by."""
    if norm is None:
        return lambda x: x @ matrix
    like = torch.empty(1, matrix.shape[0], dtype=matrix.dtype, device=matrix.device)
    try:
        weight, bias, centred = affine(norm.forward, like, torch.promote_types(matrix.dtype, torch.float32))
    except InterpError:
        return lambda x: norm.forward(x) @ matrix
    epsilon = _epsilon(norm, weight, bias, like)
    folded = matrix * weight[:, None].to(matrix.dtype)
    folded = folded - folded.mean(0, keepdim=True) if centred else folded
    constant = bias.to(matrix.dtype) @ matrix

    def through(x: Tensor) -> Tensor:
        if centred:
            scale = (x.var(dim=-1, correction=0, keepdim=True) + epsilon).rsqrt()
        else:
            scale = (torch.linalg.vector_norm(x, dim=-1, keepdim=True).square() / x.shape[-1] + epsilon).rsqrt()
        return torch.addcmul(constant, x @ folded, scale)

    sample = torch.randn(7, matrix.shape[0], generator=torch.Generator().manual_seed(0)).to(matrix)
    with torch.no_grad():
        expected, slack = norm.forward(sample) @ matrix, 1e-4 * float(matrix.abs().max())
        if not torch.allclose(through(sample), expected, rtol=1e-3, atol=slack):
            return lambda x: norm.forward(x) @ matrix
    return through


def _epsilon(norm: nn.Module, weight: Tensor, bias: Tensor, like: Tensor) -> float:
    """What the norm adds to the mean square, from its output of a small vector."""
    probe = torch.full_like(like, _SMALL)
    probe[:, 1::2] = -_SMALL
    at = int(weight.abs().argmax())
    with torch.no_grad():
        shrunk = float((norm.forward(probe[:, None])[0, 0, at] - bias[at]) / weight[at] / probe[0, at])
    return max(0.0, 1 / shrunk**2 - _SMALL**2)

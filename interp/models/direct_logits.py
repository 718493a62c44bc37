"""Direct logits: the final norm frozen, then the unembedding; and post-norms frozen, for what a part adds to the stream.

With the norm's scale frozen at the residual stream that was really there, the map from residual stream to logits is linear,
so that the logits of all parts and ``bias`` sum to the logits (before a final soft cap)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from interp.core.errors import InterpError
from interp.models.locate import Ends, is_norm
from interp.models.projections import matrix
from interp.models.recording import close


@dataclass(frozen=True)
class DirectLogits:
    """The final norm (None without one), the unembedding, and a constant factor on the logits."""

    norm: nn.Module | None
    unembedding: nn.Module
    scale: float
    output_bias: Tensor | None

    def parts(self, parts: Tensor, resid: Tensor, columns: Tensor) -> Tensor:
        """[..., batch, d_model] -> [..., batch, c], linear in ``parts``."""
        normed = parts if self.norm is None else through_norm(self.norm, parts, resid)
        return self.scale * torch.einsum("...bd,bcd->...bc", normed, self._columns(columns))

    def bias(self, columns: Tensor) -> Tensor:
        """What no part carries: the norm's bias through the unembedding and the output biases, [batch, c]."""
        total = self._columns(columns).new_zeros(columns.shape)
        if (shift := getattr(self.norm, "bias", None)) is not None:
            total = total + self._columns(columns) @ shift
        if self.unembedding.bias is not None:
            total = total + self.unembedding.bias[columns]
        total = self.scale * total
        return total if self.output_bias is None else total + self.output_bias.reshape(-1)[columns]

    def _columns(self, columns: Tensor) -> Tensor:
        return matrix(self.unembedding).T[columns]


def through_norm(norm: nn.Module, parts: Tensor, total: Tensor) -> Tensor:
    """``parts`` through a layer norm or RMS norm whose scale is that of ``total``; without the norm's bias.

    Raises:
        InterpError: the norm is neither.
    """
    for frozen in (_layer_norm, _rms_norm):
        gain = frozen(norm, total)
        if gain is not None:
            return gain(parts)
    raise InterpError(f"freeze the norm {type(norm).__name__}", "it is neither a layer norm nor an RMS norm",
                      "use a measure that needs no direct logits")


def _layer_norm(norm: nn.Module, total: Tensor) -> Callable[[Tensor], Tensor] | None:
    if not isinstance(norm, nn.LayerNorm):
        return None
    scale = (total.float().var(-1, unbiased=False, keepdim=True) + norm.eps).rsqrt()
    weight = 1.0 if norm.weight is None else norm.weight.float()
    return lambda parts: ((parts.float() - parts.float().mean(-1, keepdim=True)) * scale * weight).to(parts.dtype)


def _rms_norm(norm: nn.Module, total: Tensor) -> Callable[[Tensor], Tensor] | None:
    """Both conventions (weight, and 1 + weight) are told apart by the norm itself, applied to ones."""
    eps = next((getattr(norm, name) for name in ("variance_epsilon", "eps", "epsilon") if hasattr(norm, name)), None)
    weight = getattr(norm, "weight", None)
    if eps is None or weight is None:
        return None
    ones = torch.ones(total.shape[-1], dtype=total.dtype, device=total.device)
    made = norm(ones).float()
    gains = [gain for gain in (weight.float(), 1 + weight.float())
             if (gain - made).abs().max() <= 0.01 * (1 + gain.abs().max()) and (norm(-ones).float() + made).abs().max() < 1e-3]
    if not gains:
        return None
    scale = (total.float().pow(2).mean(-1, keepdim=True) + eps).rsqrt()
    return lambda parts: (parts.float() * scale * gains[0]).to(parts.dtype)


def find_direct_logits(network: nn.Module, ends: Ends) -> DirectLogits | None:
    """The final norm and the unembedding, where the logits of the dry run are just these; None where they are not."""
    calls = {call.module: call for call in ends.calls}
    unembedding = network.get_output_embeddings()
    if not isinstance(unembedding, nn.Linear) or unembedding not in calls or calls[network].output is None:
        return None
    entering, leaving = calls[unembedding].input, calls[unembedding].output
    norm = next((c for c in reversed(ends.calls) if is_norm(c.module) and close(c.input, ends.resid)
                 and _factor(c.output, entering)), None)
    inner = _factor(norm.output if norm else ends.resid, entering)
    output_bias = getattr(network, "final_logits_bias", None)
    raw = leaving if output_bias is None else leaving + output_bias
    cap = getattr(network.config.get_text_config(), "final_logit_softcapping", None)
    outer = _factor(cap * torch.tanh(raw / cap) if cap else raw, calls[network].output)
    if inner is None or outer is None or (inner != 1 and unembedding.bias is not None) or (outer != 1 and output_bias is not None):
        return None
    found = DirectLogits(norm and norm.module, unembedding, inner * outer, output_bias)
    return found if norm is None or _can_freeze(norm.module, ends.resid) else None


def _factor(a: Tensor | None, b: Tensor | None) -> float | None:
    """The constant c with b = c · a, None where there is none."""
    if a is None or b is None or a.shape != b.shape:
        return None
    if close(a, b):
        return 1.0
    c = float((a.float() * b.float()).sum() / a.float().pow(2).sum().clamp(min=1e-30))
    return c if close(c * a, b) and c else None


def _can_freeze(norm: nn.Module, total: Tensor) -> bool:
    return any(frozen(norm, total) for frozen in (_layer_norm, _rms_norm))

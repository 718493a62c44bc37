"""Direct logits: the final norm frozen, then the unembedding.

With the norm's scale frozen at the residual stream that was really there, the map from residual stream to logits is linear,
so that the logits of all parts and ``bias`` sum to the logits (before a final soft cap)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from interp.core.errors import InterpError
from interp.models.frozen_norm import frozen_norm, norm_bias
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
        normed = parts if self.norm is None else frozen_norm(self.norm, resid, parts)
        return self.scale * torch.einsum("...bd,bcd->...bc", normed, self._columns(columns))

    def bias(self, columns: Tensor) -> Tensor:
        """What no part carries: the norm's bias through the unembedding and the output biases, [batch, c]."""
        total = self._columns(columns).new_zeros(columns.shape)
        if self.norm is not None:
            total = total + self._columns(columns) @ norm_bias(self.norm, matrix(self.unembedding)[:, 0]).to(total)
        if self.unembedding.bias is not None:
            total = total + self.unembedding.bias[columns]
        total = self.scale * total
        return total if self.output_bias is None else total + self.output_bias.reshape(-1)[columns]

    def _columns(self, columns: Tensor) -> Tensor:
        return matrix(self.unembedding).T[columns]


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
    if inner is None or outer is None:
        return None
    if (inner != 1 and unembedding.bias is not None) or (outer != 1 and output_bias is not None):
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


def _can_freeze(norm: nn.Module, resid: Tensor) -> bool:
    try:
        frozen_norm(norm, resid, resid)
    except InterpError:
        return False
    return True

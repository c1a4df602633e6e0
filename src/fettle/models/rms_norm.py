"""RMSNorm as one function with its backward written out.

The library's own forward keeps several fp32 copies of its input for the backward pass. Here the input itself is kept and one number
a token; everything between is fp32 all the same.

Legend: T tokens (all leading dimensions), E hidden size.
"""

from __future__ import annotations

from typing import Any

import torch

from fettle.models.functions import call
from fettle.models.replaced_forwards import Forward

_KNOWN = {"LlamaRMSNorm", "MistralRMSNorm", "Phi3RMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm", "SmolLM3RMSNorm"}
"""Classes that compute weight * (x / rms(x)), rounded before the weight; others keep their own forward."""


class RMSNorm(torch.autograd.Function):
    """y = w * x / sqrt(mean(x^2) + eps); gradients for x, and for w where it is trained.

    Source: Zhang and Sennrich 2019, "Root Mean Square Layer Normalization", equation 4.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight_E: torch.Tensor, eps: float) -> torch.Tensor:
        """Over the last dimension."""
        wide = x.float()
        norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        inverse_T1 = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, inverse_T1, weight_E)
        # `wide` is x itself in fp32, which must stay as it is.
        return (wide * inverse_T1 if wide is x else wide.mul_(inverse_T1)).to(x.dtype) * weight_E

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """With r = 1 / rms and h = w * dy: dx = r h - x r^3 mean(h x)."""
        x, inverse_T1, weight_E = ctx.saved_tensors
        wide, scaled = x.float(), (grad * weight_E).float()
        share_T1 = torch.linalg.vecdot(scaled, wide).unsqueeze(-1).mul_(inverse_T1.pow(3)).div_(-x.shape[-1])
        grad_x = scaled.mul_(inverse_T1).addcmul_(wide, share_T1).to(x.dtype)
        if not ctx.needs_input_grad[1]:
            return grad_x, None, None
        grad_weight = (wide * inverse_T1 * grad.float()).flatten(0, -2).sum(0)
        return grad_x, grad_weight.to(weight_E.dtype), None


def fused_norm(module: Any) -> Forward | None:
    """The forward of a norm of a known class as one function; None for other modules."""
    if type(module).__name__ not in _KNOWN:
        return None
    weight, eps = module.weight, module.variance_epsilon

    def forward(x: torch.Tensor) -> torch.Tensor:
        return call(RMSNorm, x, weight, eps)

    return forward

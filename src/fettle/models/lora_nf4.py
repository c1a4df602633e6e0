"""A linear layer held in NF4 with its LoRA update as one function: `fettle.models.lora_linear` for a quantised base.

The weights are made from their 4 bits twice a step, in the forward and in the backward pass, and kept in neither: a few per cent
of the time of the products, and the memory of one layer.

Shapes: N rows (all leading dimensions), I inputs, O outputs, R rank. y = x W' + s (x A') B', Dettmers et al. 2023, equation 5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from fettle.models.nf4 import dequantised
from fettle.models.replaced_forwards import Forward

if TYPE_CHECKING:
    from peft import PeftModel


class _LoraNf4Linear(torch.autograd.Function):
    """Gradients for x, A and B; the base layer is frozen."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, layer: Any, a_RI: torch.Tensor, b_OR: torch.Tensor, scale: float
    ) -> torch.Tensor:
        x_NI = x.reshape(-1, x.shape[-1])
        a_cast, b_cast = a_RI.to(x.dtype), b_OR.to(x.dtype)
        inner_NR = x_NI @ a_cast.T
        y_NO = functional.linear(x_NI, dequantised(layer, x.dtype), layer.bias)
        y_NO.addmm_(inner_NR, b_cast.T, alpha=scale)
        ctx.save_for_backward(x_NI, inner_NR, a_cast, b_cast)
        ctx.layer, ctx.scale, ctx.master_dtype = layer, scale, a_RI.dtype
        return y_NO.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x_NI, inner_NR, a_RI, b_OR = ctx.saved_tensors
        grad_NO = grad.reshape(-1, grad.shape[-1])
        grad_inner_NR = (grad_NO @ b_OR) * ctx.scale
        grad_x = None
        if ctx.needs_input_grad[0]:
            of_base_NI = grad_NO @ dequantised(ctx.layer, grad.dtype)
            grad_x = of_base_NI.addmm_(grad_inner_NR, a_RI).view(*grad.shape[:-1], -1)
        grad_a = (grad_inner_NR.T @ x_NI).to(ctx.master_dtype)
        grad_b = ((grad_NO.T @ inner_NR) * ctx.scale).to(ctx.master_dtype)
        return grad_x, None, grad_a, grad_b, None


def fuse_nf4_lora(model: PeftModel, *, name: str) -> int:
    """Let every plain LoRA layer on an NF4 base run as one function; the number of layers that do."""
    from peft.tuners.lora.bnb import Linear4bit

    num_fused = 0
    for module in model.modules():
        if isinstance(module, Linear4bit) and _is_plain(module, name):
            module.forward = _fused_forward(module, name)
            num_fused += 1
    return num_fused


def _is_plain(module: Any, name: str) -> bool:
    return (
        name in module.lora_A
        and name not in module.lora_variant
        and not module.lora_bias[name]
        and isinstance(module.lora_dropout[name], torch.nn.Identity)
    )


def _fused_forward(module: Any, name: str) -> Forward:
    peft_forward = module.forward

    def forward(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if module.disable_adapters or module.merged or module.active_adapters != [name] or args or kwargs:
            return peft_forward(x, *args, **kwargs)
        a, b = module.lora_A[name].weight, module.lora_B[name].weight
        return _LoraNf4Linear.apply(x, module.base_layer, a, b, module.scaling[name])  # pyright: ignore[reportReturnType]

    return forward

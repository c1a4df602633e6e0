"""A linear layer with its LoRA update as one function, in the base model's dtype, with a backward written out.

PEFT casts every input to the adapter's fp32 and back, and saves both; for small models that costs as much as the base product.
Here only the small A and B are cast. Nothing is patched but the `forward` of the layers of one model, and taking the adapter off
removes it.

Shapes: N rows (all leading dimensions), I inputs, O outputs, R rank. y = x W' + s (x A') B', Hu et al. 2021, eq. 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from peft import PeftModel


class _LoraLinear(torch.autograd.Function):
    """Gradients for x, A and B; the base weight and bias are frozen."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight_OI: torch.Tensor,
        bias_O: torch.Tensor | None,
        a_RI: torch.Tensor,
        b_OR: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        x_NI = x.reshape(-1, x.shape[-1])
        a_cast, b_cast = a_RI.to(x.dtype), b_OR.to(x.dtype)
        inner_NR = x_NI @ a_cast.T
        y_NO = functional.linear(x_NI, weight_OI, bias_O)
        y_NO.addmm_(inner_NR, b_cast.T, alpha=scale)
        ctx.save_for_backward(x_NI, inner_NR, weight_OI, a_cast, b_cast)
        ctx.scale, ctx.master_dtype = scale, a_RI.dtype
        return y_NO.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x_NI, inner_NR, weight_OI, a_RI, b_OR = ctx.saved_tensors
        grad_NO = grad.reshape(-1, grad.shape[-1])
        grad_inner_NR = (grad_NO @ b_OR) * ctx.scale
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = torch.addmm(grad_NO @ weight_OI, grad_inner_NR, a_RI).view(*grad.shape[:-1], -1)
        grad_a = (grad_inner_NR.T @ x_NI).to(ctx.master_dtype)
        grad_b = ((grad_NO.T @ inner_NR) * ctx.scale).to(ctx.master_dtype)
        return grad_x, None, None, grad_a, grad_b, None


def fuse_lora(model: PeftModel, *, name: str) -> int:
    """Let every plain LoRA layer of an adapter run as one function; the number of layers that do.

    Layers with dropout, bias in the update, quantised base weights or a variant (DoRA) keep PEFT's own forward.
    """
    from peft.tuners.lora import Linear

    num_fused = 0
    for module in model.modules():
        if isinstance(module, Linear) and _is_plain(module, name):
            module.forward = _fused_forward(module, name)
            num_fused += 1
    return num_fused


def _is_plain(module: Any, name: str) -> bool:
    base = module.base_layer
    return (
        type(base) is torch.nn.Linear
        and name in module.lora_A
        and name not in module.lora_variant
        and not module.lora_bias[name]
        and not module.fan_in_fan_out
        and isinstance(module.lora_dropout[name], torch.nn.Identity)
    )


def _fused_forward(module: Any, name: str) -> Any:
    peft_forward = module.forward

    def forward(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if module.disable_adapters or module.merged or module.active_adapters != [name] or args or kwargs:
            return peft_forward(x, *args, **kwargs)
        base = module.base_layer
        a, b = module.lora_A[name].weight, module.lora_B[name].weight
        return _LoraLinear.apply(x, base.weight, base.bias, a, b, module.scaling[name])  # pyright: ignore[reportReturnType]

    return forward

"""The gated activation of an MLP as one function with its backward written out.

The library keeps the activated gate for the backward pass as well, and makes each value in fresh memory, which costs as much as the
arithmetic. Here only the two halves are kept, and what lies between is made piece by piece.

Legend: T tokens (all leading dimensions), F width of the MLP.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.activations import ACT2FN

from fettle.models.functions import call
from fettle.models.lora_linear import project
from fettle.models.replaced_forwards import Forward

_KNOWN = {"LlamaMLP", "MistralMLP", "Olmo2MLP", "Qwen2MLP", "Qwen3MLP", "SmolLM3MLP"}
"""Classes that compute down(silu(gate(x)) * up(x)); others, and other activations, keep their own forward."""
_PIECE = 1 << 17
"""Values worked on at once on a processor: what lies between stays in its cache, and each thread still has enough to do."""


class SwiGLU(torch.autograd.Function):
    """y = silu(gate) * up, with silu(g) = g * sigmoid(g); gradients for both.

    Source: Shazeer 2020, "GLU Variants Improve Transformer", equation 6.
    """

    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        """Over tensors of one shape."""
        ctx.save_for_backward(gate, up)
        out = torch.empty_like(gate, memory_format=torch.contiguous_format)
        for out_piece, g, u in zip(_pieces(out), _pieces(gate), _pieces(up), strict=True):
            torch.mul(torch.nn.functional.silu(g), u, out=out_piece)
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """With s = sigmoid(g): dup = dy g s, dg = dy up s (1 + g (1 - s))."""
        gate, up = ctx.saved_tensors
        grad_gate, grad_up = (torch.empty_like(grad, memory_format=torch.contiguous_format) for _ in range(2))
        pieces = zip(*map(_pieces, (grad_gate, grad_up, grad, gate, up)), strict=True)
        for grad_gate_piece, grad_up_piece, dy, g, u in pieces:
            torch.mul(dy, torch.nn.functional.silu(g), out=grad_up_piece)
            torch.ops.aten.silu_backward.grad_input(dy * u, g, grad_input=grad_gate_piece)  # what autograd itself calls
        return grad_gate, grad_up


def _pieces(values: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Views of consecutive values, all at once on a GPU; a tensor that is not contiguous is copied."""
    flat = values.reshape(-1)
    return flat.split(_PIECE) if flat.device.type == "cpu" else (flat,)


def fused_mlp(module: Any) -> Forward | None:
    """The forward of an MLP of a known class with its activation as one function; None for other modules."""
    if type(module).__name__ not in _KNOWN or not isinstance(module.act_fn, type(ACT2FN["silu"])):
        return None

    def forward(x: torch.Tensor) -> torch.Tensor:
        return module.down_proj(call(SwiGLU, *project(x, (module.gate_proj, module.up_proj))))

    return forward

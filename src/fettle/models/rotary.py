"""Rotary position embedding as one function with its backward written out.

The library makes seven tensors on the way to each result, and keeps some of them; here there is the result alone.

Legend: T tokens, X heads, D head size.
"""

from __future__ import annotations

from typing import Any

import torch


class Rotary(torch.autograd.Function):
    """(x1, x2) -> (x1 cos - x2 sin, x2 cos + x1 sin), x1 and x2 being the halves of each head; a gradient for x.

    Source: Su et al. 2021, "RoFormer", equation 34, with the pairs laid out as GPT-NeoX does.
    """

    @staticmethod
    def forward(ctx: Any, x_TXD: torch.Tensor, cos_TD: torch.Tensor, sin_TD: torch.Tensor) -> torch.Tensor:
        """The angles of each token in both halves, as transformers gives them."""
        ctx.save_for_backward(cos_TD, sin_TD)
        return _turned(x_TXD, cos_TD, sin_TD, 1)

    @staticmethod
    def backward(ctx: Any, grad_TXD: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Turned back: the gradient of x1 is dy1 cos1 + dy2 sin2, that of x2 is dy2 cos2 - dy1 sin1."""
        cos_TD, sin_TD = ctx.saved_tensors
        swapped_TD = torch.cat(sin_TD.chunk(2, dim=-1)[::-1], dim=-1)
        return _turned(grad_TXD, cos_TD, swapped_TD, -1), None, None


def _turned(x_TXD: torch.Tensor, cos_TD: torch.Tensor, sin_TD: torch.Tensor, sign: int) -> torch.Tensor:
    out_TXD = x_TXD * cos_TD[:, None]
    first, second = x_TXD.chunk(2, dim=-1)
    out_first, out_second = out_TXD.chunk(2, dim=-1)
    sin_first, sin_second = sin_TD[:, None].chunk(2, dim=-1)
    out_first.addcmul_(second, sin_first, value=-sign)
    out_second.addcmul_(first, sin_second, value=sign)
    return out_TXD

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from fettle.models.rotary import Rotary


def library(x_TXD: torch.Tensor, cos_TD: torch.Tensor, sin_TD: torch.Tensor) -> torch.Tensor:
    by_head = x_TXD.transpose(0, 1)[None]
    return apply_rotary_pos_emb(by_head, by_head, cos_TD[None], sin_TD[None])[0][0].transpose(0, 1)


def value_and_gradient(function: Any, x: torch.Tensor, upstream: torch.Tensor, *angles: torch.Tensor) -> torch.Tensor:
    leaf = x.clone().requires_grad_()
    y = function(leaf, *angles)
    return torch.stack([y.detach(), *torch.autograd.grad(y, leaf, upstream)])


@pytest.mark.parametrize("halves_alike", [True, False])
def test_value_and_gradient_are_the_library_s(halves_alike: bool) -> None:
    torch.manual_seed(0)
    x, upstream = (torch.randn(7, 3, 8, dtype=torch.float64) for _ in range(2))
    before = x.clone()
    angles = torch.randn(7, 4 if halves_alike else 8, dtype=torch.float64).repeat(1, 2 if halves_alike else 1)
    cos_and_sin = angles.cos(), angles.sin()
    ours = value_and_gradient(Rotary.apply, x, upstream, *cos_and_sin)
    torch.testing.assert_close(ours, value_and_gradient(library, x, upstream, *cos_and_sin))
    assert torch.equal(x, before)


def test_bf16_is_no_further_from_the_truth_than_the_library() -> None:
    torch.manual_seed(0)
    x, upstream, angles = (torch.randn(*shape).bfloat16() for shape in ((90, 3, 8), (90, 3, 8), (90, 4)))
    cos_and_sin = [turned.repeat(1, 2) for turned in (angles.cos(), angles.sin())]
    truth = value_and_gradient(library, x.double(), upstream.double(), *(turned.double() for turned in cos_and_sin))
    ours, theirs = (
        float((value_and_gradient(function, x, upstream, *cos_and_sin).double() - truth).norm())
        for function in (Rotary.apply, library)
    )
    assert ours < theirs

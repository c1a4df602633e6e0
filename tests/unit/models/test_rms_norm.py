from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from fettle.models import rms_norm
from fettle.models.own_attention import own_attention
from fettle.models.replaced_forwards import replaced_forwards
from fettle.models.rms_norm import RMSNorm, fused_norm


def plain(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    return weight * (x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype)


@pytest.mark.parametrize("shape", [(5, 8), (1, 7, 8), (2, 3, 4, 8)])
@pytest.mark.parametrize("trains_weight", [True, False])
def test_value_and_gradients_are_those_of_the_formula(shape: tuple[int, ...], trains_weight: bool) -> None:
    torch.manual_seed(0)
    x, upstream = torch.randn(shape), torch.randn(shape)
    weight = torch.rand(8)
    found, expected = [], []
    for function, results in ((RMSNorm.apply, found), (plain, expected)):
        leaf, own_weight = x.clone().requires_grad_(), weight.clone().requires_grad_(trains_weight)
        y = function(leaf, own_weight, 1e-5)
        results += [y.detach(), *torch.autograd.grad(y, [leaf, *([own_weight] if trains_weight else [])], upstream)]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_the_input_stays_as_it_is() -> None:
    x = torch.randn(3, 8)
    before = x.clone()
    RMSNorm.apply(x, torch.ones(8), 1e-5)
    assert torch.equal(x, before)


def test_bf16_is_no_further_from_the_truth_than_the_library() -> None:
    torch.manual_seed(0)
    x, weight, upstream = (torch.randn(*shape).bfloat16() for shape in ((200, 64), (64,), (200, 64)))
    errors = []
    exact = x.double().requires_grad_()
    y = weight.double() * exact * torch.rsqrt(exact.pow(2).mean(-1, keepdim=True) + 1e-5)
    (truth,) = torch.autograd.grad(y, exact, upstream.double())
    for function in (RMSNorm.apply, plain):
        leaf = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(function(leaf, weight, 1e-5), leaf, upstream)
        errors.append(float((gradient.double() - truth).norm() / truth.norm()))
    assert errors[0] < 1.05 * errors[1]


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3", "olmo2"])
def test_a_model_is_given_back_as_it_was(family: str, tiny_model: Callable[[str], Any]) -> None:
    model = tiny_model(family).model
    known = [module for module in model.modules() if type(module).__name__ in rms_norm._KNOWN]
    assert bool(known) is (family in ("llama", "qwen3"))
    with replaced_forwards(model, fused_norm):
        assert all("forward" in vars(module) for module in known)
    with pytest.raises(ZeroDivisionError), own_attention(model):
        raise ZeroDivisionError
    assert not any("forward" in vars(module) for module in model.modules())


def test_a_forward_of_somebody_else_is_left_alone(tiny_model: Callable[[str], Any]) -> None:
    model = tiny_model("llama").model
    norm = next(module for module in model.modules() if type(module).__name__ == "LlamaRMSNorm")
    norm.forward = theirs = lambda x: x
    with replaced_forwards(model, fused_norm):
        assert norm.forward is theirs
    assert norm.forward is theirs
    del norm.forward

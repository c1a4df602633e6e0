from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional

from fettle.models import swiglu
from fettle.models.own_attention import own_attention
from fettle.models.swiglu import SwiGLU, fused_mlp


def plain(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    return functional.silu(gate) * up


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("piece", [7, 1 << 17])
def test_value_and_gradients_are_those_of_the_formula(
    dtype: torch.dtype, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swiglu, "_PIECE", piece)
    torch.manual_seed(0)
    gate, up, upstream = (3 * torch.randn(2, 5, 6, dtype=dtype) for _ in range(3))
    found, expected = [], []
    for function, results in ((SwiGLU.apply, found), (plain, expected)):
        leaves = [gate.clone().requires_grad_(), up.clone().requires_grad_()]
        y = function(*leaves)
        results += [y.detach(), *torch.autograd.grad(y, leaves, upstream)]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_halves_that_do_not_lie_in_one_piece() -> None:
    both = torch.randn(4, 10)
    gate, up = both.chunk(2, dim=-1)
    torch.testing.assert_close(SwiGLU.apply(gate, up), plain(gate, up))


@pytest.mark.parametrize(
    "family", ["llama", "mistral", "qwen2", "qwen3", "smollm3", "olmo2", "gemma2", "gemma3", "phi3"]
)
def test_an_mlp_gives_what_it_gave_before(family: str, tiny_model: Callable[[str], Any]) -> None:
    model = tiny_model(family).model
    fused = {module: forward for module in model.modules() if (forward := fused_mlp(module)) is not None}
    assert bool(fused) is (family not in ("gemma2", "gemma3", "phi3"))
    for module, forward in fused.items():
        x = torch.randn(1, 5, module.hidden_size)
        torch.testing.assert_close(forward(x), module(x))


def test_another_activation_is_left_alone(tiny_model: Callable[[str], Any]) -> None:
    mlp = next(module for module in tiny_model("llama").model.modules() if type(module).__name__ == "LlamaMLP")
    silu, mlp.act_fn = mlp.act_fn, torch.nn.GELU()
    assert fused_mlp(mlp) is None
    mlp.act_fn = silu


def test_a_model_is_given_back_as_it_was(tiny_model: Callable[[str], Any]) -> None:
    model = tiny_model("llama").model
    with own_attention(model):
        assert sum("forward" in vars(module) for module in model.modules() if type(module).__name__ == "LlamaMLP") == 2
    assert not any("forward" in vars(module) for module in model.modules())

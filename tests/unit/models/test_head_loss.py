"""Which code computes the head's loss, and that Liger's is asked for the same sum."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from fettle.models import head_loss
from fettle.models.head import logits_of, summed_cross_entropy
from fettle.models.head_loss import HeadLoss, chosen_head_loss, liger_cross_entropy

SIZE = 32  # of the tiny models


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_loss, "_has_liger", lambda: True)


def on_a_gpu(dtype: torch.dtype) -> torch.Tensor:
    """Hidden states that say they are on a GPU."""
    with FakeTensorMode():
        return torch.empty(3, SIZE, dtype=dtype, device="cuda")


def test_liger_is_chosen_on_a_gpu_in_16_bits_for_a_plain_frozen_head_alone(
    tiny_model: Callable[[str], Any], installed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, hidden = tiny_model("llama").model, on_a_gpu(torch.bfloat16)
    assert chosen_head_loss(model, hidden, None) is HeadLoss.LIGER
    assert chosen_head_loss(tiny_model("gemma2").model, hidden, None) is HeadLoss.LIGER  # it knows soft-capping
    assert chosen_head_loss(model, hidden, torch.ones(3)) is HeadLoss.OWN
    assert chosen_head_loss(model, on_a_gpu(torch.float32), None) is HeadLoss.OWN
    assert chosen_head_loss(model, torch.empty(3, SIZE, dtype=torch.bfloat16), None) is HeadLoss.OWN
    with monkeypatch.context() as changed:
        changed.setattr(model.config, "logits_scaling", 2.0, raising=False)
        assert chosen_head_loss(model, hidden, None) is HeadLoss.OWN
    model.get_output_embeddings().requires_grad_(requires_grad=True)
    try:
        assert chosen_head_loss(model, hidden, None) is HeadLoss.OWN
    finally:
        model.get_output_embeddings().requires_grad_(requires_grad=False)


def test_without_liger_our_own_is_chosen(tiny_model: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_loss, "_has_liger", lambda: False)
    assert chosen_head_loss(tiny_model("llama").model, on_a_gpu(torch.bfloat16), None) is HeadLoss.OWN


class LigersDefinition:
    """What `LigerFusedLinearCrossEntropyFunction.apply` of liger-kernel 0.8.5 computes, by its documented parameters."""

    @staticmethod
    def apply(
        hidden: torch.Tensor,
        weight: torch.Tensor,
        targets: torch.Tensor,
        bias: None,
        ce_weight: None,
        ignore_index: int,
        lse_square_scale: float,
        label_smoothing: float,
        reduction: str,
        softcap: float | None,
        return_z_loss: bool,
        accum_dtype: None,
        use_token_scaling: bool,
        return_token_accuracy: bool,
    ) -> tuple[torch.Tensor, None, torch.Tensor, None]:
        assert (bias, ce_weight, lse_square_scale, accum_dtype) == (None, None, 0.0, None)
        assert (return_z_loss, use_token_scaling, return_token_accuracy) == (False, False, True)
        logits = hidden @ weight.T
        if softcap is not None:
            logits = softcap * torch.tanh(logits / softcap)
        options: Any = {"ignore_index": ignore_index, "reduction": reduction, "label_smoothing": label_smoothing}
        accuracy = (logits.argmax(-1) == targets).float().mean()
        return functional.cross_entropy(logits.float(), targets, **options), None, accuracy, None


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_liger_is_asked_for_the_sum_that_our_own_gives(
    family: str, tiny_model: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in: Any = ModuleType("liger_kernel.ops")
    stand_in.LigerFusedLinearCrossEntropyFunction = LigersDefinition
    monkeypatch.setitem(sys.modules, "liger_kernel", ModuleType("liger_kernel"))
    monkeypatch.setitem(sys.modules, "liger_kernel.ops", stand_in)
    model = tiny_model(family).model
    hidden = torch.randn(7, SIZE, generator=torch.Generator().manual_seed(0), requires_grad=True)
    with torch.no_grad():
        targets = logits_of(model, hidden).argmax(-1)
    targets[3:] = torch.arange(4)  # three of seven are right, or more
    by_liger = liger_cross_entropy(model, hidden, targets)
    [wanted] = torch.autograd.grad(by_liger.cross_entropy, hidden)
    ours = summed_cross_entropy(model, hidden, targets)
    [found] = torch.autograd.grad(ours.cross_entropy, hidden)
    assert float(ours.cross_entropy.detach()) == pytest.approx(float(by_liger.cross_entropy.detach()), rel=1e-6)
    assert 3 <= float(ours.num_right) == float(by_liger.num_right) < 7
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    monkeypatch.setattr("fettle.models.head.chosen_head_loss", lambda *_: HeadLoss.LIGER)
    chosen = summed_cross_entropy(model, hidden, targets)
    assert float(chosen.cross_entropy.detach()) == float(by_liger.cross_entropy.detach())

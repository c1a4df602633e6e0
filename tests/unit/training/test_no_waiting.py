"""A step on a GPU: nothing is read back, and nothing of the processor is used there, shown on a device that holds no numbers.

A tensor on `meta` has a shape and no content: whatever asks for a value raises.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM

from fettle.models.own_attention import own_attention
from fettle.records import TokenisedExample
from fettle.training import accumulate
from tiny_models import FAMILIES, tiny_config

COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)


class OneDevice(TorchDispatchMode):
    """Refuses operations on tensors of two devices; single numbers may be the processor's."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        devices = {x.device.type for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor) and x.dim()}
        assert len(devices) < 2 or func in COPIES, f"{func} of tensors on {devices}"
        return func(*args, **(kwargs or {}))


def rows() -> list[TokenisedExample]:
    return [
        TokenisedExample(
            example_id=str(number),
            token_ids=(*range(60), *range(60 + number, 70 + 2 * number)),
            is_trained=(False,) * 50 + (True,) * (20 + number),
        )
        for number in range(4)
    ]


def test_a_value_that_is_read_back_or_an_index_of_the_processor_would_be_noticed() -> None:
    tensor = torch.empty(3, device="meta")
    with pytest.raises(RuntimeError):
        float(tensor.sum())
    with OneDevice(), pytest.raises(AssertionError, match="cpu"):
        tensor.index_select(0, torch.tensor([1]))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("max_tokens", [1000, 40], ids=["at-once", "in-levels"])
def test_nothing_is_read_back_within_a_step(family: str, max_tokens: int) -> None:
    model = AutoModelForCausalLM.from_config(tiny_config(family, 430), dtype=torch.float32).to("meta")
    with OneDevice(), own_attention(model):
        losses = list(accumulate._packed_losses(model, rows(), max_tokens=max_tokens, sends_back=True))
    assert sum(loss.num_tokens for loss in losses) == sum(row.num_trained_tokens for row in rows())
    weight = model.get_input_embeddings().weight
    assert weight.grad is not None
    assert weight.grad.device.type == "meta"

"""By which code the head's loss is computed: our own, or Liger's kernel where there is a GPU and it does the same.

Both form the logits of some positions at a time, and their gradient with them. Liger (`fettle-llm[cuda]`) goes over the logits
fewer times. In fp32 ours is taken everywhere: that is asked for to be exact.

Legend: N positions, E hidden size.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class PositionSums:
    """What the head gives for some positions, added up."""

    cross_entropy: torch.Tensor
    """Nats, fp32 scalar."""
    num_right: torch.Tensor
    """Positions whose target is the likeliest token, each as often as it counts; fp32 scalar without a gradient."""


class HeadLoss(StrEnum):
    """Code that computes the loss."""

    OWN = "own"
    LIGER = "liger"


def chosen_head_loss(model: PreTrainedModel, hidden_NE: torch.Tensor, counts_N: torch.Tensor | None) -> HeadLoss:
    """LIGER on CUDA in 16 bits where it is installed, all positions count once, and the head is a frozen matrix with no more than a
    soft-capping behind it.
    """
    head, config = model.get_output_embeddings(), model.config.get_text_config()
    is_plain = type(head) is torch.nn.Linear and head.bias is None and not head.weight.requires_grad
    scales = (
        getattr(config, "logits_scaling", None),
        getattr(config, "logit_scale", None),
    )  # fields of some configs only
    applies = hidden_NE.is_cuda and hidden_NE.dtype is not torch.float32 and counts_N is None
    return HeadLoss.LIGER if applies and is_plain and scales == (None, None) and _has_liger() else HeadLoss.OWN


@lru_cache(maxsize=1)
def _has_liger() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in ("triton", "liger_kernel"))


def liger_cross_entropy(model: PreTrainedModel, hidden_NE: torch.Tensor, targets_N: torch.Tensor) -> PositionSums:
    """The sums by Liger. Of several tokens that are equally likely it takes the first for the likeliest."""
    from liger_kernel.ops import LigerFusedLinearCrossEntropyFunction  # pyright: ignore[reportMissingImports] (an extra)

    head = model.get_output_embeddings()
    assert head is not None, "a causal language model has a head"
    cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    loss, _, accuracy, _ = LigerFusedLinearCrossEntropyFunction.apply(
        hidden_NE,
        head.weight,
        targets_N,
        None,  # bias
        None,  # weights of classes
        -100,  # a target that is left out; none is
        0.0,  # penalty on large logits
        0.0,  # smoothing of labels
        "sum",
        cap,
        False,  # no penalty is given back
        None,  # the dtype in which a head's gradients gather; it has none
        False,  # no scaling by likelihood
        True,  # accuracy
    )
    return PositionSums(loss, (accuracy * len(targets_N)).round())

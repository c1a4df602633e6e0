"""Supervised fine-tuning as a pure step: rows in, (loss sum, weight) out. No files, no logging, no optimiser.

Legend: T tokens of the packed rows, E hidden size, N trained positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fettle.models.head import summed_cross_entropy
from fettle.models.own_attention import KeyValues, PackedAttention, run
from fettle.models.packing import pack_rows
from fettle.models.shared_prefix import num_heads
from fettle.records import TokenisedExample

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class StepLoss:
    """A loss with its weight; the mean is formed once, over everything that belongs together."""

    total: torch.Tensor
    """Sum of the cross-entropies of all trained tokens, nats, fp32 scalar."""
    num_tokens: int


def sft_loss(
    model: PreTrainedModel, examples: Sequence[TokenisedExample], *, prefix: KeyValues | None, prefix_length: int
) -> StepLoss:
    """Cross-entropy of the trained tokens of some examples, inside `own_attention`.

    Args:
        model: The model, with its adapter in place.
        examples: Rows that all begin with the prefix.
        prefix: Keys and values of the first `prefix_length` tokens, or None for no sharing.
        prefix_length: P; none of the first P + 1 tokens is trained.
    """
    import torch

    packed = pack_rows(
        [example.token_ids[prefix_length:] for example in examples],
        prefix_length=prefix_length,
        num_heads=num_heads(model),
        device=model.device,
    )
    hidden_TE = run(model, packed.ids_1T, packed.positions_1T, PackedAttention(packed, prefix))
    places, targets = [], []
    for start, example in zip(packed.starts, examples, strict=True):
        for position, is_trained in enumerate(example.is_trained):
            if is_trained:  # the state before a token predicts it
                places.append(start + position - prefix_length - 1)
                targets.append(example.token_ids[position])
    hidden_NE = hidden_TE.index_select(0, torch.tensor(places, device=model.device))
    total = summed_cross_entropy(model, hidden_NE, torch.tensor(targets, device=model.device))
    return StepLoss(total, len(targets))

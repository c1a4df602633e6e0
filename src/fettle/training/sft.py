"""Supervised fine-tuning as a pure step: rows in, (loss sum, weight) out. No files, no logging, no optimiser.

Legend: B rows, L padded remainder, H hidden size, N trained positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fettle.models.head import logits_of
from fettle.models.shared_prefix import KeyValues, cache_for_rows, pad_rows
from fettle.records import TokenisedExample

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_HEAD_CHUNK_ROWS = 1024  # positions whose logits exist at once: 1024 x 49,152 fp32 are 200 MB


@dataclass(frozen=True, slots=True)
class StepLoss:
    """A loss with its weight; the mean is formed once, over everything that belongs together."""

    total: torch.Tensor
    """Sum of the cross-entropies of all trained tokens, nats, fp32 scalar."""
    num_tokens: int


def sft_loss(
    model: PreTrainedModel, examples: Sequence[TokenisedExample], *, prefix: KeyValues | None, prefix_length: int
) -> StepLoss:
    """Cross-entropy of the trained tokens of some examples.

    Args:
        model: The model, with its adapter in place.
        examples: Rows that all begin with the prefix.
        prefix: Keys and values of the first `prefix_length` tokens, or None for no sharing.
        prefix_length: P; none of the first P + 1 tokens is trained.
    """
    import torch
    import torch.nn.functional as F  # noqa: N812 (torch's own name for it)

    device = model.device
    padded = pad_rows(
        [e.token_ids[prefix_length:] for e in examples], prefix_length=prefix_length, left=False, pad_id=0
    )
    hidden_BLH = model.base_model(
        input_ids=padded.ids_BL.to(device),
        attention_mask=padded.mask_BT.to(device),
        position_ids=padded.positions_BL.to(device),
        past_key_values=cache_for_rows(prefix, len(examples)),
        use_cache=True,
    ).last_hidden_state
    rows, columns, targets = [], [], []
    for row, example in enumerate(examples):
        for position, is_trained in enumerate(example.is_trained):
            if is_trained:  # the state before a token predicts it
                rows.append(row)
                columns.append(position - prefix_length - 1)
                targets.append(example.token_ids[position])
    hidden_NH = hidden_BLH[torch.tensor(rows, device=device), torch.tensor(columns, device=device)]
    targets_N = torch.tensor(targets, device=device)
    total = hidden_NH.new_zeros((), dtype=torch.float32)
    for start in range(0, len(targets), _HEAD_CHUNK_ROWS):
        chunk = slice(start, start + _HEAD_CHUNK_ROWS)
        total = total + F.cross_entropy(logits_of(model, hidden_NH[chunk]).float(), targets_N[chunk], reduction="sum")
    return StepLoss(total, len(targets))

"""The plain way to a loss: examples padded at the end, through the model's own forward, for models that packed rows do not fit.

Padding at the end changes nothing before it, whatever the layers are, as long as the model is causal.

Legend: B examples, T tokens of the longest, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fettle.models.padding import padded
from fettle.records import TokenisedExample
from fettle.training.sft import StepLoss

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def plain_sft_loss(model: PreTrainedModel, examples: Sequence[TokenisedExample]) -> StepLoss:
    """Cross-entropy of the trained tokens of some examples, by the model's own forward."""
    import torch
    from torch.nn import functional

    ids_BT, mask_BT = padded([example.token_ids for example in examples], model.device)
    logits_BTV = model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).logits
    rows, places, targets = [], [], []
    for row, example in enumerate(examples):
        for place, is_trained in enumerate(example.is_trained):
            if is_trained:  # the state before a token predicts it
                rows.append(row)
                places.append(place - 1)
                targets.append(example.token_ids[place])
    chosen = logits_BTV[rows, places].float()
    targets_N = torch.tensor(targets, device=model.device)
    total = functional.cross_entropy(chosen, targets_N, reduction="sum")
    of_targets = chosen.detach().gather(1, targets_N[:, None])[:, 0]
    return StepLoss(total, len(targets), (of_targets == chosen.detach().amax(1)).sum(dtype=torch.float32))

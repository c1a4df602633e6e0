"""What a model says next after some prompts, and along given texts after them, from one packed pass.

Legend: T tokens of the packed rows, E hidden size, N places, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fettle.models.head import logits_of
from fettle.models.own_attention import PackedAttention, own_attention, run
from fettle.models.packing import Prefix, pack_rows
from fettle.models.shared_prefix import common_prefix_length, num_heads, shared_length

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def logits_along(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], texts: Sequence[Sequence[int]]
) -> torch.Tensor:
    """Logits [N, V], fp32, after each prompt and after each token of the text behind it, row by row.

    What all prompts begin with is run once.

    Args:
        model: One that packed rows fit, with whatever adapter is on it.
        prompts: Token ids, none empty.
        texts: What stands behind each; empty: only what comes right after the prompt is wanted.
    """
    num_shared = shared_length(common_prefix_length(prompts), len(prompts))
    shared = [prompts[0][:num_shared]] if num_shared else []
    packed = pack_rows(
        [*shared, *([*prompt[num_shared:], *text] for prompt, text in zip(prompts, texts, strict=True))],
        after=[*(Prefix() for _ in shared), *(Prefix.of_length(num_shared) for _ in prompts)],
        num_heads=num_heads(model),
        device=model.device,
    )
    starts = packed.starts[len(shared) :]
    places = [
        start + len(prompt) - num_shared - 1 + place
        for start, prompt, text in zip(starts, prompts, texts, strict=True)
        for place in range(len(text) + 1)
    ]
    with own_attention(model):
        hidden_TE = run(model, packed.ids_1T, packed.positions_1T, PackedAttention(packed))
    return logits_of(model, hidden_TE[places]).float()

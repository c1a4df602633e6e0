"""Sliding-window layers under masks of our own.

The models build the masks of ordinary batches themselves. A mask that is given to them with four dimensions is taken for every
layer alike, so whoever gives one must cut it to the window where layers have one.

Legend: B rows, N queries, T keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def sliding_window(model: PreTrainedModel) -> int | None:
    """How many tokens a sliding-window layer sees, the token itself included; None: the model has no such layers."""
    window = getattr(model.config.get_text_config(), "sliding_window", None)  # most configs have no such field
    return None if window is None else int(window)


def attention_masks(
    model: PreTrainedModel, sees_BNT: torch.Tensor, *, query_positions_BN: torch.Tensor, key_positions_BT: torch.Tensor
) -> torch.Tensor | dict[str, torch.Tensor]:
    """What to give the model as `attention_mask`: zero where a query sees a key, the lowest number elsewhere.

    Args:
        model: Says the dtype, and which layers have a window.
        sees_BNT: True where a query may see a key, windows apart.
        query_positions_BN: Position of each query in its row.
        key_positions_BT: Position of each key in its row; anything where no query sees it.
    """
    window = sliding_window(model)
    distances_BNT = query_positions_BN[:, :, None] - key_positions_BT[:, None, :]
    if window is None or not bool((sees_BNT & (distances_BNT >= window)).any()):
        return _additive(model, sees_BNT)
    cut = _additive(model, sees_BNT & (distances_BNT < window))
    if getattr(model.config.get_text_config(), "layer_types", None) is None:  # then every layer has the window
        return cut
    return {"full_attention": _additive(model, sees_BNT), "sliding_attention": cut}


def _additive(model: PreTrainedModel, sees_BNT: torch.Tensor) -> torch.Tensor:
    import torch

    mask_B1NT = torch.zeros(sees_BNT.shape, dtype=model.dtype, device=sees_BNT.device)[:, None]
    return mask_B1NT.masked_fill_(~sees_BNT[:, None], torch.finfo(model.dtype).min)

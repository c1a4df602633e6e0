"""Rows of different lengths as one rectangle, for the model's own forward.

Legend: B rows, T tokens of the longest.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch


def padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids [B, T] of rows padded at the end with zeros, and which of them are real."""
    longest = max(map(len, rows))
    ids_BT = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=device)
    lengths_B1 = torch.tensor([[len(row)] for row in rows], device=device)
    return ids_BT, (torch.arange(longest, device=device)[None] < lengths_B1).long()

"""Prefixes common to many rows computed once: their keys and values, which every remainder attends to.

Exact, in training too: the gradient of a prefix is the sum over all that comes after it.

Legend: T tokens of packed rows, P prefix tokens, C tokens of the pool, H key/value heads, D head size, E hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fettle.models.own_attention import KeyValues, PackedAttention, run
from fettle.models.packing import ALIGNMENT, PackedRows, Prefix, pack_rows
from fettle.models.prefix_tree import common_length

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def common_prefix_length(rows: Sequence[Sequence[int]]) -> int:
    """Number of tokens that all rows begin with, at least one token of each row being left over.

    >>> common_prefix_length([(1, 2, 3), (1, 2, 4, 5)])
    2
    >>> common_prefix_length([(1, 2), (1, 2)])
    1
    """
    ordered = sorted(tuple(row) for row in rows)
    first, last = ordered[0], ordered[-1]  # in lexicographic order, what these two share all share
    return min(common_length(first, last), min(len(row) for row in rows) - 1)


def shared_length(common: int, num_rows: int) -> int:
    """How many of the `common` leading tokens of some rows to compute once: a multiple of `ALIGNMENT`; 0 for a single row.

    >>> shared_length(310, 16), shared_length(15, 16), shared_length(310, 1)
    (304, 0, 0)
    """
    return common // ALIGNMENT * ALIGNMENT if num_rows > 1 else 0


def prefix_key_values(model: PreTrainedModel, prefix: Sequence[int]) -> KeyValues | None:
    """Keys and values of a prefix, with gradients where the caller has them enabled; None for no tokens."""
    if not prefix:
        return None
    packed = pack_rows([prefix], after=Prefix(), num_heads=num_heads(model), device=model.device)
    return run_for_keys(model, packed, None)[1]


def run_for_keys(model: PreTrainedModel, packed: PackedRows, pool: KeyValues | None) -> tuple[torch.Tensor, KeyValues]:
    """Last hidden states [T, E] of packed rows, and per layer their keys and values, filling left out."""
    layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def keep(layer: int, key_THD: torch.Tensor, value_THD: torch.Tensor) -> None:
        if layer in layers:  # it is run again in a backward pass (`models/recomputed_layers.py`)
            return
        key, value = (x[: packed.num_tokens].transpose(0, 1).contiguous() for x in (key_THD, value_THD))
        layers[layer] = (key, value)

    hidden_TE = run(model, packed.ids_1T, packed.positions_1T, PackedAttention(packed, pool, on_keys=keep))
    return hidden_TE, tuple(layers[layer] for layer in sorted(layers))


def num_heads(model: PreTrainedModel) -> int:
    """Query heads of each layer."""
    return int(model.config.get_text_config().num_attention_heads)

"""A prefix common to many rows computed once: its keys and values, which every remainder attends to.

Exact, in training too: the gradient of the prefix is the sum over all remainders, which autograd forms by itself. Models with
sliding-window layers shorter than the sequence take the ordinary path.

Shapes: B rows, P prefix tokens, L remainder tokens (padded), H key/value heads, D head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fettle.models.attention_window import sliding_window

if TYPE_CHECKING:
    import torch
    from transformers import DynamicCache, PreTrainedModel

KeyValues = tuple[tuple["torch.Tensor", "torch.Tensor"], ...]
"""Per layer: keys and values, each [1, H, P, D]."""

MIN_SHARED_TOKENS = 8  # below this one more forward call costs more than it saves


def common_prefix_length(rows: Sequence[Sequence[int]]) -> int:
    """Number of tokens that all rows begin with, at least one token of each row being left over.

    >>> common_prefix_length([(1, 2, 3), (1, 2, 4, 5)])
    2
    >>> common_prefix_length([(1, 2), (1, 2)])
    1
    """
    ordered = sorted(tuple(row) for row in rows)
    first, last = ordered[0], ordered[-1]  # in lexicographic order, what these two share all share
    length = 0
    for left, right in zip(first, last, strict=False):
        if left != right:
            break
        length += 1
    return max(0, min(length, min(len(row) for row in rows) - 1))


def shareable_prefix_length(model: PreTrainedModel, rows: Sequence[Sequence[int]], num_new_tokens: int = 0) -> int:
    """How many leading tokens of `rows` are worth computing once, for this model; 0 where sharing would not be exact."""
    length = common_prefix_length(rows) if len(rows) > 1 else 0
    window = sliding_window(model)
    longest = max(len(row) for row in rows) + num_new_tokens
    if length < MIN_SHARED_TOKENS or (window is not None and longest >= window):
        return 0
    return length


def prefix_key_values(model: PreTrainedModel, prefix: Sequence[int]) -> KeyValues:
    """Keys and values of a prefix, with gradients where the caller has them enabled."""
    import torch
    from transformers import DynamicCache

    cache = DynamicCache()
    ids_1P = torch.tensor([list(prefix)], device=model.device)
    # The body alone: nobody reads the prefix's logits.
    model.base_model(input_ids=ids_1P, past_key_values=cache, use_cache=True)
    return tuple((keys, values) for keys, values, _ in cache)  # pyright: ignore[reportReturnType] (filled by the call above)


def cache_for_rows(prefix: KeyValues | None, num_rows: int) -> DynamicCache:
    """A cache that begins with the prefix in each of `num_rows` rows; an empty one for None."""
    from transformers import DynamicCache

    if prefix is None:
        return DynamicCache()
    return DynamicCache([(k.expand(num_rows, -1, -1, -1), v.expand(num_rows, -1, -1, -1)) for k, v in prefix])


@dataclass(frozen=True, slots=True)
class PaddedRows:
    """Rows of different lengths side by side, with what the model needs to ignore the padding."""

    ids_BL: torch.Tensor
    positions_BL: torch.Tensor
    mask_BT: torch.Tensor
    """1 for real tokens, the prefix included: T = P + L."""


def pad_rows(rows: Sequence[Sequence[int]], *, prefix_length: int, left: bool, pad_id: int) -> PaddedRows:
    """Pad remainders to one length, on the left for generation, on the right for training.

    Args:
        rows: Token ids after the prefix, one list a row, none empty.
        prefix_length: P, the tokens before them, which are in the cache.
        left: Where the padding goes.
        pad_id: Any token id; it is masked.
    """
    import torch

    longest = max(len(row) for row in rows)
    ids = torch.full((len(rows), longest), pad_id, dtype=torch.long)
    mask = torch.zeros((len(rows), prefix_length + longest), dtype=torch.long)
    mask[:, :prefix_length] = 1
    positions = torch.zeros((len(rows), longest), dtype=torch.long)
    for index, row in enumerate(rows):
        span = slice(longest - len(row), longest) if left else slice(0, len(row))
        ids[index, span] = torch.tensor(row)
        positions[index, span] = torch.arange(prefix_length, prefix_length + len(row))
        mask[index, prefix_length + span.start : prefix_length + span.stop] = 1
    return PaddedRows(ids, positions, mask)

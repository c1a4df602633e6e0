"""Keys and values of rows that are being continued, and the attention of what is added to them.

The prefix that the rows share is kept once. A row's own keys lie in slots without gaps, so rows of different lengths need no
padding, and finished rows can leave.

Legend: B rows, S slots a row, K new tokens a row (padded), P prefix keys, H key/value heads, X query heads,
T new tokens of all rows, D head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import torch
from torch.nn import functional

from fettle.models.own_attention import KeyValues
from fettle.models.packing import MAX_SCORES, Bucket, PackedRows, aligned, bias_of, bucket_of
from fettle.models.segment_attention import (
    AttentionForm,
    attention_scores,
    attention_weights,
    grouped_queries,
    soft_capped,
    tokens_first,
    weighted_values,
)

_SPARE_SLOTS = 32  # so many tokens can come before all is copied to a larger place


@dataclass(slots=True)
class RowCache:
    """Keys and values of B rows after their prefix, per layer [H, B, S, D]; slots not yet in use hold zeros.

    Attention runs over all slots, since a part of them would be copied by the matrix products; so there are never many too many.

    Args:
        prefix: What stands before each row, or None.
        lengths: Tokens of each row, after the prefix.
    """

    prefix: KeyValues | None
    lengths: list[int]
    num_slots: int = 0
    """S."""
    keys: dict[int, torch.Tensor] = field(default_factory=dict)
    values: dict[int, torch.Tensor] = field(default_factory=dict)

    @property
    def prefix_length(self) -> int:
        """P."""
        return 0 if self.prefix is None else self.prefix[0][0].shape[1]

    def fill(
        self, layer: int, key_THD: torch.Tensor, value_THD: torch.Tensor, *, packed: PackedRows, first_row: int = 0
    ) -> None:
        """Take over the keys and values of packed rows, which are those from `first_row` on."""
        _, heads, size = key_THD.shape
        self.num_slots = aligned(max(self.lengths) + _SPARE_SLOTS)
        for store, new_THD in ((self.keys, key_THD), (self.values, value_THD)):
            if layer not in store:
                store[layer] = new_THD.new_zeros((heads, len(self.lengths), self.num_slots, size))
            for row, start in enumerate(packed.starts, start=first_row):
                length = self.lengths[row]
                store[layer][:, row, :length] = new_THD[start : start + length].transpose(0, 1)

    def make_room(self, num_slots: int) -> None:
        """Have at least so many slots."""
        if num_slots <= self.num_slots:
            return
        more = aligned(num_slots + _SPARE_SLOTS) - self.num_slots
        for store in (self.keys, self.values):
            for layer, slots_HBSD in store.items():
                store[layer] = functional.pad(slots_HBSD, (0, 0, 0, more))
        self.num_slots += more

    def select(self, rows: Sequence[int]) -> None:
        """Keep some rows only."""
        for store in (self.keys, self.values):
            for layer, slots_HBSD in store.items():
                store[layer] = slots_HBSD.index_select(1, torch.tensor(rows, device=slots_HBSD.device))
        self.lengths = [self.lengths[row] for row in rows]


class CachedAttention:
    """New tokens attend to the prefix, to what their row's cache holds, and to each other.

    Args:
        cache: Takes the new tokens' keys and values.
        slots: For each row the slots of its new tokens.
        positions: For each row the positions of its new tokens, the prefix counted.
        sees_BKS: True where a new token may see a slot, windows apart.
        slot_positions_BS: Position of what is in each slot, once the new tokens are in.
    """

    def __init__(
        self,
        cache: RowCache,
        slots: Sequence[Sequence[int]],
        positions: Sequence[Sequence[int]],
        sees_BKS: torch.Tensor,
        slot_positions_BS: torch.Tensor,
    ) -> None:
        device = sees_BKS.device
        counts = [len(row) for row in slots]
        starts = list(accumulate(counts, initial=0))[:-1]
        self._cache, self._sees_BKS, self._slot_positions_BS = cache, sees_BKS, slot_positions_BS
        self._rows_T = torch.tensor([row for row, count in enumerate(counts) for _ in range(count)], device=device)
        self._slots_T = torch.tensor([slot for row in slots for slot in row], device=device)
        self.positions_1T = torch.tensor([place for row in positions for place in row], device=device)[None]
        padded = [[*row, *[row[-1]] * (max(counts) - len(row))] for row in positions]
        self._positions_BK = torch.tensor(padded, device=device)
        self._bucket: Bucket = bucket_of(starts, counts, max(counts), device)
        self._biases: dict[int | None, tuple[torch.Tensor, torch.Tensor | None]] = {}

    def attend(
        self, layer: int, query_TXD: torch.Tensor, key_THD: torch.Tensor, value_THD: torch.Tensor, form: AttentionForm
    ) -> torch.Tensor:
        """See `fettle.models.own_attention.Attention`."""
        cache, bucket = self._cache, self._bucket
        keys_HBSD, values_HBSD = cache.keys[layer], cache.values[layer]
        keys_HBSD[:, self._rows_T, self._slots_T] = key_THD.transpose(0, 1)
        values_HBSD[:, self._rows_T, self._slots_T] = value_THD.transpose(0, 1)
        prefix_key, prefix_value = (None, None) if cache.prefix is None else cache.prefix[layer]
        query_HBGKD = grouped_queries(bucket.gather(query_TXD), key_THD.shape[1]).mul_(form.scaling)
        heads, num_rows, groups, num_new, size = query_HBGKD.shape
        bias_BKS, prefix_bias_BKP = self._bias(form.window, query_TXD.dtype)
        out = torch.empty_like(query_HBGKD)
        per_row = heads * groups * num_new * (cache.num_slots + cache.prefix_length)
        for first in range(0, num_rows, chunk := max(1, MAX_SCORES // per_row)):
            rows = slice(first, first + chunk)
            query = query_HBGKD[:, rows].reshape(heads, -1, groups * num_new, size)
            scores = attention_scores(query, keys_HBSD[:, rows], prefix_key)
            soft_capped(scores, form.softcap)
            prefix_bias = None if prefix_bias_BKP is None else prefix_bias_BKP[rows]
            weights = attention_weights(scores, bias_BKS[rows], prefix_bias)
            attended = weighted_values(weights, values_HBSD[:, rows], prefix_value)
            out[:, rows] = attended.view(heads, -1, groups, num_new, size)
        out_TXD = torch.empty_like(query_TXD, memory_format=torch.contiguous_format)
        bucket.scatter(tokens_first(out), out_TXD)
        return out_TXD

    def _bias(self, window: int | None, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor | None]:
        """For own slots [B, K, S] and, where a window cuts it off, for the prefix [B, K, P]."""
        if window not in self._biases:
            sees_BKS, prefix_bias, length = self._sees_BKS, None, self._cache.prefix_length
            if window is not None:
                sees_BKS = sees_BKS & (self._positions_BK[:, :, None] - self._slot_positions_BS[:, None] < window)
                if length and int(self._positions_BK.max()) >= window:
                    prefix_positions_P = torch.arange(length, device=sees_BKS.device)
                    prefix_bias = bias_of(self._positions_BK[:, :, None] - prefix_positions_P < window, dtype)
            self._biases[window] = bias_of(sees_BKS, dtype), prefix_bias
        return self._biases[window]


def continued(cache: RowCache, new: Sequence[Sequence[int]]) -> CachedAttention:
    """The attention of the next tokens of each row, which go into the next slots; lengthens the rows."""
    device = next(iter(cache.keys.values())).device
    slots = [list(range(length, length + len(tokens))) for length, tokens in zip(cache.lengths, new, strict=True)]
    positions = [[cache.prefix_length + slot for slot in row] for row in slots]
    cache.make_room(max(row[-1] for row in slots) + 1)
    num_new = max(map(len, new))
    last_B1 = torch.tensor(cache.lengths, device=device)[:, None] + torch.tensor(
        [[min(place, len(tokens) - 1) for place in range(num_new)] for tokens in new], device=device
    )
    slots_S = torch.arange(cache.num_slots, device=device)
    sees_BKS = slots_S[None, None] <= last_B1[:, :, None]
    cache.lengths = [row[-1] + 1 for row in slots]
    return CachedAttention(cache, slots, positions, sees_BKS, (slots_S + cache.prefix_length).expand(len(new), -1))


def branched(cache: RowCache, parents: Sequence[int | None], depths: Sequence[int]) -> CachedAttention:
    """The attention of a tree of tokens that goes on from the end of every row; the rows are not lengthened.

    Args:
        cache: What the rows hold.
        parents: For each node the place of its parent among the nodes; None: the row's end. Parents come first.
        depths: For each node how many tokens after the row's end it stands, from 0.
    """
    device = next(iter(cache.keys.values())).device
    num_nodes, base = len(parents), max(cache.lengths)
    cache.make_room(base + num_nodes)
    sees_NN = torch.zeros(num_nodes, num_nodes, dtype=torch.bool)
    for node, parent in enumerate(parents):
        if parent is not None:
            sees_NN[node] = sees_NN[parent]
        sees_NN[node, node] = True
    lengths_B11 = torch.tensor(cache.lengths, device=device)[:, None, None]
    sees_BKS = (torch.arange(cache.num_slots, device=device) < lengths_B11).repeat(1, num_nodes, 1)
    sees_BKS[:, :, base : base + num_nodes] = sees_NN.to(device)
    ends = [cache.prefix_length + length for length in cache.lengths]
    positions = [[end + depth for depth in depths] for end in ends]
    slot_positions_BS = (torch.arange(cache.num_slots, device=device) + cache.prefix_length).repeat(len(ends), 1)
    slot_positions_BS[:, base : base + num_nodes] = torch.tensor(positions, device=device)
    slots = [list(range(base, base + num_nodes))] * len(ends)
    return CachedAttention(cache, slots, positions, sees_BKS, slot_positions_BS)

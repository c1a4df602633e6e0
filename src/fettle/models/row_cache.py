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
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from fettle.models.own_attention import KeyValues
from fettle.models.packing import MAX_SCORES, Bucket, PackedRows, aligned, bias_of, bucket_of
from fettle.models.segment_attention import AttentionForm, soft_capped

if TYPE_CHECKING:
    from transformers import PreTrainedModel

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


@dataclass(frozen=True, slots=True)
class _Part:
    """New tokens that attend at once: of some rows, those from the `first` one on."""

    rows_B: torch.Tensor | None
    """Which rows; None: all, whose cache then need not be gathered."""
    first: int
    bucket: Bucket

    def of(self, rows: torch.Tensor, dim: int = 0) -> torch.Tensor:
        """What belongs to the part's rows."""
        return rows if self.rows_B is None else rows.index_select(dim, self.rows_B)

    def queries_of(self, rows_BK: torch.Tensor) -> torch.Tensor:
        """What belongs to the part's rows and new tokens."""
        return self.of(rows_BK)[:, self.first : self.first + self.bucket.length]


def _parts(counts: Sequence[int], device: torch.device) -> tuple[_Part, ...]:
    """One part where most rows have as many new tokens; otherwise the first tokens of all, then the others of those that have more.

    Few rows with many new tokens would otherwise pad the queries of all.
    """
    starts = list(accumulate(counts, initial=0))[:-1]
    longer = [row for row, count in enumerate(counts) if count > 1]
    if 2 * len(longer) > len(counts) or not longer:
        return (_Part(None, 0, bucket_of(starts, counts, max(counts), device)),)
    firsts = bucket_of(starts, [1] * len(counts), 1, device)
    more = [counts[row] - 1 for row in longer]
    others = bucket_of([starts[row] + 1 for row in longer], more, max(more), device)
    return (_Part(None, 0, firsts), _Part(torch.tensor(longer, device=device), 1, others))


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
        self._cache, self._sees_BKS, self._slot_positions_BS = cache, sees_BKS, slot_positions_BS
        self._rows_T = torch.tensor([row for row, count in enumerate(counts) for _ in range(count)], device=device)
        self._slots_T = torch.tensor([slot for row in slots for slot in row], device=device)
        self.positions_1T = torch.tensor([place for row in positions for place in row], device=device)[None]
        padded = [[*row, *[row[-1]] * (max(counts) - len(row))] for row in positions]
        self._positions_BK = torch.tensor(padded, device=device)
        self._parts = _parts(counts, device)
        self._biases: dict[tuple[int, int | None], tuple[torch.Tensor, torch.Tensor | None]] = {}

    def attend(
        self, layer: int, query_TXD: torch.Tensor, key_THD: torch.Tensor, value_THD: torch.Tensor, form: AttentionForm
    ) -> torch.Tensor:
        """See `fettle.models.own_attention.Attention`."""
        cache = self._cache
        cache.keys[layer][:, self._rows_T, self._slots_T] = key_THD.transpose(0, 1)
        cache.values[layer][:, self._rows_T, self._slots_T] = value_THD.transpose(0, 1)
        out_TXD = torch.empty_like(query_TXD, memory_format=torch.contiguous_format)
        for part in self._parts:
            self._attend_part(part, layer, query_TXD, form, out_TXD)
        return out_TXD

    def _attend_part(
        self, part: _Part, layer: int, query_TXD: torch.Tensor, form: AttentionForm, out_TXD: torch.Tensor
    ) -> None:
        cache = self._cache
        keys_HBSD, values_HBSD = part.of(cache.keys[layer], dim=1), part.of(cache.values[layer], dim=1)
        prefix_key, prefix_value = (None, None) if cache.prefix is None else cache.prefix[layer]
        query_HBGKD = _grouped_queries(part.bucket.gather(query_TXD), len(keys_HBSD)).mul_(form.scaling)
        heads, num_rows, groups, num_new, size = query_HBGKD.shape
        bias_BKS, prefix_bias_BKP = self._bias(part, form.window, query_TXD.dtype)
        out = torch.empty_like(query_HBGKD)
        per_row = heads * groups * num_new * (cache.num_slots + cache.prefix_length)
        for first in range(0, num_rows, chunk := max(1, MAX_SCORES // per_row)):
            rows = slice(first, first + chunk)
            query = query_HBGKD[:, rows].reshape(heads, -1, groups * num_new, size)
            scores = _scores(query, keys_HBSD[:, rows], prefix_key)
            soft_capped(scores, form.softcap)
            by_token = scores.unflatten(2, (groups, num_new))
            by_token[..., cache.prefix_length :].add_(bias_BKS[rows, None])
            if prefix_bias_BKP is not None:
                by_token[..., : cache.prefix_length].add_(prefix_bias_BKP[rows, None])
            attended = _weighted(scores.softmax(-1), values_HBSD[:, rows], prefix_value)
            out[:, rows] = attended.view(heads, -1, groups, num_new, size)
        part.bucket.scatter(_tokens_first(out), out_TXD)

    def _bias(self, part: _Part, window: int | None, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor | None]:
        """For own slots [B, K, S] and, where a window cuts it off, for the prefix [B, K, P], of a part's rows and tokens."""
        key = (part.first, window)
        if key not in self._biases:
            sees_BKS, positions_BK = part.queries_of(self._sees_BKS), part.queries_of(self._positions_BK)
            prefix_bias, length = None, self._cache.prefix_length
            if window is not None:
                sees_BKS = sees_BKS & (positions_BK[:, :, None] - part.of(self._slot_positions_BS)[:, None] < window)
                if length and int(positions_BK.max()) >= window:
                    prefix_positions_P = torch.arange(length, device=sees_BKS.device)
                    prefix_bias = bias_of(positions_BK[:, :, None] - prefix_positions_P < window, dtype)
            self._biases[key] = bias_of(sees_BKS, dtype), prefix_bias
        return self._biases[key]


def _products(left_HNAB: torch.Tensor, right_HNBC: torch.Tensor) -> torch.Tensor:
    """[H, N, A, B] x [H, N, B, C] -> [H, N, A, C]; one call for all, which `@` would not make of strided tensors."""
    heads, num = left_HNAB.shape[:2]
    return torch.bmm(left_HNAB.flatten(0, 1), right_HNBC.flatten(0, 1)).unflatten(0, (heads, num))


def _grouped_queries(query_NLXD: torch.Tensor, num_key_heads: int) -> torch.Tensor:
    """[N, L, X, D] -> [H, N, G, L, D]: query heads that share a key/value head lie one behind the other."""
    num, length, heads, size = query_NLXD.shape
    split = query_NLXD.view(num, length, num_key_heads, heads // num_key_heads, size)
    return split.permute(2, 0, 3, 1, 4).contiguous()


def _tokens_first(query_HNGLD: torch.Tensor) -> torch.Tensor:
    """[H, N, G, L, D] -> [N, L, X, D], what `_grouped_queries` undoes."""
    heads, num, groups, length, size = query_HNGLD.shape
    return query_HNGLD.permute(1, 3, 0, 2, 4).reshape(num, length, heads * groups, size)


def _scores(query_HBQD: torch.Tensor, key_HBSD: torch.Tensor, prefix_HPD: torch.Tensor | None) -> torch.Tensor:
    """Products of contiguous queries with the prefix's keys and then those of their row [H, B, Q, P + S]."""
    own_HBQS = _products(query_HBQD, key_HBSD.transpose(2, 3))
    if prefix_HPD is None:
        return own_HBQS
    prefix_HRP = torch.bmm(query_HBQD.flatten(1, 2), prefix_HPD.transpose(1, 2))
    return torch.cat((prefix_HRP.view(*own_HBQS.shape[:3], -1), own_HBQS), dim=-1)


def _weighted(weights: torch.Tensor, value_HBSD: torch.Tensor, prefix_HPD: torch.Tensor | None) -> torch.Tensor:
    """Values averaged with weights [H, B, Q, P + S] -> [H, B, Q, D]."""
    if prefix_HPD is None:
        return _products(weights, value_HBSD)
    of_prefix, of_own = weights.split((prefix_HPD.shape[1], value_HBSD.shape[2]), dim=-1)
    values_HBQD = _products(of_own, value_HBSD)
    values_HBQD.flatten(1, 2).baddbmm_(of_prefix.flatten(1, 2), prefix_HPD)
    return values_HBQD


def key_value_bytes(model: PreTrainedModel) -> int:
    """Memory of one token's keys and values in all layers."""
    config = model.config.get_text_config()
    heads = (
        getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    )  # older configs have one kind only
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * size * model.dtype.itemsize


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

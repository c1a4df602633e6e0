"""Keys and values of rows that are being continued, and the attention of what is added to them.

A long prefix that the rows share is kept once, a short one is laid before each row's own keys. A row's keys lie in slots without
gaps, so rows of different lengths need no padding; finished rows can leave, and others can join.

Legend: B rows, S slots a row, K new tokens a row (padded), P prefix keys, H key/value heads, X query heads, G = X / H,
T new tokens of all rows, D head size, Q = G x K queries of a row for one key/value head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
_LONGEST_COPIED_PREFIX = 64
"""A prefix up to this length is laid before each row's own keys: two products cost more than so many more keys in one."""


@dataclass(slots=True)
class RowCache:
    """Keys and values of B rows, per layer [B, S, H, D]; slots not yet in use hold zeros.

    Attention runs over all slots, so there are never many too many.

    Args:
        shared: What stands before each row, or None.
        lengths: Tokens of each row, after what they share; those of a copied prefix are counted once it is laid before them.
    """

    shared: KeyValues | None
    lengths: list[int]
    num_slots: int = 0
    """S."""
    keys: dict[int, torch.Tensor] = field(default_factory=dict)
    values: dict[int, torch.Tensor] = field(default_factory=dict)
    prefix: KeyValues | None = field(init=False)
    """What is kept once for all rows."""
    num_copied: int = field(init=False)
    """Tokens of the prefix that is laid before each row's own."""

    def __post_init__(self) -> None:
        """Choose where the prefix lies."""
        length = 0 if self.shared is None else self.shared[0][0].shape[1]
        self.num_copied = length if length <= _LONGEST_COPIED_PREFIX else 0
        self.prefix = None if self.num_copied == length else self.shared
        self.lengths = [self.num_copied + own for own in self.lengths]

    @property
    def prefix_length(self) -> int:
        """P."""
        return 0 if self.prefix is None else self.prefix[0][0].shape[1]

    @property
    def device(self) -> torch.device:
        """Where the keys are."""
        return next(iter(self.keys.values())).device

    def fill(
        self, layer: int, key_THD: torch.Tensor, value_THD: torch.Tensor, *, packed: PackedRows, first_row: int = 0
    ) -> None:
        """Take over the keys and values of packed rows, which are those from `first_row` on."""
        self.num_slots = aligned(max(self.lengths) + _SPARE_SLOTS)
        shape = (len(self.lengths), self.num_slots, *key_THD.shape[1:])
        for store, new_THD, which in ((self.keys, key_THD, 0), (self.values, value_THD, 1)):
            if layer not in store:
                store[layer] = new_THD.new_zeros(shape)
                if self.num_copied and self.shared is not None:
                    store[layer][:, : self.num_copied] = self.shared[layer][which].transpose(0, 1)
            for row, start in enumerate(packed.starts, start=first_row):
                length = self.lengths[row] - self.num_copied
                store[layer][row, self.num_copied : self.lengths[row]] = new_THD[start : start + length]

    def make_room(self, num_slots: int) -> None:
        """Have at least so many slots."""
        if num_slots > self.num_slots:
            self._have_slots(aligned(num_slots + _SPARE_SLOTS))

    def _have_slots(self, num_slots: int) -> None:
        if more := num_slots - self.num_slots:
            self._replace(lambda slots_BSHD: functional.pad(slots_BSHD, (0, 0, 0, 0, 0, more)))
            self.num_slots = num_slots

    def select(self, rows: Sequence[int]) -> None:
        """Keep some rows only."""
        rows_R = torch.tensor(rows, device=self.device)
        self.lengths = [self.lengths[row] for row in rows]
        self.num_slots = min(self.num_slots, aligned(max(self.lengths) + _SPARE_SLOTS))  # a long row may have left
        self._replace(lambda slots_BSHD: slots_BSHD[:, : self.num_slots].index_select(0, rows_R))

    def join(self, other: RowCache) -> None:
        """Take over the rows of another cache, which come after the same prefix, behind those that are here."""
        assert other.prefix_length == self.prefix_length, "rows of one cache share what is kept once"
        most = max(self.num_slots, other.num_slots)
        for cache in (self, other):
            cache._have_slots(most)
        for store, more in ((self.keys, other.keys), (self.values, other.values)):
            for layer, slots_BSHD in store.items():
                store[layer] = torch.cat((slots_BSHD, more[layer]))
        self.lengths = self.lengths + other.lengths

    def _replace(self, changed: Callable[[torch.Tensor], torch.Tensor]) -> None:
        for store in (self.keys, self.values):
            for layer, slots_BSHD in store.items():
                store[layer] = changed(slots_BSHD)


@dataclass(frozen=True, slots=True)
class _Part:
    """New tokens that attend at once: of some rows, those from the `first` one on."""

    rows_B: torch.Tensor | None
    """Which rows; None: all, whose cache then need not be gathered."""
    first: int
    bucket: Bucket

    def of(self, rows: torch.Tensor) -> torch.Tensor:
        """What belongs to the part's rows."""
        return rows if self.rows_B is None else rows.index_select(0, self.rows_B)

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
        places = [row * cache.num_slots + slot for row, new in enumerate(slots) for slot in new]
        self._slots_T = torch.tensor(places, device=device)
        self.positions_1T = torch.tensor([place for row in positions for place in row], device=device)[None]
        self._num_used = min(aligned(max(max(row) for row in slots) + 1), cache.num_slots)
        padded = [[*row, *[row[-1]] * (max(counts) - len(row))] for row in positions]
        self._positions_BK = torch.tensor(padded, device=device)
        self._parts, self._is_one_each = _parts(counts, device), max(counts) == 1
        self._biases: dict[tuple[int, int | None], tuple[torch.Tensor, torch.Tensor | None]] = {}

    def attend(
        self, layer: int, query_TXD: torch.Tensor, key_THD: torch.Tensor, value_THD: torch.Tensor, form: AttentionForm
    ) -> torch.Tensor:
        """See `fettle.models.own_attention.Attention`."""
        cache = self._cache
        for slots_BSHD, new_THD in ((cache.keys[layer], key_THD), (cache.values[layer], value_THD)):
            slots_BSHD.flatten(0, 1).index_copy_(0, self._slots_T, new_THD)
        if self._is_one_each:
            return self._attended(self._parts[0], layer, query_TXD[:, None], form)[:, 0]
        out_TXD = torch.empty_like(query_TXD, memory_format=torch.contiguous_format)
        for part in self._parts:
            part.bucket.scatter(self._attended(part, layer, part.bucket.gather(query_TXD), form), out_TXD)
        return out_TXD

    def _attended(self, part: _Part, layer: int, query_BKXD: torch.Tensor, form: AttentionForm) -> torch.Tensor:
        """The values that a part's queries attend to [B, K, X, D]."""
        cache = self._cache
        used = slice(self._num_used)
        key_BHSD, value_BHSD = (part.of(store[layer])[:, used].transpose(1, 2) for store in (cache.keys, cache.values))
        query_BHQD = _grouped_queries(query_BKXD, key_BHSD.shape[1])
        bias_B1QS, prefix_bias_B1QP = self._bias(part, form.window, query_BKXD)
        num_rows, heads, num_queries, _ = query_BHQD.shape
        out_BHQD = query_BHQD.new_empty(query_BHQD.shape)
        per_row = heads * num_queries * (self._num_used + cache.prefix_length)
        for first in range(0, num_rows, chunk := max(1, MAX_SCORES // per_row)):
            rows = slice(first, first + chunk)
            query, key, value, bias = query_BHQD[rows], key_BHSD[rows], value_BHSD[rows], bias_B1QS[rows]
            if cache.prefix is None and form.softcap is None:
                out_BHQD[rows] = functional.scaled_dot_product_attention(
                    query, key, value, attn_mask=bias, scale=form.scaling
                )
                continue
            prefix_key, prefix_value = (None, None) if cache.prefix is None else cache.prefix[layer]
            scores = _scores(query * form.scaling, key, prefix_key)
            soft_capped(scores, form.softcap)
            scores[..., cache.prefix_length :].add_(bias)
            if prefix_bias_B1QP is not None:
                scores[..., : cache.prefix_length].add_(prefix_bias_B1QP[rows])
            out_BHQD[rows] = _weighted(scores.softmax(-1), value, prefix_value)
        return _tokens_first(out_BHQD, query_BKXD.shape[1])

    def _bias(
        self, part: _Part, window: int | None, query_BKXD: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """For own slots [B, 1, Q, S] and, where a window cuts it off, for the prefix [B, 1, Q, P], of a part's rows and tokens."""
        key, dtype = (part.first, window), query_BKXD.dtype
        if key not in self._biases:
            sees_BKS, positions_BK = part.queries_of(self._sees_BKS), part.queries_of(self._positions_BK)
            prefix_bias, length = None, self._cache.prefix_length
            groups = query_BKXD.shape[2] // next(iter(self._cache.keys.values())).shape[2]
            if window is not None:
                sees_BKS = sees_BKS & (positions_BK[:, :, None] - part.of(self._slot_positions_BS)[:, None] < window)
                if length and int(positions_BK.max()) >= window:
                    prefix_positions_P = torch.arange(length, device=sees_BKS.device)
                    prefix_bias = bias_of(positions_BK[:, :, None] - prefix_positions_P < window, dtype)
                    prefix_bias = prefix_bias.repeat(1, groups, 1)[:, None]
            self._biases[key] = (
                bias_of(sees_BKS[..., : self._num_used], dtype).repeat(1, groups, 1)[:, None],
                prefix_bias,
            )
        return self._biases[key]


def _grouped_queries(query_BKXD: torch.Tensor, num_key_heads: int) -> torch.Tensor:
    """[B, K, X, D] -> [B, H, Q, D]: query heads that share a key/value head lie one behind the other."""
    num, length, heads, size = query_BKXD.shape
    split = query_BKXD.reshape(num, length, num_key_heads, heads // num_key_heads, size)
    return split.permute(0, 2, 3, 1, 4).reshape(num, num_key_heads, -1, size)


def _tokens_first(out_BHQD: torch.Tensor, length: int) -> torch.Tensor:
    """[B, H, Q, D] -> [B, K, X, D], what `_grouped_queries` undoes."""
    num, heads, _, size = out_BHQD.shape
    return out_BHQD.view(num, heads, -1, length, size).permute(0, 3, 1, 2, 4).reshape(num, length, -1, size)


def _scores(query_BHQD: torch.Tensor, key_BHSD: torch.Tensor, prefix_HPD: torch.Tensor | None) -> torch.Tensor:
    """Products of queries with the prefix's keys and then those of their row [B, H, Q, P + S]."""
    own_BHQS = query_BHQD @ key_BHSD.transpose(2, 3)
    if prefix_HPD is None:
        return own_BHQS
    prefix_HRP = torch.bmm(_heads_first(query_BHQD), prefix_HPD.transpose(1, 2))
    return torch.cat((prefix_HRP.unflatten(1, (len(query_BHQD), -1)).transpose(0, 1), own_BHQS), dim=-1)


def _weighted(weights: torch.Tensor, value_BHSD: torch.Tensor, prefix_HPD: torch.Tensor | None) -> torch.Tensor:
    """Values averaged with weights [B, H, Q, P + S] -> [B, H, Q, D]."""
    if prefix_HPD is None:
        return weights @ value_BHSD
    of_prefix, of_own = weights.split((prefix_HPD.shape[1], value_BHSD.shape[2]), dim=-1)
    values_HRD = torch.bmm(_heads_first(of_prefix), prefix_HPD)
    return (of_own @ value_BHSD).add_(values_HRD.unflatten(1, (len(weights), -1)).transpose(0, 1))


def _heads_first(rows_BHQD: torch.Tensor) -> torch.Tensor:
    """[B, H, Q, D] -> [H, B x Q, D]."""
    return rows_BHQD.transpose(0, 1).flatten(1, 2)


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
    device = cache.device
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
    device = cache.device
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

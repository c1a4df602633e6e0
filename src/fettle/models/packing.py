"""Rows of tokens laid end to end, and which of them attend to each other: the plan of one forward call, made once for all layers.

Pure index arithmetic: no weights, no hidden states.

Legend: T tokens of all rows, N rows of a bucket, L their padded length, M = N x L slots, S own keys, P slots for the keys of a
prefix, X heads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import torch

from fettle.models.device import moved, tensor_on

ALIGNMENT = 16
"""Lengths are padded to multiples of this, in attention alone: matrix products of other lengths are up to six times slower."""

_ROW_ALIGNMENT = 32
"""The packed row is filled up to a multiple of this: the libraries below compile and keep code for each new shape."""
GPU_BLOCK = 128
"""On a GPU to a multiple of this: attention goes by blocks of so many tokens there (`fettle.models.flex_attention`)."""

_QUERY_BLOCK = 128  # longer rows attend in blocks of so many queries
_BUCKET_SCORES = 60_000
"""A bucket of its own costs about as much as so many scores of padding."""
MAX_SCORES = 1_500_000
"""Scores that exist at once: they should stay in the processor's cache."""
_GPU_BUCKET_SCORES, _GPU_MAX_SCORES = 4_000_000, 64_000_000
"""The same on a GPU, which takes few large products sooner than many small ones. Not measured; fp32 alone goes this way there."""


def aligned(length: int) -> int:
    """The next multiple of `ALIGNMENT`.

    >>> aligned(1), aligned(16), aligned(17)
    (16, 16, 32)
    """
    return -(-length // ALIGNMENT) * ALIGNMENT


def row_alignment(device: torch.device) -> int:
    """What the length of a packed row is a multiple of.

    >>> row_alignment(torch.device("cpu")), row_alignment(torch.device("cuda"))
    (32, 128)
    """
    return GPU_BLOCK if device.type == "cuda" else _ROW_ALIGNMENT


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Tokens `start` to `end` among those that others come after: of the pool of keys and values that were computed before, or,
    where there is none, of the packed row itself.
    """

    start: int
    end: int

    @property
    def length(self) -> int:
        """Tokens."""
        return self.end - self.start


@dataclass(frozen=True, slots=True, order=True)
class Prefix:
    """What stands before a row: spans, in order."""

    spans: tuple[Span, ...] = ()

    @classmethod
    def joined(cls, spans: Iterable[Span]) -> Prefix:
        """Spans that touch become one.

        >>> Prefix.joined([Span(0, 16), Span(16, 32), Span(48, 64)]).spans
        (Span(start=0, end=32), Span(start=48, end=64))
        """
        merged: list[Span] = []
        for span in spans:
            if merged and merged[-1].end == span.start:
                span = Span(merged.pop().start, span.end)  # noqa: PLW2901 (grows by what stood before it)
            merged.append(span)
        return cls(tuple(merged))

    @classmethod
    def of_length(cls, length: int) -> Prefix:
        """The first tokens of the pool; none for length 0."""
        return cls((Span(0, length),) if length else ())

    @property
    def length(self) -> int:
        """Tokens."""
        return sum(span.length for span in self.spans)


@dataclass(frozen=True, slots=True)
class Siblings:
    """Rows `first` to `end` of a bucket, which come after the same prefix."""

    first: int
    end: int
    prefix: Prefix


@dataclass(frozen=True, slots=True)
class Block:
    """Queries `start` to `end` of each row of a bucket; they see own keys up to `end`."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Bucket:
    """Rows of the same padded length, after prefixes of the same padded length, gathered side by side for attention."""

    tokens_M: torch.Tensor
    """Which token of the packed row fills each of the N x L slots; padding repeats a row's last token."""
    real_M: torch.Tensor | None
    """The slots that are not padding; None: all."""
    padding_M: torch.Tensor | None
    """The slots that are; None: none."""
    num_rows: int
    length: int
    """L."""
    siblings: tuple[Siblings, ...] = ()
    """All rows, by their prefix."""

    @property
    def prefix_slots(self) -> int:
        """P. A prefix fills the last of them; those before it are not seen."""
        return aligned(self.siblings[0].prefix.length) if self.siblings else 0

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The queries in parts."""
        starts = range(0, self.length, _QUERY_BLOCK)
        return tuple(Block(start, min(start + _QUERY_BLOCK, self.length)) for start in starts)

    def gather(self, rows_TXD: torch.Tensor) -> torch.Tensor:
        """[T, heads, D] -> [N, L, heads, D]."""
        picked = rows_TXD.index_select(0, self.tokens_M)
        return picked.view(self.num_rows, self.length, *picked.shape[1:])

    def scatter(self, slots_NLXD: torch.Tensor, out_TXD: torch.Tensor) -> None:
        """Write [N, L, heads, D] to the rows' places in `out_TXD`, padding left out."""
        slots_MXD = slots_NLXD.reshape(self.num_rows * self.length, *slots_NLXD.shape[2:])
        if self.real_M is None:
            out_TXD.index_copy_(0, self.tokens_M, slots_MXD)
        else:
            out_TXD.index_copy_(0, self.tokens_M[self.real_M], slots_MXD.index_select(0, self.real_M))


@dataclass(slots=True)
class PackedRows:
    """Rows laid end to end, each after a prefix that was computed before or is among the rows that stand before it.

    The last tokens may be filling: they belong to no row, attend to nothing and are attended by nothing.
    """

    ids_1T: torch.Tensor
    positions_1T: torch.Tensor
    num_tokens: int
    """Tokens of the rows, filling not counted."""
    num_heads: int
    """Query heads."""
    starts: tuple[int, ...]
    """Place of each row's first token."""
    prefixes: tuple[Prefix, ...]
    """What stands before each row."""
    holds_its_prefixes: bool
    """Whether all prefixes can be spans of this packed row: they end before the rows that come after them."""
    derived: dict[Any, Any] = field(default_factory=dict)
    """What attention has made of this plan in one layer, for all others."""

    @property
    def ends(self) -> tuple[int, ...]:
        """Place of each row's last token."""
        return (*(start - 1 for start in self.starts[1:]), self.num_tokens - 1)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of each row."""
        return tuple(end + 1 - start for start, end in zip(self.starts, self.ends, strict=True))

    @property
    def num_prefix_tokens(self) -> int:
        """Leading tokens of the pool, or of the packed row, that hold all prefixes."""
        return max((span.end for prefix in self.prefixes for span in prefix.spans), default=0)

    @property
    def buckets(self) -> tuple[Bucket, ...]:
        """All rows, side by side where their lengths are alike, by indices on the processor; made once, when they are asked for."""
        if "buckets" not in self.derived:
            self.derived["buckets"] = tuple(_buckets(self))
        return self.derived["buckets"]

    def bias(self, block: Block, prefix_slots: int, window: int | None, dtype: torch.dtype) -> torch.Tensor:
        """0 where a query of the block sees a key, minus infinity elsewhere [L, L] or [L, P + S], S = the block's end.

        Of the last keys that a block's queries see: those of the block itself, or, where a window hides some before them, of all.
        """
        sees_all_before = window is None or block.end + prefix_slots <= window
        first = block.start if sees_all_before else -prefix_slots
        key = (block, first, min(window or block.end, block.end - first))
        if key not in self.derived:
            device = self.ids_1T.device
            queries_L1 = torch.arange(block.start, block.end, device=device)[:, None]
            keys_1K = torch.arange(first, block.end, device=device)[None]
            sees_LK = (keys_1K <= queries_L1) & (queries_L1 - keys_1K < key[-1])
            self.derived[key] = bias_of(sees_LK, dtype)
        return self.derived[key]


def bias_of(sees: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """What to add to scores: 0 where a query sees a key, minus infinity elsewhere."""
    return torch.zeros(sees.shape, dtype=dtype, device=sees.device).masked_fill_(~sees, float("-inf"))


def pack_rows(
    rows: Sequence[Sequence[int]], *, after: Prefix | Sequence[Prefix], num_heads: int, device: torch.device
) -> PackedRows:
    """Lay rows end to end.

    Args:
        rows: Token ids after the prefix, none empty.
        after: What stands before each row, or before all of them: in a pool of what was computed before or, where the call gets
            none, in this packed row.
        num_heads: Query heads; with the lengths they say how many rows attend at once.
        device: Where the indices live.
    """
    prefixes = [after] * len(rows) if isinstance(after, Prefix) else after
    starts, place = [], 0
    for row in rows:
        starts.append(place)
        place += len(row)
    filling = [0] * (-place % row_alignment(device))
    positions = [
        position
        for row, prefix in zip(rows, prefixes, strict=True)
        for position in range(prefix.length, prefix.length + len(row))
    ]
    return PackedRows(
        ids_1T=tensor_on(device, [*(token for row in rows for token in row), *filling])[None],
        positions_1T=tensor_on(device, [*positions, *filling])[None],
        num_tokens=place,
        num_heads=num_heads,
        starts=tuple(starts),
        prefixes=tuple(prefixes),
        holds_its_prefixes=all(
            span.end <= start for start, prefix in zip(starts, prefixes, strict=True) for span in prefix.spans
        ),
    )


def _buckets(packed: PackedRows) -> Iterator[Bucket]:
    device, cpu = packed.ids_1T.device, torch.device("cpu")
    lengths, prefixes = packed.lengths, packed.prefixes
    groups = _rows_of_like_length(
        [aligned(length) for length in lengths],
        [aligned(prefix.length) for prefix in prefixes],
        packed.num_heads,
        _BUCKET_SCORES if device.type == "cpu" else _GPU_BUCKET_SCORES,
    )
    max_scores = MAX_SCORES if device.type == "cpu" else _GPU_MAX_SCORES
    for (padded, prefix_slots), members in groups.items():
        members.sort(key=lambda index: prefixes[index])  # siblings lie side by side
        size = max(1, max_scores // (packed.num_heads * min(padded, _QUERY_BLOCK) * (padded + prefix_slots)))
        for first in range(0, len(members), size):
            group = members[first : first + size]
            bucket = bucket_of([packed.starts[i] for i in group], [lengths[i] for i in group], padded, cpu)
            yield replace(bucket, siblings=_siblings([prefixes[i] for i in group]))


def _rows_of_like_length(
    lengths: Sequence[int], prefix_slots: Sequence[int], num_heads: int, bucket_scores: int
) -> dict[tuple[int, int], list[int]]:
    """The rows, by their index, that attend side by side, by the length they are padded to and the slots of their prefix.

    Longest first. Few shorter rows are padded to the length of longer ones rather than have a bucket of their own.
    """
    groups: dict[tuple[int, int], list[int]] = {}
    for slots in sorted(set(prefix_slots)):
        alike = sorted((-lengths[index], index) for index, own in enumerate(prefix_slots) if own == slots)
        longest = 0
        for length, members in groupby(alike, key=lambda pair: -pair[0]):
            indices = [index for _, index in members]
            num_scores = len(indices) * num_heads * (longest * (slots + longest) - length * (slots + length))
            if not longest or num_scores > bucket_scores:
                longest = length
            groups.setdefault((longest, slots), []).extend(indices)
    return groups


def _siblings(prefixes: Sequence[Prefix]) -> tuple[Siblings, ...]:
    found, first = [], 0
    for prefix, rows in groupby(prefixes):
        end = first + len(list(rows))
        found.append(Siblings(first, end, prefix))
        first = end
    return tuple(found)


def bucket_of(starts: Sequence[int], lengths: Sequence[int], padded: int, device: torch.device) -> Bucket:
    """Rows that start at some tokens of a packed row, side by side, padded to one length."""
    slots_L = torch.arange(padded)
    lengths_N1 = torch.tensor(lengths)[:, None]
    tokens_NL = torch.tensor(starts)[:, None] + torch.minimum(slots_L[None], lengths_N1 - 1)
    real_NL = slots_L[None] < lengths_N1
    real, padding = (moved(which.flatten().nonzero().flatten(), device) for which in (real_NL, ~real_NL))
    has_padding = len(padding) > 0
    return Bucket(
        tokens_M=moved(tokens_NL.flatten(), device),
        real_M=real if has_padding else None,
        padding_M=padding if has_padding else None,
        num_rows=len(starts),
        length=padded,
    )

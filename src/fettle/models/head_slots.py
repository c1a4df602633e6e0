"""Where attention takes the heads of packed rows from and puts them: for each bucket dense, head-major batches.

Pure index arithmetic, made once for all layers, on the processor; its results go to where the model is. Queries are gathered by
one call for all buckets, and what comes of them is put back by one; keys are gathered bucket by bucket, as those of a prefix are
laid before each row's own.

Legend: T tokens of the packed rows, C keys of the pool, N rows of a bucket, L queries of a block, H key/value heads, G query heads
a key/value head, X = H x G, K keys of a row, P of them before its own ones, B = H x N, Q = G x L, S slots of all queries,
O slots of all rows' own keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from fettle.models.device import moved
from fettle.models.packing import Block, Bucket, PackedRows, Siblings, Span


@dataclass(frozen=True, slots=True)
class BlockSlots:
    """The queries of a block: slots `start` to `end`, which are [B, Q]."""

    block: Block
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class BucketSlots:
    """The heads of a bucket."""

    bucket: Bucket
    key_BK: torch.Tensor
    """Which of the (C + T) x H keys are each row's, as one list; unused slots before a prefix hold any."""
    blocks: tuple[BlockSlots, ...]
    own_start: int
    """Own keys are slots `own_start` to `own_end`, which are [B, K - P]."""
    own_end: int

    @property
    def num_keys(self) -> int:
        """K."""
        return self.bucket.prefix_slots + self.bucket.length


@dataclass(frozen=True, slots=True)
class HeadSlots:
    """All buckets, whose slots lie end to end. The last slot of queries, and of own keys, is none's: it stands for filling."""

    buckets: tuple[BucketSlots, ...]
    query_S: torch.Tensor
    """Which of the T x X query heads fills each slot; padding repeats a row's last token."""
    padding_S: torch.Tensor | None
    """The slots that are padding; None: there are none."""
    slot_TX: torch.Tensor
    """The slot of each query head, as one list."""
    own_slot_TH: torch.Tensor
    """The slot of each key head, as one list."""

    @property
    def num_queries(self) -> int:
        """S."""
        return len(self.query_S)

    @property
    def num_own_keys(self) -> int:
        """O."""
        return self.buckets[-1].own_end


def head_slots(packed: PackedRows, *, num_heads: int, num_key_heads: int, pool_length: int) -> HeadSlots:
    """Slots for X = `num_heads` and H = `num_key_heads`, with C = `pool_length` keys before those of the packed row."""
    device = packed.ids_1T.device
    num_tokens = packed.ids_1T.shape[1]
    groups = num_heads // num_key_heads
    head_HG = torch.arange(num_heads).view(num_key_heads, groups)
    buckets, queries, padding = [], [], []
    own_slot_TH = torch.empty(num_tokens, num_key_heads, dtype=torch.long)
    slot, own_slot = 0, 0
    for bucket in packed.buckets:
        tokens_NL = bucket.tokens_M.view(bucket.num_rows, bucket.length)
        real_NL = torch.ones_like(tokens_NL, dtype=torch.bool)
        if bucket.padding_M is not None:
            real_NL.view(-1)[bucket.padding_M] = False
        blocks = []
        for block in bucket.blocks:
            some_NL, real = tokens_NL[:, block.start : block.end], real_NL[:, block.start : block.end]
            query_HNGL = some_NL[None, :, None] * num_heads + head_HG[:, None, :, None]
            queries.append(query_HNGL.flatten())
            padding.append(~real[None, :, None].expand_as(query_HNGL).flatten())
            blocks.append(BlockSlots(block, slot, slot + query_HNGL.numel()))
            slot += query_HNGL.numel()
        key_NK = torch.cat((_prefix_tokens(bucket), tokens_NL + pool_length), dim=1)
        key_HNK = key_NK * num_key_heads + torch.arange(num_key_heads)[:, None, None]
        num_own = num_key_heads * tokens_NL.numel()
        own_HNL = torch.arange(own_slot, own_slot + num_own).view(num_key_heads, *tokens_NL.shape)
        own_slot_TH[tokens_NL[real_NL]] = own_HNL.permute(1, 2, 0)[real_NL]
        key_BK = moved(key_HNK.flatten(), device)
        buckets.append(BucketSlots(bucket, key_BK, tuple(blocks), own_slot, own_slot + num_own))
        own_slot += num_own
    own_slot_TH[packed.num_tokens :] = own_slot
    query_S, is_padding_S = torch.cat(queries), torch.cat(padding)
    has_padding = any(bucket.padding_M is not None for bucket in packed.buckets)
    slot_TX = torch.full((num_tokens * num_heads,), slot, dtype=torch.long)
    real_S = (~is_padding_S).nonzero().flatten()
    slot_TX[query_S[real_S]] = real_S
    return HeadSlots(
        buckets=tuple(buckets),
        query_S=moved(query_S, device),
        padding_S=moved(is_padding_S.nonzero().flatten(), device) if has_padding else None,
        slot_TX=moved(slot_TX, device),
        own_slot_TH=moved(own_slot_TH.flatten(), device),
    )


def prefix_spans(bucket: Bucket) -> Iterator[tuple[Siblings, Span, int]]:
    """For rows that share a prefix, each of its spans and the place of its first key among a row's keys."""
    for siblings in bucket.siblings:
        place = bucket.prefix_slots - siblings.prefix.length
        for span in siblings.prefix.spans:
            yield siblings, span, place
            place += span.length


def _prefix_tokens(bucket: Bucket) -> torch.Tensor:
    """Which tokens of the pool, or of the packed row, each row's prefix is [N, P]."""
    tokens_NP = torch.zeros(bucket.num_rows, bucket.prefix_slots, dtype=torch.long)
    for siblings, span, place in prefix_spans(bucket):
        tokens_NP[siblings.first : siblings.end, place : place + span.length] = torch.arange(span.start, span.end)
    return tokens_NP

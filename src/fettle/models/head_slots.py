"""Where attention takes the heads of packed rows from and puts them: for each bucket dense, head-major batches.

Pure index arithmetic, made once for all layers, on the processor; its results go to where the model is. Queries are gathered by
one call for all buckets, and what comes of them is put back by one; keys are gathered bucket by bucket, those of a prefix once for
all rows that come after it where that pays, and before each row's own ones otherwise.

Legend: T tokens of the packed rows, C keys of the pool, N rows of a bucket, L queries of a block, H key/value heads, G query heads
a key/value head, X = H x G, P slots for the keys of a prefix that is kept once, R keys laid out for each row, B = H x N, Q = G x L,
S slots of all queries, O slots of all rows' own keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from fettle.models.device import moved
from fettle.models.packing import Block, Bucket, PackedRows, Siblings, Span

_SCORES_PER_COPIED_KEY = 32
"""To join so many scores of a query head costs about as much as to copy a key and add up the gradients of its copies."""


@dataclass(frozen=True, slots=True)
class BlockSlots:
    """The queries of a block: slots `start` to `end`, which are [B, Q]."""

    block: Block
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class SharedSlots:
    """The keys of a prefix, once for all rows that come after it."""

    siblings: Siblings
    key_HP: torch.Tensor
    """Which of the (C + T) x H keys they are, as one list; unused slots before a prefix hold any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketSlots:
    """The heads of a bucket."""

    bucket: Bucket
    num_key_heads: int
    """H."""
    row_key_BR: torch.Tensor
    """Which of the (C + T) x H keys are laid out for each row, as one list; unused slots before a prefix hold any."""
    shared_keys: tuple[SharedSlots, ...]
    """The prefixes that are kept once."""
    num_shared: int
    """P."""
    num_copied: int
    """Keys of a prefix among the R of a row; either these are 0 or P is."""
    blocks: tuple[BlockSlots, ...]
    own_start: int
    """Own keys are slots `own_start` to `own_end`, which are the last ones of [B, R]."""
    own_end: int


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
        num_own = num_key_heads * tokens_NL.numel()
        own_HNL = torch.arange(own_slot, own_slot + num_own).view(num_key_heads, *tokens_NL.shape)
        own_slot_TH[tokens_NL[real_NL]] = own_HNL.permute(1, 2, 0)[real_NL]
        row_key_BR, shared_keys = _key_slots(bucket, tokens_NL + pool_length, num_key_heads, device)
        buckets.append(
            BucketSlots(
                bucket=bucket,
                num_key_heads=num_key_heads,
                row_key_BR=row_key_BR,
                shared_keys=shared_keys,
                num_shared=bucket.prefix_slots if shared_keys else 0,
                num_copied=0 if shared_keys else bucket.prefix_slots,
                blocks=tuple(blocks),
                own_start=own_slot,
                own_end=own_slot + num_own,
            )
        )
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


def prefix_places(bucket: Bucket, siblings: Siblings) -> Iterator[tuple[Span, int]]:
    """Each span of the siblings' prefix, and which of the slots for it holds its first key."""
    place = bucket.prefix_slots - siblings.prefix.length
    for span in siblings.prefix.spans:
        yield span, place
        place += span.length


def _is_kept_once(bucket: Bucket) -> bool:
    """Whether a prefix's keys are gathered once for all rows that come after it, not laid before those of each row.

    Where the copies that this saves are larger than the rows' own scores, which have to be joined to those of the prefix.
    """
    saved = (bucket.num_rows - len(bucket.siblings)) * bucket.prefix_slots * _SCORES_PER_COPIED_KEY
    return saved > bucket.num_rows * bucket.length**2


def _key_slots(
    bucket: Bucket, own_NL: torch.Tensor, num_key_heads: int, device: torch.device
) -> tuple[torch.Tensor, tuple[SharedSlots, ...]]:
    """What is laid out for each row, and what is kept once, from the tokens of the rows' own keys."""

    def heads_first(tokens: torch.Tensor) -> torch.Tensor:
        heads = torch.arange(num_key_heads).view(-1, *[1] * tokens.dim())
        return moved((tokens * num_key_heads + heads).flatten(), device)

    prefix_NP = _prefix_tokens(bucket)
    if not _is_kept_once(bucket):
        return heads_first(torch.cat((prefix_NP, own_NL), dim=1)), ()
    shared = (SharedSlots(siblings, heads_first(prefix_NP[siblings.first])) for siblings in bucket.siblings)
    return heads_first(own_NL), tuple(shared)


def _prefix_tokens(bucket: Bucket) -> torch.Tensor:
    """Which tokens of the pool, or of the packed row, each row's prefix is [N, P]."""
    tokens_NP = torch.zeros(bucket.num_rows, bucket.prefix_slots, dtype=torch.long)
    for siblings in bucket.siblings:
        for span, place in prefix_places(bucket, siblings):
            tokens_NP[siblings.first : siblings.end, place : place + span.length] = torch.arange(span.start, span.end)
    return tokens_NP

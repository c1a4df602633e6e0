"""The keys, or values, of the rows of a bucket, and the products that attention makes with them.

A prefix that many short rows come after is kept once: one product with it takes all their queries. Any other is laid before
each row's own keys (`fettle.models.head_slots` chooses). Either way a query has one list of keys, the prefix's first.

Legend: T tokens of the packed rows, C keys of the pool, N rows of a bucket, H key/value heads, B = H x N, Q queries of a row for
one key/value head, P slots for a prefix that is kept once, R keys laid out for each row, K = P + R, D head size, O the slots of own
keys (`fettle.models.head_slots`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fettle.models.head_slots import BlockSlots, BucketSlots, HeadSlots, prefix_places
from fettle.models.packing import PackedRows, Prefix, Siblings


class Keys:
    """All keys, or values, that rows attend to.

    Args:
        key_THD: Those of the packed rows.
        pool_HCD: Those before them, if there are any.
    """

    def __init__(self, key_THD: torch.Tensor, pool_HCD: torch.Tensor | None) -> None:
        joined = key_THD if pool_HCD is None else torch.cat((pool_HCD.transpose(0, 1), key_THD))
        self._keys = joined.reshape(-1, key_THD.shape[-1])
        self._shared: dict[Prefix, torch.Tensor] = {}

    def of(self, bucket: BucketSlots) -> BucketKeys:
        """Those that a bucket's rows see. A prefix that several buckets share is gathered once."""
        shared = []
        for slots in bucket.shared_keys:
            prefix = slots.siblings.prefix
            if prefix not in self._shared:
                self._shared[prefix] = self._gathered(slots.key_HP, bucket.num_key_heads)
            shared.append((slots.siblings, self._shared[prefix]))
        num_rows = bucket.num_key_heads * bucket.bucket.num_rows
        return BucketKeys(bucket, self._gathered(bucket.row_key_BR, num_rows), shared)

    def _gathered(self, which: torch.Tensor, num_rows: int) -> torch.Tensor:
        return self._keys.index_select(0, which).view(num_rows, -1, self._keys.shape[-1])


class BucketKeys:
    """Keys, or values, of a bucket's rows: some laid out row by row, the prefixes' once for all siblings."""

    def __init__(
        self, bucket: BucketSlots, of_rows_BRD: torch.Tensor, shared: Sequence[tuple[Siblings, torch.Tensor]]
    ) -> None:
        self._bucket, self._of_rows_BRD, self._shared = bucket, of_rows_BRD, shared

    def products(self, rows_BQD: torch.Tensor, block: BlockSlots, scale: float = 1.0) -> torch.Tensor:
        """Of a block's rows, one a query, with all keys that the queries may see [B, Q, K]."""
        of_rows_BRD = seen(self._of_rows_BRD, self._bucket, block)
        own_BQR = scaled_product(rows_BQD, of_rows_BRD.transpose(1, 2), scale)
        if not self._shared:
            return own_BQR
        num_shared = self._bucket.num_shared
        products_BQK = rows_BQD.new_empty((*rows_BQD.shape[:2], num_shared + of_rows_BRD.shape[1]))
        products_BQK[..., num_shared:] = own_BQR
        for siblings, shared_HPD in self._shared:
            of_siblings = together(products_BQK, self._bucket, siblings)[..., :num_shared]
            scaled_product(
                together(rows_BQD, self._bucket, siblings), shared_HPD.transpose(1, 2), scale, out=of_siblings
            )
        return products_BQK

    def weighted(
        self, weights_BQK: torch.Tensor, block: BlockSlots, scale: float = 1.0, *, out_BQD: torch.Tensor
    ) -> None:
        """Write the sums of the keys, or values, with each query's weights."""
        num_shared = self._bucket.num_shared
        of_rows_BRD = seen(self._of_rows_BRD, self._bucket, block)
        scaled_product(weights_BQK[..., num_shared:], of_rows_BRD, scale, out=out_BQD)
        for siblings, shared_HPD in self._shared:
            weights = together(weights_BQK, self._bucket, siblings)[..., :num_shared]
            together(out_BQD, self._bucket, siblings).baddbmm_(weights, shared_HPD, alpha=scale)


class KeyGradient:
    """Gathers the gradient of all keys, or values, block by block; what many queries add to is fp32 meanwhile."""

    def __init__(
        self, key_THD: torch.Tensor, pool_HCD: torch.Tensor | None, packed: PackedRows, slots: HeadSlots
    ) -> None:
        _, heads, size = key_THD.shape
        self._key_THD, self._has_pool, self._slots = key_THD, pool_HCD is not None, slots
        self._own_OD = room(slots.num_own_keys, key_THD)
        length = packed.num_prefix_tokens if pool_HCD is None else pool_HCD.shape[1]
        self._prefix_HCD = key_THD.new_zeros((heads, length, size), dtype=torch.float32)
        self._begun_BRD: torch.Tensor | None = None

    def add(
        self,
        bucket: BucketSlots,
        block: BlockSlots,
        weights_BQK: torch.Tensor,
        rows_BQD: torch.Tensor,
        scale: float = 1.0,
    ) -> None:
        """Take what a block's queries give: to each key the sum of their rows with the weights that it has in them."""
        num_shared = bucket.num_shared
        for siblings in bucket.bucket.siblings if num_shared else ():
            rows_HDQ = together(rows_BQD, bucket, siblings).transpose(1, 2)
            weights_HQP = together(weights_BQK, bucket, siblings)[..., :num_shared]
            # The other way round, the product would read the weights across: a sixth slower.
            self._add_of_prefix(bucket, siblings, scaled_product(rows_HDQ, weights_HQP, scale).transpose(1, 2))
        weights_BRQ = weights_BQK[..., num_shared:].transpose(1, 2)
        self._add_of_rows(bucket, block, scaled_product(weights_BRQ, rows_BQD, scale))

    def _add_of_prefix(self, bucket: BucketSlots, siblings: Siblings, gradient_HPD: torch.Tensor) -> None:
        for span, place in prefix_places(bucket.bucket, siblings):
            self._prefix_HCD[:, span.start : span.end].add_(gradient_HPD[:, place : place + span.length])

    def _add_of_rows(self, bucket: BucketSlots, block: BlockSlots, gradient_BRD: torch.Tensor) -> None:
        """After a bucket's last block, what its blocks gave together goes where it belongs."""
        if len(bucket.blocks) > 1:
            if self._begun_BRD is None:
                shape = (len(gradient_BRD), bucket.num_copied + bucket.bucket.length, gradient_BRD.shape[2])
                self._begun_BRD = gradient_BRD.new_zeros(shape, dtype=torch.float32)
            seen(self._begun_BRD, bucket, block).add_(gradient_BRD)
            if block is not bucket.blocks[-1]:
                return
            gradient_BRD, self._begun_BRD = self._begun_BRD, None
        num_copied = bucket.num_copied
        own_BLD = gradient_BRD[:, num_copied:]
        self._own_OD[bucket.own_start : bucket.own_end].view(own_BLD.shape).copy_(own_BLD)
        by_head_HNRD = gradient_BRD.unflatten(0, (bucket.num_key_heads, -1))
        for siblings in bucket.bucket.siblings if num_copied else ():
            copies_HNPD = by_head_HNRD[:, siblings.first : siblings.end, :num_copied]
            self._add_of_prefix(bucket, siblings, copies_HNPD.sum(1, dtype=torch.float32))

    def gathered(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """For the packed rows [T, H, D], and for the pool [H, C, D] where there is one."""
        grad_THD = self._own_OD.index_select(0, self._slots.own_slot_TH).view(self._key_THD.shape)
        if self._has_pool:
            return grad_THD, self._prefix_HCD.to(grad_THD.dtype)
        grad_THD[: self._prefix_HCD.shape[1]] += self._prefix_HCD.transpose(0, 1)
        return grad_THD, None


def scaled_product(
    left: torch.Tensor, right: torch.Tensor, scale: float, *, out: torch.Tensor | None = None
) -> torch.Tensor:
    """Batched product times `scale`, in one call."""
    unused = left.new_empty((1, 1, 1))
    return torch.baddbmm(unused, left, right, beta=0, alpha=scale, out=out)  # pyright: ignore[reportCallIssue, reportArgumentType] (None is accepted)


def room(num_slots: int, like: torch.Tensor) -> torch.Tensor:
    """Room for some slots of D, and a last one of zeros for the filling."""
    slots = like.new_empty((num_slots + 1, like.shape[-1]))
    slots[-1] = 0
    return slots


def seen(keys_BRD: torch.Tensor, bucket: BucketSlots, block: BlockSlots) -> torch.Tensor:
    """What a block's queries may see of the keys laid out for each row."""
    return keys_BRD[:, : bucket.num_copied + block.block.end]


def together(rows_BQD: torch.Tensor, bucket: BucketSlots, siblings: Siblings) -> torch.Tensor:
    """Of rows that come after one prefix all queries, one after the other [H, n x Q, D], a view."""
    num_queries = rows_BQD.shape[1]
    by_head = rows_BQD.view(bucket.num_key_heads, -1, rows_BQD.shape[2])
    return by_head[:, siblings.first * num_queries : siblings.end * num_queries]

"""Causal attention of packed rows over prefixes they share, without a mask over all of them.

Rows of like length are gathered into small dense batches. Each query sees the keys of its row's prefix, which are laid before those
of the row itself, and the earlier ones of these; the softmax is fp32 inside. Where there are many keys the backward pass computes
the probabilities again, so memory grows with the tokens and not with their square (as in Dao et al. 2022, sec. 3.1).

Legend: T tokens of the packed rows, N rows of a batch, L queries a row (padded), P slots for its prefix, K = P + own keys, C keys
of the pool that prefixes are spans of, H key/value heads, G query heads a key/value head, X = H x G, B = H x N, Q = G x L, D head
size; S and O the slots of queries and own keys (`fettle.models.head_slots`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from fettle.models.head_slots import BlockSlots, BucketSlots, HeadSlots, head_slots, prefix_spans
from fettle.models.packing import PackedRows

_MOST_KEYS_KEPT = 1024
"""Probabilities over so many keys are kept for the backward pass: no more memory than a layer's other intermediates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionForm:
    """How one layer attends."""

    scaling: float
    """Factor of the scores."""
    window: int | None = None
    """Tokens that a query sees, itself included; None: all before it."""
    softcap: float | None = None
    """Scores are squeezed between plus and minus this (Gemma 2)."""


def soft_capped(scores: torch.Tensor, cap: float | None) -> torch.Tensor | None:
    """Squeeze scores in place; the derivative that this has, None where nothing is to be done."""
    if cap is None:
        return None
    squeezed = scores.div_(cap).tanh_()
    slope = 1.0 - squeezed.square()
    squeezed.mul_(cap)
    return slope


class SegmentAttention(torch.autograd.Function):
    """Attention of packed rows over their prefixes: queries [T, X, D], keys and values [T, H, D] -> [T, X, D]."""

    @staticmethod
    def forward(
        ctx: Any,
        query_TXD: torch.Tensor,
        key_THD: torch.Tensor,
        value_THD: torch.Tensor,
        pool_key: torch.Tensor | None,
        pool_value: torch.Tensor | None,
        packed: PackedRows,
        form: AttentionForm,
    ) -> torch.Tensor:
        """See the class; the pool's keys and values are [H, C, D], None for those of the packed row."""
        slots = _slots(packed, query_TXD, key_THD, pool_key)
        keys, values = _with_pool(pool_key, key_THD), _with_pool(pool_value, value_THD)
        query_SD = _heads(query_TXD).index_select(0, slots.query_S)
        out_SD = _room(slots.num_queries, query_SD)
        kept, has_backward = [], any(ctx.needs_input_grad)
        for bucket in slots.buckets:
            key_BKD, value_BKD = _of_rows(keys, bucket), _of_rows(values, bucket)
            for block in bucket.blocks:
                query_BQD, out_BQD = _of_block(query_SD, block, key_BKD), _of_block(out_SD, block, key_BKD)
                weights_BQK, _ = _weights(packed, bucket, block, form, query_BQD, key_BKD)
                if has_backward and _keeps_weights(bucket, form):
                    kept.append(weights_BQK)
                torch.bmm(weights_BQK, _seen(value_BKD, bucket, block), out=out_BQD)
        ctx.save_for_backward(query_TXD, key_THD, value_THD, pool_key, pool_value, *kept)
        ctx.packed, ctx.form = packed, form
        return out_SD.index_select(0, slots.slot_TX).view(query_TXD.shape)

    @staticmethod
    def backward(ctx: Any, grad_TXD: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Gradients of all tensors.

        With S = Q K', W = softmax(S) and out = W V: dV = W' dout, dW = dout V', dS = W * (dW - sum(dW * W)), dQ = dS K, dK = dS' Q.
        """
        query_TXD, key_THD, value_THD, pool_key, pool_value, *kept = ctx.saved_tensors
        packed, form = ctx.packed, ctx.form
        slots = _slots(packed, query_TXD, key_THD, pool_key)
        keys, values = _with_pool(pool_key, key_THD), _with_pool(pool_value, value_THD)
        query_SD, grad_SD = (_heads(x).index_select(0, slots.query_S) for x in (query_TXD, grad_TXD))
        if slots.padding_S is not None:
            grad_SD.index_fill_(0, slots.padding_S, 0)
        dquery_SD = _room(slots.num_queries, query_SD)
        of_keys, of_values = (_KeyGradient(x, pool_key, packed, slots) for x in (key_THD, value_THD))
        kept_in_order = iter(kept)
        for bucket in slots.buckets:
            key_BKD, value_BKD = _of_rows(keys, bucket), _of_rows(values, bucket)
            for block in bucket.blocks:
                query_BQD, grad_BQD = _of_block(query_SD, block, key_BKD), _of_block(grad_SD, block, key_BKD)
                if _keeps_weights(bucket, form):
                    weights_BQK, slope = next(kept_in_order), None
                else:
                    weights_BQK, slope = _weights(packed, bucket, block, form, query_BQD, key_BKD)
                dweights_BQK = torch.bmm(grad_BQD, _seen(value_BKD, bucket, block).transpose(1, 2))
                # What autograd itself calls for a softmax: one pass that is fp32 inside.
                dscores = torch.ops.aten._softmax_backward_data(dweights_BQK, weights_BQK, -1, weights_BQK.dtype)
                if slope is not None:
                    dscores.mul_(slope)
                _scaled_product(dscores, _seen(key_BKD, bucket, block), form, out=_of_block(dquery_SD, block, key_BKD))
                of_keys.add(bucket, block, _scaled_product(dscores.transpose(1, 2), query_BQD, form))
                of_values.add(bucket, block, torch.bmm(weights_BQK.transpose(1, 2), grad_BQD))
        grad_query = dquery_SD.index_select(0, slots.slot_TX).view(query_TXD.shape)
        (grad_key, grad_pool_key), (grad_value, grad_pool_value) = of_keys.gathered(), of_values.gathered()
        return grad_query, grad_key, grad_value, grad_pool_key, grad_pool_value, None, None


class _KeyGradient:
    """Gathers the gradient of all keys, or values, bucket by bucket; what many rows add to is fp32 meanwhile."""

    def __init__(
        self, key_THD: torch.Tensor, pool_HCD: torch.Tensor | None, packed: PackedRows, slots: HeadSlots
    ) -> None:
        _, heads, size = key_THD.shape
        self._key_THD, self._has_pool, self._slots = key_THD, pool_HCD is not None, slots
        self._own_OD = _room(slots.num_own_keys, key_THD)
        length = packed.num_prefix_tokens if pool_HCD is None else pool_HCD.shape[1]
        self._prefix_HCD = key_THD.new_zeros((heads, length, size), dtype=torch.float32)
        self._begun_BKD: torch.Tensor | None = None

    def add(self, bucket: BucketSlots, block: BlockSlots, gradient_BKD: torch.Tensor) -> None:
        """Take what a block's queries give; after a bucket's last block, what they gave together goes where it belongs."""
        if len(bucket.blocks) > 1:
            if self._begun_BKD is None:
                num_keys = bucket.num_keys
                self._begun_BKD = gradient_BKD.new_zeros(
                    (len(gradient_BKD), num_keys, gradient_BKD.shape[2]), dtype=torch.float32
                )
            _seen(self._begun_BKD, bucket, block).add_(gradient_BKD)
            if block is not bucket.blocks[-1]:
                return
            gradient_BKD, self._begun_BKD = self._begun_BKD, None
        own_BLD = gradient_BKD[:, bucket.bucket.prefix_slots :]
        self._own_OD[bucket.own_start : bucket.own_end].view(own_BLD.shape).copy_(own_BLD)
        by_head_HNKD = gradient_BKD.unflatten(0, (self._prefix_HCD.shape[0], bucket.bucket.num_rows))
        for siblings, span, place in prefix_spans(bucket.bucket):
            of_rows_HNCD = by_head_HNKD[:, siblings.first : siblings.end, place : place + span.length]
            self._prefix_HCD[:, span.start : span.end].add_(of_rows_HNCD.sum(1, dtype=torch.float32))

    def gathered(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """For the packed rows [T, H, D], and for the pool [H, C, D] where there is one."""
        grad_THD = self._own_OD.index_select(0, self._slots.own_slot_TH).view(self._key_THD.shape)
        if self._has_pool:
            return grad_THD, self._prefix_HCD.to(grad_THD.dtype)
        grad_THD[: self._prefix_HCD.shape[1]] += self._prefix_HCD.transpose(0, 1)
        return grad_THD, None


def _keeps_weights(bucket: BucketSlots, form: AttentionForm) -> bool:
    return form.softcap is None and bucket.num_keys <= _MOST_KEYS_KEPT


def _weights(
    packed: PackedRows,
    bucket: BucketSlots,
    block: BlockSlots,
    form: AttentionForm,
    query_BQD: torch.Tensor,
    key_BKD: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Weights [B, Q, K] of a block's queries, and the derivative of the soft-capping."""
    scores = _scaled_product(query_BQD, _seen(key_BKD, bucket, block).transpose(1, 2), form)
    slope = soft_capped(scores, form.softcap)
    num_rows, prefix_slots = bucket.bucket.num_rows, bucket.bucket.prefix_slots
    for siblings in bucket.bucket.siblings:
        if num_unused := prefix_slots - siblings.prefix.length:
            scores.unflatten(0, (-1, num_rows))[:, siblings.first : siblings.end, :, :num_unused] = float("-inf")
    bias_LK = packed.bias(block.block, prefix_slots, form.window, scores.dtype)
    scores.unflatten(1, (-1, len(bias_LK)))[..., -bias_LK.shape[1] :].add_(bias_LK)
    return scores.softmax(-1), slope


def _scaled_product(
    left: torch.Tensor, right: torch.Tensor, form: AttentionForm, *, out: torch.Tensor | None = None
) -> torch.Tensor:
    """Batched product with the scale of the scores, in one call."""
    unused = left.new_empty((1, 1, 1))
    return torch.baddbmm(unused, left, right, beta=0, alpha=form.scaling, out=out)  # pyright: ignore[reportCallIssue, reportArgumentType] (None is accepted)


def _slots(
    packed: PackedRows, query_TXD: torch.Tensor, key_THD: torch.Tensor, pool_HCD: torch.Tensor | None
) -> HeadSlots:
    key = (query_TXD.shape[1], key_THD.shape[1], 0 if pool_HCD is None else pool_HCD.shape[1])
    if key not in packed.derived:
        num_heads, num_key_heads, pool_length = key
        packed.derived[key] = head_slots(
            packed, num_heads=num_heads, num_key_heads=num_key_heads, pool_length=pool_length
        )
    return packed.derived[key]


def _heads(rows_TXD: torch.Tensor) -> torch.Tensor:
    """[T, X, D] -> [T x X, D]."""
    return rows_TXD.reshape(-1, rows_TXD.shape[-1])


def _with_pool(pool_HCD: torch.Tensor | None, key_THD: torch.Tensor) -> torch.Tensor:
    """[(C + T) x H, D]."""
    return _heads(key_THD if pool_HCD is None else torch.cat((pool_HCD.transpose(0, 1), key_THD)))


def _room(num_slots: int, like: torch.Tensor) -> torch.Tensor:
    """Room for some slots of D, and a last one of zeros for the filling."""
    room = like.new_empty((num_slots + 1, like.shape[-1]))
    room[-1] = 0
    return room


def _of_rows(keys: torch.Tensor, bucket: BucketSlots) -> torch.Tensor:
    """The keys of a bucket's rows, their prefixes' before their own [B, K, D]: cheaper to copy than the scores of two products."""
    num_keys = bucket.num_keys
    return keys.index_select(0, bucket.key_BK).view(-1, num_keys, keys.shape[-1])


def _of_block(slots_SD: torch.Tensor, block: BlockSlots, key_BKD: torch.Tensor) -> torch.Tensor:
    """A block's slots as [B, Q, D]."""
    return slots_SD[block.start : block.end].view(len(key_BKD), -1, slots_SD.shape[-1])


def _seen(key_BKD: torch.Tensor, bucket: BucketSlots, block: BlockSlots) -> torch.Tensor:
    """What a block's queries may see of a row's keys, the prefix's included."""
    return key_BKD[:, : bucket.bucket.prefix_slots + block.block.end]

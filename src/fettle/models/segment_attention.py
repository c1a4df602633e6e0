"""Causal attention of packed rows over prefixes they share, without a mask over all of them.

Rows of like length are gathered into small dense batches. Each query sees the keys of its row's prefix and then the earlier ones of
the row itself (`fettle.models.segment_keys` makes the products with them); scores become probabilities where they lie, by a softmax
that is fp32 inside. Where there are many keys the backward pass computes the probabilities again, so memory grows with the tokens
and not with their square (as in Dao et al. 2022, sec. 3.1).

Legend: T tokens of the packed rows, N rows of a batch, L queries a row (padded), K keys a query may see, C keys of the pool
that prefixes are spans of, H key/value heads, G query heads a key/value head, X = H x G, B = H x N, Q = G x L, D head size; S the
slots of queries (`fettle.models.head_slots`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from fettle.models.head_slots import BlockSlots, BucketSlots, HeadSlots, head_slots
from fettle.models.packing import PackedRows
from fettle.models.segment_keys import KeyGradient, Keys, room

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
        keys, values = Keys(key_THD, pool_key), Keys(value_THD, pool_value)
        query_SD = _heads(query_TXD).index_select(0, slots.query_S)
        out_SD = room(slots.num_queries, query_SD)
        kept, has_backward = [], any(ctx.needs_input_grad)
        for bucket in slots.buckets:
            bucket_keys, bucket_values = keys.of(bucket), values.of(bucket)
            for block in bucket.blocks:
                query_BQD = _of_block(query_SD, bucket, block)
                weights_BQK, _ = _weights(
                    packed, bucket, block, form, bucket_keys.products(query_BQD, block, form.scaling)
                )
                if has_backward and _keeps_weights(bucket, form):
                    kept.append(weights_BQK)
                bucket_values.weighted(weights_BQK, block, out_BQD=_of_block(out_SD, bucket, block))
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
        keys, values = Keys(key_THD, pool_key), Keys(value_THD, pool_value)
        query_SD, grad_SD = (_heads(x).index_select(0, slots.query_S) for x in (query_TXD, grad_TXD))
        if slots.padding_S is not None:
            grad_SD.index_fill_(0, slots.padding_S, 0)
        dquery_SD = room(slots.num_queries, query_SD)
        of_keys, of_values = (KeyGradient(x, pool_key, packed, slots) for x in (key_THD, value_THD))
        kept_in_order = iter(kept)
        for bucket in slots.buckets:
            bucket_keys, bucket_values = keys.of(bucket), values.of(bucket)
            for block in bucket.blocks:
                query_BQD, grad_BQD = (_of_block(x, bucket, block) for x in (query_SD, grad_SD))
                if _keeps_weights(bucket, form):
                    weights_BQK, slope = next(kept_in_order), None
                else:
                    weights_BQK, slope = _weights(
                        packed, bucket, block, form, bucket_keys.products(query_BQD, block, form.scaling)
                    )
                dweights_BQK = bucket_values.products(grad_BQD, block)
                of_values.add(bucket, block, weights_BQK, grad_BQD)
                # What autograd itself calls for a softmax: one pass that is fp32 inside.
                dscores_BQK = torch.ops.aten._softmax_backward_data.out(
                    dweights_BQK, weights_BQK, -1, weights_BQK.dtype, grad_input=dweights_BQK
                )
                if slope is not None:
                    dscores_BQK.mul_(slope)
                bucket_keys.weighted(dscores_BQK, block, form.scaling, out_BQD=_of_block(dquery_SD, bucket, block))
                of_keys.add(bucket, block, dscores_BQK, query_BQD, form.scaling)
        grad_query = dquery_SD.index_select(0, slots.slot_TX).view(query_TXD.shape)
        (grad_key, grad_pool_key), (grad_value, grad_pool_value) = of_keys.gathered(), of_values.gathered()
        return grad_query, grad_key, grad_value, grad_pool_key, grad_pool_value, None, None


def _keeps_weights(bucket: BucketSlots, form: AttentionForm) -> bool:
    return form.softcap is None and bucket.bucket.prefix_slots + bucket.bucket.length <= _MOST_KEYS_KEPT


def _weights(
    packed: PackedRows, bucket: BucketSlots, block: BlockSlots, form: AttentionForm, scores: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Weights [B, Q, K] of a block's queries from its scores, which are used up, and the derivative of the soft-capping."""
    slope = soft_capped(scores, form.softcap)
    num_rows, prefix_slots = bucket.bucket.num_rows, bucket.bucket.prefix_slots
    for siblings in bucket.bucket.siblings:
        if num_unused := prefix_slots - siblings.prefix.length:
            scores.unflatten(0, (-1, num_rows))[:, siblings.first : siblings.end, :, :num_unused] = float("-inf")
    bias_LK = packed.bias(block.block, prefix_slots, form.window, scores.dtype)
    scores.unflatten(1, (-1, len(bias_LK)))[..., -bias_LK.shape[1] :].add_(bias_LK)
    return torch.softmax(scores, -1, out=scores), slope


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


def _of_block(slots_SD: torch.Tensor, bucket: BucketSlots, block: BlockSlots) -> torch.Tensor:
    """A block's slots as [B, Q, D]."""
    num_rows = bucket.num_key_heads * bucket.bucket.num_rows
    return slots_SD[block.start : block.end].view(num_rows, -1, slots_SD.shape[-1])

"""Causal attention of packed rows over prefixes they share, without a mask over all of them.

Rows of like length are gathered into small dense batches. Each query sees the keys of its row's prefix, which are laid before those
of the row itself, and the earlier ones of these; the softmax is fp32 inside. Where there are many keys the backward pass computes
the probabilities again, so memory grows with the tokens and not with their square (as in Dao et al. 2022, sec. 3.1).

Legend: T tokens of the packed rows, N rows of a batch, L queries a row (padded), P slots for its prefix, K = P + own keys, C keys
of the pool that prefixes are spans of, H key/value heads, G query heads a key/value head, X = H x G, Q = G x L, D head size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from fettle.models.packing import Block, Bucket, PackedRows, Siblings, Span

_MOST_KEYS_KEPT = 512
"""Probabilities over so many keys are kept for the backward pass: less memory than a layer's other intermediates."""


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


def products(left_HNAB: torch.Tensor, right_HNBC: torch.Tensor) -> torch.Tensor:
    """[H, N, A, B] x [H, N, B, C] -> [H, N, A, C]; one call for all, which `@` would not make of strided tensors."""
    heads, num = left_HNAB.shape[:2]
    return torch.bmm(left_HNAB.flatten(0, 1), right_HNBC.flatten(0, 1)).unflatten(0, (heads, num))


def grouped_queries(query_NLXD: torch.Tensor, num_key_heads: int) -> torch.Tensor:
    """[N, L, X, D] -> [H, N, G, L, D]: query heads that share a key/value head lie one behind the other."""
    num, length, heads, size = query_NLXD.shape
    split = query_NLXD.view(num, length, num_key_heads, heads // num_key_heads, size)
    return split.permute(2, 0, 3, 1, 4).contiguous()


def tokens_first(query_HNGLD: torch.Tensor) -> torch.Tensor:
    """[H, N, G, L, D] -> [N, L, X, D], what `grouped_queries` undoes."""
    heads, num, groups, length, size = query_HNGLD.shape
    return query_HNGLD.permute(1, 3, 0, 2, 4).reshape(num, length, heads * groups, size)


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
        out_TXD = _empty_like(query_TXD, packed)
        kept, has_backward = [], any(ctx.needs_input_grad)
        for bucket in packed.buckets:
            query = grouped_queries(bucket.gather(query_TXD), key_THD.shape[1]).mul_(form.scaling)
            key, value = _joined_keys(pool_key, key_THD, bucket), _joined_keys(pool_value, value_THD, bucket)
            out = torch.empty_like(query)
            for block in bucket.blocks:
                weights, _ = _block_weights(packed, bucket, block, form, _joined(query, block), key)
                if has_backward and _keeps_weights(bucket, form):
                    kept.append(weights)
                values = products(weights, _seen(value, bucket, block))
                _part(out, block).copy_(values.view_as(_part(out, block)))
            bucket.scatter(tokens_first(out), out_TXD)
        ctx.save_for_backward(query_TXD, key_THD, value_THD, pool_key, pool_value, *kept)
        ctx.packed, ctx.form = packed, form
        return out_TXD

    @staticmethod
    def backward(ctx: Any, grad_TXD: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Gradients of all tensors.

        With S = Q K', W = softmax(S) and out = W V: dV = W' dout, dW = dout V', dS = W * (dW - sum(dW * W)), dQ = dS K, dK = dS' Q.
        """
        query_TXD, key_THD, value_THD, pool_key, pool_value, *kept = ctx.saved_tensors
        packed, form, num_heads = ctx.packed, ctx.form, key_THD.shape[1]
        kept_in_order = iter(kept)
        grad_query, grad_key, grad_value = (_empty_like(x, packed) for x in (query_TXD, key_THD, value_THD))
        grad_pool_key, grad_pool_value = (
            _pool_gradient(pool_key, key_THD, packed),
            _pool_gradient(pool_value, value_THD, packed),
        )
        for bucket in packed.buckets:
            query = grouped_queries(bucket.gather(query_TXD), num_heads).mul_(form.scaling)
            key, value = _joined_keys(pool_key, key_THD, bucket), _joined_keys(pool_value, value_THD, bucket)
            grad_out = grouped_queries(bucket.gather_real(grad_TXD), num_heads)
            dquery = torch.empty_like(query)
            dkey, dvalue = torch.zeros_like(key, dtype=torch.float32), torch.zeros_like(value, dtype=torch.float32)
            for block in bucket.blocks:
                asked, grad = _joined(query, block), _joined(grad_out, block)
                if _keeps_weights(bucket, form):
                    weights, slope = next(kept_in_order), None
                else:
                    weights, slope = _block_weights(packed, bucket, block, form, asked, key)
                dscores = _through_softmax(products(grad, _seen(value, bucket, block).transpose(2, 3)), weights)
                if slope is not None:
                    dscores.mul_(slope)
                dasked = products(dscores, _seen(key, bucket, block))
                _part(dquery, block).copy_(dasked.view_as(_part(dquery, block)))
                _seen(dkey, bucket, block).add_(products(dscores.transpose(2, 3), asked))
                _seen(dvalue, bucket, block).add_(products(weights.transpose(2, 3), grad))
            bucket.scatter(tokens_first(dquery.mul_(form.scaling)), grad_query)
            for of_all, grad_own, grad_pool in ((dkey, grad_key, grad_pool_key), (dvalue, grad_value, grad_pool_value)):
                own_HNLD = of_all[:, :, bucket.prefix_slots :].to(grad_own.dtype)
                bucket.scatter(own_HNLD.permute(1, 2, 0, 3), grad_own)
                for siblings, of_span, place in _prefix_spans(bucket):
                    of_rows_HNSD = of_all[:, siblings.first : siblings.end, place : place + of_span.length]
                    grad_pool[:, of_span.start : of_span.end].add_(of_rows_HNSD.sum(1))
        if pool_key is not None:
            grad_of_pool = (grad_pool_key.to(key_THD.dtype), grad_pool_value.to(value_THD.dtype))
            return grad_query, grad_key, grad_value, *grad_of_pool, None, None
        for grad_own, grad_pool in ((grad_key, grad_pool_key), (grad_value, grad_pool_value)):
            grad_own[: grad_pool.shape[1]] += grad_pool.transpose(0, 1)
        return grad_query, grad_key, grad_value, None, None, None, None


def _keeps_weights(bucket: Bucket, form: AttentionForm) -> bool:
    return form.softcap is None and bucket.prefix_slots + bucket.length <= _MOST_KEYS_KEPT


def _block_weights(
    packed: PackedRows,
    bucket: Bucket,
    block: Block,
    form: AttentionForm,
    query_HNQD: torch.Tensor,
    key_HNKD: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Weights [H, N, Q, K] of a block's queries, and the derivative of the soft-capping."""
    scores = products(query_HNQD, _seen(key_HNKD, bucket, block).transpose(2, 3))
    slope = soft_capped(scores, form.softcap)
    for siblings in bucket.siblings:
        if num_unused := bucket.prefix_slots - siblings.prefix.length:
            scores[:, siblings.first : siblings.end, :, :num_unused] = float("-inf")
    bias_LK = packed.bias(block, bucket.prefix_slots, form.window, scores.dtype)
    scores.unflatten(2, (-1, block.end - block.start))[..., -bias_LK.shape[1] :].add_(bias_LK)
    return scores.softmax(-1), slope


def _through_softmax(gradients: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Gradients of the scores from those of the weights, in one pass that is fp32 inside."""
    # What autograd itself calls for a softmax.
    return torch.ops.aten._softmax_backward_data(gradients, weights, -1, weights.dtype)


def _joined_keys(pool_HCD: torch.Tensor | None, key_THD: torch.Tensor, bucket: Bucket) -> torch.Tensor:
    """The prefix's keys before those of each row [H, N, K, D]: cheaper to copy than the scores of two products."""
    own_NLHD = bucket.gather(key_THD)
    own_HNLD = own_NLHD.permute(2, 0, 1, 3)
    if not bucket.prefix_slots:
        return own_HNLD.contiguous()
    pool_HCD = key_THD.transpose(0, 1) if pool_HCD is None else pool_HCD
    heads, num, length, size = own_HNLD.shape
    all_HNKD = own_NLHD.new_empty((heads, num, bucket.prefix_slots + length, size))
    for siblings in bucket.siblings:
        all_HNKD[:, siblings.first : siblings.end, : bucket.prefix_slots - siblings.prefix.length] = 0
    for siblings, span, place in _prefix_spans(bucket):
        of_rows_HNSD = all_HNKD[:, siblings.first : siblings.end, place : place + span.length]
        of_rows_HNSD.copy_(pool_HCD[:, None, span.start : span.end])
    all_HNKD[:, :, bucket.prefix_slots :] = own_HNLD
    return all_HNKD


def _prefix_spans(bucket: Bucket) -> Iterator[tuple[Siblings, Span, int]]:
    """For rows that share a prefix, each of its spans in the pool and the place of its first key among a row's keys."""
    for siblings in bucket.siblings:
        place = bucket.prefix_slots - siblings.prefix.length
        for span in siblings.prefix.spans:
            yield siblings, span, place
            place += span.length


def _seen(key_HNKD: torch.Tensor, bucket: Bucket, block: Block) -> torch.Tensor:
    """What a block's queries may see of a row's keys, the prefix's included."""
    return key_HNKD[:, :, : bucket.prefix_slots + block.end]


def _part(query_HNGLD: torch.Tensor, block: Block) -> torch.Tensor:
    return query_HNGLD[:, :, :, block.start : block.end]


def _joined(query_HNGLD: torch.Tensor, block: Block) -> torch.Tensor:
    """A block of [H, N, G, L, D] as [H, N, Q, D]."""
    heads, num, _, _, size = query_HNGLD.shape
    return _part(query_HNGLD, block).reshape(heads, num, -1, size).contiguous()


def _empty_like(rows_TXD: torch.Tensor, packed: PackedRows) -> torch.Tensor:
    """Room for one value a token; the filling, which no bucket writes, is zero."""
    empty = torch.empty_like(rows_TXD, memory_format=torch.contiguous_format)
    empty[packed.num_tokens :] = 0
    return empty


def _pool_gradient(pool_HCD: torch.Tensor | None, key_THD: torch.Tensor, packed: PackedRows) -> torch.Tensor:
    """Room for what comes back to a pool, or to as much of the packed row as prefixes are of; fp32, zero."""
    if pool_HCD is not None:
        return torch.zeros_like(pool_HCD, dtype=torch.float32)
    return key_THD.new_zeros((key_THD.shape[1], packed.num_prefix_tokens, key_THD.shape[2]), dtype=torch.float32)

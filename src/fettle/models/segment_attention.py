"""Causal attention of packed rows over a prefix they share, without a mask over all of them.

Rows of like length are gathered into small dense batches. Each query sees the prefix's keys, which are laid before the keys of its
own row, and the earlier ones of those; the softmax is fp32 inside. Where there are many keys the backward pass computes the
probabilities again, so memory grows with the tokens and not with their square (as in Dao et al. 2022, FlashAttention, section 3.1).

Legend: T tokens of the packed rows, N rows of a batch, L queries a row (padded), P prefix keys, K = P + own keys a row, H key/value
heads, G query heads a key/value head, X = H x G, Q = G x L, D head size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from fettle.models.packing import Block, Bucket, PackedRows

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
    """Attention of packed rows over their prefix: queries [T, X, D], keys and values [T, H, D] -> [T, X, D]."""

    @staticmethod
    def forward(
        ctx: Any,
        query_TXD: torch.Tensor,
        key_THD: torch.Tensor,
        value_THD: torch.Tensor,
        prefix_key: torch.Tensor | None,
        prefix_value: torch.Tensor | None,
        packed: PackedRows,
        form: AttentionForm,
    ) -> torch.Tensor:
        """See the class; the prefix's keys and values are [H, P, D]."""
        out_TXD = _empty_like(query_TXD, packed)
        kept, has_backward = [], any(ctx.needs_input_grad)
        for bucket in packed.buckets:
            query = grouped_queries(bucket.gather(query_TXD), key_THD.shape[1]).mul_(form.scaling)
            key, value = _after(prefix_key, bucket.gather(key_THD)), _after(prefix_value, bucket.gather(value_THD))
            out = torch.empty_like(query)
            for block in bucket.blocks:
                weights, _ = _block_weights(packed, block, form, _joined(query, block), key)
                if has_backward and _keeps_weights(packed, bucket, form):
                    kept.append(weights)
                values = products(weights, _seen(value, packed, block))
                _part(out, block).copy_(values.view_as(_part(out, block)))
            bucket.scatter(tokens_first(out), out_TXD)
        ctx.save_for_backward(query_TXD, key_THD, value_THD, prefix_key, prefix_value, *kept)
        ctx.packed, ctx.form = packed, form
        return out_TXD

    @staticmethod
    def backward(ctx: Any, grad_TXD: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Gradients of all tensors.

        With S = Q K', W = softmax(S) and out = W V: dV = W' dout, dW = dout V', dS = W * (dW - sum(dW * W)), dQ = dS K, dK = dS' Q.
        """
        query_TXD, key_THD, value_THD, prefix_key, prefix_value, *kept = ctx.saved_tensors
        packed, form, num_heads = ctx.packed, ctx.form, key_THD.shape[1]
        kept_in_order = iter(kept)
        grad_query, grad_key, grad_value = (_empty_like(x, packed) for x in (query_TXD, key_THD, value_THD))
        grad_prefix_key, grad_prefix_value = _zeros_fp32(prefix_key), _zeros_fp32(prefix_value)
        for bucket in packed.buckets:
            query = grouped_queries(bucket.gather(query_TXD), num_heads).mul_(form.scaling)
            key, value = _after(prefix_key, bucket.gather(key_THD)), _after(prefix_value, bucket.gather(value_THD))
            grad_out = grouped_queries(bucket.gather_real(grad_TXD), num_heads)
            dquery = torch.empty_like(query)
            dkey, dvalue = torch.zeros_like(key, dtype=torch.float32), torch.zeros_like(value, dtype=torch.float32)
            for block in bucket.blocks:
                asked, grad = _joined(query, block), _joined(grad_out, block)
                if _keeps_weights(packed, bucket, form):
                    weights, slope = next(kept_in_order), None
                else:
                    weights, slope = _block_weights(packed, block, form, asked, key)
                dscores = _through_softmax(products(grad, _seen(value, packed, block).transpose(2, 3)), weights)
                if slope is not None:
                    dscores.mul_(slope)
                dasked = products(dscores, _seen(key, packed, block))
                _part(dquery, block).copy_(dasked.view_as(_part(dquery, block)))
                _seen(dkey, packed, block).add_(products(dscores.transpose(2, 3), asked))
                _seen(dvalue, packed, block).add_(products(weights.transpose(2, 3), grad))
            bucket.scatter(tokens_first(dquery.mul_(form.scaling)), grad_query)
            for of_all, grad_own, grad_prefix in (
                (dkey, grad_key, grad_prefix_key),
                (dvalue, grad_value, grad_prefix_value),
            ):
                bucket.scatter(of_all[:, :, packed.prefix_length :].to(grad_own.dtype).permute(1, 2, 0, 3), grad_own)
                if grad_prefix is not None:
                    grad_prefix.add_(of_all[:, :, : packed.prefix_length].sum(1))
        grad_of_prefix = (_cast(grad_prefix_key, key_THD), _cast(grad_prefix_value, value_THD))
        return grad_query, grad_key, grad_value, *grad_of_prefix, None, None


def _keeps_weights(packed: PackedRows, bucket: Bucket, form: AttentionForm) -> bool:
    return form.softcap is None and packed.prefix_length + bucket.length <= _MOST_KEYS_KEPT


def _block_weights(
    packed: PackedRows, block: Block, form: AttentionForm, query_HNQD: torch.Tensor, key_HNKD: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Weights [H, N, Q, K] of a block's queries, and the derivative of the soft-capping."""
    scores = products(query_HNQD, _seen(key_HNKD, packed, block).transpose(2, 3))
    slope = soft_capped(scores, form.softcap)
    bias_LK = packed.bias(block, form.window, scores.dtype)
    scores.unflatten(2, (-1, block.end - block.start))[..., -bias_LK.shape[1] :].add_(bias_LK)
    return scores.softmax(-1), slope


def _through_softmax(gradients: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Gradients of the scores from those of the weights, in one pass that is fp32 inside."""
    # What autograd itself calls for a softmax.
    return torch.ops.aten._softmax_backward_data(gradients, weights, -1, weights.dtype)


def _after(prefix_HPD: torch.Tensor | None, own_NLHD: torch.Tensor) -> torch.Tensor:
    """The prefix's keys before those of each row [H, N, K, D]: cheaper to copy than the scores of two products."""
    own_HNLD = own_NLHD.permute(2, 0, 1, 3)
    if prefix_HPD is None:
        return own_HNLD.contiguous()
    heads, num, length, size = own_HNLD.shape
    num_prefix = prefix_HPD.shape[1]
    all_HNKD = own_NLHD.new_empty((heads, num, num_prefix + length, size))
    all_HNKD[:, :, :num_prefix] = prefix_HPD[:, None]
    all_HNKD[:, :, num_prefix:] = own_HNLD
    return all_HNKD


def _seen(key_HNKD: torch.Tensor, packed: PackedRows, block: Block) -> torch.Tensor:
    """What a block's queries may see of a row's keys, the prefix's included."""
    return key_HNKD[:, :, : packed.prefix_length + block.end]


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


def _zeros_fp32(tensor: torch.Tensor | None) -> torch.Tensor | None:
    return None if tensor is None else torch.zeros_like(tensor, dtype=torch.float32)


def _cast(tensor: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor | None:
    return None if tensor is None else tensor.to(like.dtype)

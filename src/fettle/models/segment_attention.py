"""Causal attention of packed rows over a prefix they share, without a mask over all of them.

Rows of like length are gathered into small dense batches. Each query sees the prefix's keys, which exist once, and the earlier
keys of its own row; one softmax in fp32 spans both. The backward pass computes the probabilities again, so memory grows with the
tokens and not with their square (as in Dao et al. 2022, FlashAttention, section 3.1).

Legend: T tokens of the packed rows, N rows of a batch, L queries a row (padded), S own keys, P prefix keys, H key/value heads,
G query heads a key/value head, X = H x G, Q = G x L, R = N x Q, D head size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from fettle.models.packing import Block, PackedRows


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionForm:
    """How one layer attends."""

    scaling: float
    """Factor of the scores."""
    window: int | None = None
    """Tokens that a query sees, itself included; None: all before it."""
    softcap: float | None = None
    """Scores are squeezed between plus and minus this (Gemma 2)."""


@dataclass(frozen=True, slots=True)
class OverKeys:
    """One number for each query and key, the prefix's keys before its own ones."""

    all_HNQK: torch.Tensor
    num_prefix: int

    @property
    def own(self) -> torch.Tensor:
        """Those of a row's own keys [H, N, Q, S]."""
        return self.all_HNQK[..., self.num_prefix :]

    @property
    def prefix_of_all(self) -> torch.Tensor:
        """Those of the prefix's keys, the queries of all rows being one axis [H, R, P]."""
        prefix_HNQP = self.all_HNQK[..., : self.num_prefix]
        return prefix_HNQP.reshape(prefix_HNQP.shape[0], -1, self.num_prefix)


def attention_scores(query_HNQD: torch.Tensor, key_HNSD: torch.Tensor, prefix_key_HPD: torch.Tensor | None) -> OverKeys:
    """Products of contiguous queries with own and prefix keys; with values for keys, those of the backward pass."""
    heads, num, queries, _ = query_HNQD.shape
    num_prefix = 0 if prefix_key_HPD is None else prefix_key_HPD.shape[1]
    scores_HNQK = query_HNQD.new_empty((heads, num, queries, num_prefix + key_HNSD.shape[2]))
    scores_HNQK[..., num_prefix:] = _products(query_HNQD, key_HNSD.transpose(2, 3))
    if prefix_key_HPD is not None:
        products_HRP = torch.bmm(query_HNQD.view(heads, num * queries, -1), prefix_key_HPD.transpose(1, 2))
        scores_HNQK[..., :num_prefix] = products_HRP.view(heads, num, queries, num_prefix)
    return OverKeys(scores_HNQK, num_prefix)


def attention_weights(scores: OverKeys, bias_NLS: torch.Tensor, prefix_bias_NLP: torch.Tensor | None) -> OverKeys:
    """Softmax of scores, which are overwritten; inside, it is formed in fp32.

    Args:
        scores: Products of queries and keys, soft-capped where the model does that.
        bias_NLS: 0 where a query sees an own key, minus infinity elsewhere, for each query head alike; N may be 1.
        prefix_bias_NLP: The same for the prefix's keys; None: all of them are seen.
    """
    num_queries, num_prefix = bias_NLS.shape[1], scores.num_prefix
    scores_HNGLK = scores.all_HNQK.unflatten(2, (-1, num_queries))
    scores_HNGLK[..., num_prefix:].add_(bias_NLS[:, None])
    if prefix_bias_NLP is not None:
        scores_HNGLK[..., :num_prefix].add_(prefix_bias_NLP[:, None])
    return OverKeys(scores.all_HNQK.softmax(-1), num_prefix)


def weighted_values(weights: OverKeys, value_HNSD: torch.Tensor, prefix_value_HPD: torch.Tensor | None) -> torch.Tensor:
    """Values averaged with weights [H, N, Q, D]; with keys for values, the gradient of the queries."""
    values_HNQD = _products(weights.own, value_HNSD)
    if prefix_value_HPD is not None:
        heads, _, _, size = values_HNQD.shape
        values_HNQD.view(heads, -1, size).baddbmm_(weights.prefix_of_all, prefix_value_HPD)
    return values_HNQD


def soft_capped(scores: OverKeys, cap: float | None) -> torch.Tensor | None:
    """Squeeze scores in place; the derivative that this has, None where nothing is to be done."""
    if cap is None:
        return None
    squeezed = scores.all_HNQK.div_(cap).tanh_()
    slope = 1.0 - squeezed.square()
    squeezed.mul_(cap)
    return slope


def grouped_queries(query_NLXD: torch.Tensor, num_key_heads: int) -> torch.Tensor:
    """[N, L, X, D] -> [H, N, G, L, D]: query heads that share a key/value head lie one behind the other."""
    num, length, heads, size = query_NLXD.shape
    split = query_NLXD.view(num, length, num_key_heads, heads // num_key_heads, size)
    return split.permute(2, 0, 3, 1, 4).contiguous()


def heads_first(key_NLHD: torch.Tensor) -> torch.Tensor:
    """[N, L, H, D] -> [H, N, L, D]."""
    return key_NLHD.permute(2, 0, 1, 3).contiguous()


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
        for bucket in packed.buckets:
            query = grouped_queries(bucket.gather(query_TXD), key_THD.shape[1]).mul_(form.scaling)
            key, value = heads_first(bucket.gather(key_THD)), heads_first(bucket.gather(value_THD))
            out = torch.empty_like(query)
            for block in bucket.blocks:
                weights, _ = _block_weights(packed, block, form, query, key, prefix_key)
                values = weighted_values(weights, value[:, :, : block.end], prefix_value)
                _part(out, block).copy_(values.view_as(_part(out, block)))
            bucket.scatter(tokens_first(out), out_TXD)
        ctx.save_for_backward(query_TXD, key_THD, value_THD, prefix_key, prefix_value)
        ctx.packed, ctx.form = packed, form
        return out_TXD

    @staticmethod
    def backward(ctx: Any, grad_TXD: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Gradients of all tensors.

        With S = Q K', W = softmax(S) and out = W V: dV = W' dout, dW = dout V', dS = W * (dW - sum(dW * W)), dQ = dS K, dK = dS' Q.
        """
        query_TXD, key_THD, value_THD, prefix_key, prefix_value = ctx.saved_tensors
        packed, form, num_heads = ctx.packed, ctx.form, key_THD.shape[1]
        grad_query, grad_key, grad_value = (_empty_like(x, packed) for x in (query_TXD, key_THD, value_THD))
        grad_prefix_key, grad_prefix_value = _zeros_fp32(prefix_key), _zeros_fp32(prefix_value)
        for bucket in packed.buckets:
            query = grouped_queries(bucket.gather(query_TXD), num_heads).mul_(form.scaling)
            key, value = heads_first(bucket.gather(key_THD)), heads_first(bucket.gather(value_THD))
            grad_out = grouped_queries(bucket.gather_real(grad_TXD), num_heads)
            dquery = torch.empty_like(query)
            dkey, dvalue = torch.zeros_like(key, dtype=torch.float32), torch.zeros_like(value, dtype=torch.float32)
            for block in bucket.blocks:
                own_key, own_value = key[:, :, : block.end], value[:, :, : block.end]
                weights, slope = _block_weights(packed, block, form, query, key, prefix_key)
                asked, grad = _joined(query, block), _joined(grad_out, block)
                dscores = _through_softmax(attention_scores(grad, own_value, prefix_value), weights)
                if slope is not None:
                    dscores.all_HNQK.mul_(slope)
                dasked = weighted_values(dscores, own_key, prefix_key)
                _part(dquery, block).copy_(dasked.view_as(_part(dquery, block)))
                dkey[:, :, : block.end] += _products(dscores.own.transpose(2, 3), asked)
                dvalue[:, :, : block.end] += _products(weights.own.transpose(2, 3), grad)
                if grad_prefix_key is not None and grad_prefix_value is not None:
                    asked_HRD, grad_HRD = asked.flatten(1, 2), grad.flatten(1, 2)
                    grad_prefix_key += torch.bmm(dscores.prefix_of_all.transpose(1, 2), asked_HRD)
                    grad_prefix_value += torch.bmm(weights.prefix_of_all.transpose(1, 2), grad_HRD)
            bucket.scatter(tokens_first(dquery.mul_(form.scaling)), grad_query)
            bucket.scatter(tokens_first(dkey.to(key.dtype)[:, :, None]), grad_key)
            bucket.scatter(tokens_first(dvalue.to(value.dtype)[:, :, None]), grad_value)
        return (
            grad_query,
            grad_key,
            grad_value,
            _cast(grad_prefix_key, key_THD),
            _cast(grad_prefix_value, key_THD),
            None,
            None,
        )


def _block_weights(
    packed: PackedRows,
    block: Block,
    form: AttentionForm,
    query_HNGLD: torch.Tensor,
    key_HNLD: torch.Tensor,
    prefix_key_HPD: torch.Tensor | None,
) -> tuple[OverKeys, torch.Tensor | None]:
    """Weights of a block's queries, and the derivative of the soft-capping."""
    scores = attention_scores(_joined(query_HNGLD, block), key_HNLD[:, :, : block.end], prefix_key_HPD)
    slope = soft_capped(scores, form.softcap)
    bias = packed.bias(block, form.window, query_HNGLD.dtype)
    prefix_bias = packed.prefix_bias(block, form.window, query_HNGLD.dtype)
    return attention_weights(scores, bias, prefix_bias), slope


def _through_softmax(gradients: OverKeys, weights: OverKeys) -> OverKeys:
    """Gradients of the scores from those of the weights, in one pass that is fp32 inside."""
    # What autograd itself calls for a softmax.
    found = torch.ops.aten._softmax_backward_data(gradients.all_HNQK, weights.all_HNQK, -1, weights.all_HNQK.dtype)
    return OverKeys(found, weights.num_prefix)


def _part(query_HNGLD: torch.Tensor, block: Block) -> torch.Tensor:
    return query_HNGLD[:, :, :, block.start : block.end]


def _joined(query_HNGLD: torch.Tensor, block: Block) -> torch.Tensor:
    """A block of [H, N, G, L, D] as [H, N, Q, D]."""
    heads, num, _, _, size = query_HNGLD.shape
    return _part(query_HNGLD, block).reshape(heads, num, -1, size).contiguous()


def _products(left_HNAB: torch.Tensor, right_HNBC: torch.Tensor) -> torch.Tensor:
    """[H, N, A, B] x [H, N, B, C] -> [H, N, A, C]; one call for all, which `@` would not make of strided tensors."""
    heads, num = left_HNAB.shape[:2]
    return torch.bmm(left_HNAB.flatten(0, 1), right_HNBC.flatten(0, 1)).unflatten(0, (heads, num))


def _empty_like(rows_TXD: torch.Tensor, packed: PackedRows) -> torch.Tensor:
    """Room for one value a token; the filling, which no bucket writes, is zero."""
    empty = torch.empty_like(rows_TXD, memory_format=torch.contiguous_format)
    empty[packed.num_tokens :] = 0
    return empty


def _zeros_fp32(tensor: torch.Tensor | None) -> torch.Tensor | None:
    return None if tensor is None else torch.zeros_like(tensor, dtype=torch.float32)


def _cast(tensor: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor | None:
    return None if tensor is None else tensor.to(like.dtype)

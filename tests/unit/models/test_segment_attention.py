"""Attention by segments against its definition, row by row, with prefixes that are kept once and prefixes that are copied."""

from __future__ import annotations

import pytest
import torch

from fettle.models.head_slots import HeadSlots, head_slots
from fettle.models.packing import PackedRows, Prefix, Span, pack_rows
from fettle.models.segment_attention import AttentionForm, SegmentAttention

HEADS, KEY_HEADS, SIZE = 4, 2, 8
CPU = torch.device("cpu")


def spans(*edges: tuple[int, int]) -> Prefix:
    return Prefix.joined(Span(start, end) for start, end in edges)


PLANS = {  # keys of the pool, lengths of the rows, what stands before them, whether some prefix is kept once
    "short-rows-after-a-long-prefix": (0, [100, 5, 16, 1, 9], [Prefix(), *[spans((0, 100))] * 4], True),
    "two-prefixes-side-by-side": (
        0,
        [90, 85, *[7] * 6],
        [Prefix(), Prefix(), *[spans((0, 90))] * 3, *[spans((90, 175))] * 3],
        True,
    ),
    "nested": (0, [60, 50, 4, 9, 3], [Prefix(), spans((0, 60)), *[spans((0, 110))] * 3], True),
    "apart": (0, [40, 30, 50, 2, 8, 4], [Prefix(), Prefix(), Prefix(), *[spans((0, 40), (70, 120))] * 3], True),
    "after-parts-of-a-pool": (150, [9, 12, 4], spans((3, 60), (80, 150)), True),
    "longer-than-a-block": (1300, [130, 135], Prefix.of_length(1300), True),
    "long-rows-after-a-short-prefix": (0, [20, 60, 70, 64], [Prefix(), *[spans((0, 20))] * 3], False),
    "one-row-after-a-prefix": (0, [200, 9], [Prefix(), spans((0, 200))], False),
}
FORMS = {
    "plain": AttentionForm(scaling=0.3),
    "window": AttentionForm(scaling=0.3, window=70),
    "soft-capped": AttentionForm(scaling=0.9, softcap=2.0),
    "window-and-soft-cap": AttentionForm(scaling=0.9, window=11, softcap=2.0),
}


def by_definition(
    query_TXD: torch.Tensor,
    key_THD: torch.Tensor,
    value_THD: torch.Tensor,
    pool: tuple[torch.Tensor, torch.Tensor] | None,
    packed: PackedRows,
    form: AttentionForm,
) -> torch.Tensor:
    """Each row by itself, all its keys beside each other, and a mask."""
    before = (key_THD, value_THD) if pool is None else (pool[0].transpose(0, 1), pool[1].transpose(0, 1))
    rows = []
    for start, length, prefix in zip(packed.starts, packed.lengths, packed.prefixes, strict=True):
        own = slice(start, start + length)
        key_KXD, value_KXD = (
            torch.cat([*(whole[span.start : span.end] for span in prefix.spans), new[own]]).repeat_interleave(
                HEADS // KEY_HEADS, dim=1
            )
            for whole, new in zip(before, (key_THD, value_THD), strict=True)
        )
        scores_XLK = form.scaling * torch.einsum("lxd,kxd->xlk", query_TXD[own], key_KXD)
        if form.softcap is not None:
            scores_XLK = form.softcap * (scores_XLK / form.softcap).tanh()
        distance_LK = torch.arange(prefix.length, prefix.length + length)[:, None] - torch.arange(len(key_KXD))[None]
        hidden_LK = (distance_LK < 0) | (distance_LK >= (form.window or len(key_KXD)))
        weights_XLK = scores_XLK.masked_fill(hidden_LK, float("-inf")).softmax(-1)
        rows.append(torch.einsum("xlk,kxd->lxd", weights_XLK, value_KXD))
    return torch.cat(rows)


def slots_of(packed: PackedRows, pool_length: int) -> HeadSlots:
    return head_slots(packed, num_heads=HEADS, num_key_heads=KEY_HEADS, pool_length=pool_length)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_outputs_and_gradients_are_those_of_the_definition(
    plan: tuple[int, list[int], Prefix | list[Prefix], bool], form: AttentionForm
) -> None:
    pool_length, lengths, after, some_kept_once = plan
    packed = pack_rows([list(range(length)) for length in lengths], after=after, num_heads=HEADS, device=CPU)
    assert any(bucket.num_shared for bucket in slots_of(packed, pool_length).buckets) is some_kept_once

    random = torch.Generator().manual_seed(1)
    num_tokens, num_filled = packed.num_tokens, packed.ids_1T.shape[1]
    inputs = [torch.randn(num_filled, heads, SIZE, generator=random) for heads in (HEADS, KEY_HEADS, KEY_HEADS)]
    if pool_length:
        inputs += [torch.randn(KEY_HEADS, pool_length, SIZE, generator=random) for _ in range(2)]
    leaves = [tensor.requires_grad_() for tensor in inputs]
    query, key, value, *pool = leaves
    gradient = torch.randn(num_tokens, HEADS, SIZE, generator=random)

    expected = by_definition(query, key, value, (pool[0], pool[1]) if pool else None, packed, form)
    expected_gradients = torch.autograd.grad(expected, leaves, gradient)
    out: torch.Tensor = SegmentAttention.apply(query, key, value, *(pool or (None, None)), packed, form)  # pyright: ignore[reportAssignmentType]
    gradients = torch.autograd.grad(out[:num_tokens], leaves, gradient)

    torch.testing.assert_close(out[:num_tokens], expected, rtol=1e-5, atol=1e-5)
    for found, wanted in zip(gradients, expected_gradients, strict=True):
        assert float(wanted.norm()) > 0
        assert float((found - wanted).norm() / wanted.norm()) < 1e-5

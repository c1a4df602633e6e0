"""The plan of a packed forward call: every token in one place, every pair of tokens seen or hidden as causal attention says."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from fettle.models.packing import ALIGNMENT, Block, Prefix, pack_rows

LENGTHS = st.lists(st.integers(1, 90), min_size=1, max_size=12)


def packed(lengths: list[int], *, prefix_length: int = 0):
    rows = [list(range(100 * number, 100 * number + length)) for number, length in enumerate(lengths)]
    return rows, pack_rows(rows, after=Prefix.of_length(prefix_length), num_heads=4, device=torch.device("cpu"))


@given(lengths=LENGTHS)
def test_what_is_gathered_is_scattered_back_to_its_place(lengths: list[int]) -> None:
    rows, plan = packed(lengths)
    assert plan.ids_1T[0, : plan.num_tokens].tolist() == [token for row in rows for token in row]
    source = torch.arange(sum(lengths), dtype=torch.float32).view(-1, 1, 1) + 1
    copy = torch.zeros_like(source)
    for bucket in plan.buckets:
        assert bucket.length % ALIGNMENT == 0
        bucket.scatter(bucket.gather(source), copy)
        num_padding = 0 if bucket.padding_M is None else len(bucket.padding_M)
        assert num_padding == bucket.num_rows * bucket.length - len(bucket.tokens_M.unique())
    assert torch.equal(copy, source)  # each token was in exactly one bucket


@given(lengths=LENGTHS, prefix_length=st.sampled_from([0, 16, 48]))
def test_positions_go_on_after_the_prefix_and_ends_are_the_rows_last_tokens(
    lengths: list[int], prefix_length: int
) -> None:
    rows, plan = packed(lengths, prefix_length=prefix_length)
    positions = plan.positions_1T[0]
    for start, end, row in zip(plan.starts, plan.ends, rows, strict=True):
        assert positions[start : end + 1].tolist() == list(range(prefix_length, prefix_length + len(row)))
        assert int(plan.ids_1T[0, end]) == row[-1]


@given(st.integers(1, 40), st.integers(1, 40), st.one_of(st.none(), st.integers(1, 60)), st.sampled_from([0, 16]))
def test_a_query_sees_what_comes_before_it_inside_its_window(
    start: int, count: int, window: int | None, prefix_length: int
) -> None:
    _, plan = packed([100], prefix_length=prefix_length)
    block = Block(start, start + count)
    bias = plan.bias(block, prefix_length, window, torch.float32)
    num_always_seen = prefix_length + block.end - bias.shape[1]
    assert num_always_seen in (0, prefix_length + start)
    seen = torch.cat([torch.zeros(count, num_always_seen), bias], dim=-1) == 0
    for place in range(count):
        position = prefix_length + start + place
        first = 0 if window is None else max(0, position - window + 1)
        expected = [first <= key <= position for key in range(prefix_length + block.end)]
        assert seen[place].tolist() == expected

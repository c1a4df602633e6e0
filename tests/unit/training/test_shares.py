from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from fettle.models.prefix_tree import prefix_tree
from fettle.training.shares import shares


def drawn_rows(seed: int, count: int = 9) -> list[tuple[int, ...]]:
    random = np.random.default_rng(seed)
    prefixes = [tuple(random.integers(0, 9, length).tolist()) for length in (0, 20, 40)]
    return [
        (*prefixes[random.integers(0, 3)], *random.integers(0, 9, random.integers(1, 30)).tolist())
        for _ in range(count)
    ]


def num_tokens(rows: list[tuple[int, ...]]) -> int:
    """What a share computes where every common token is computed once."""
    seen = {row[:end] for row in rows for end in range(1, len(row))}
    return len(seen) + len(rows)  # the last token of each row is its own


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("num_shares", [1, 2, 3, 4])
def test_every_row_is_in_one_share_and_no_cut_has_a_shorter_longest_one(seed: int, num_shares: int) -> None:
    rows = drawn_rows(seed)
    found = shares(rows, num_shares)
    assert sorted(index for share in found for index in share) == list(range(len(rows)))
    ordered = sorted(rows)
    cuts = combinations(range(1, len(rows)), num_shares - 1)
    best = min(
        max(num_tokens(ordered[start:end]) for start, end in zip((0, *cut), (*cut, len(rows)), strict=True))
        for cut in cuts
    )
    assert max(num_tokens([rows[index] for index in share]) for share in found if share) == best


def test_rows_that_share_most_stay_together() -> None:
    rows = [(number % 2, *range(100), number) for number in range(8)]
    for share in shares(rows, 2):
        tree = prefix_tree([rows[index] for index in share])
        assert tree.shared_lengths == (101,) * 4


def test_more_shares_than_rows_leave_some_empty() -> None:
    assert sorted(map(len, shares([(1, 2), (3, 4)], 4))) == [0, 0, 1, 1]


def test_the_cut_is_the_same_whatever_the_order_of_equal_rows() -> None:
    assert shares([(1, 2)] * 4, 2) == shares([(1, 2)] * 4, 2)
    assert sorted(index for share in shares([(1, 2)] * 4, 2) for index in share) == [0, 1, 2, 3]

"""A batch divided among processes, so that rows that begin alike stay together and all have about as much to do.

Pure index arithmetic. In the order of their tokens, rows that share a prefix are neighbours; the shares are stretches of that
order. What rows on both sides of a cut share is computed on both.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from fettle.models.prefix_tree import common_length


def shares(rows: Sequence[Sequence[int]], num_shares: int) -> tuple[tuple[int, ...], ...]:
    """The rows, by their index, in `num_shares` shares; the longest has as few tokens to compute as any cut allows.

    What neighbours share counts once a share. Some shares are empty where there are fewer rows than shares.

    >>> shares([[1, 1, 1, 5], [2, 2, 2, 6], [1, 1, 1, 7], [2, 2, 2, 8]], 2)
    ((0, 2), (1, 3))
    >>> shares([[1], [2]], 3)
    ((0,), (1,), ())
    """
    order = sorted(range(len(rows)), key=lambda index: (tuple(rows[index]), index))
    lengths = [len(rows[index]) for index in order]
    common = [common_length(rows[left], rows[right]) for left, right in pairwise(order)]
    low, high = max(lengths, default=0), sum(lengths)
    while low < high:
        middle = (low + high) // 2
        if len(_cut(lengths, common, middle)) <= num_shares:
            high = middle
        else:
            low = middle + 1
    starts = _cut(lengths, common, low)
    ends = [*starts[1:], len(rows)]
    parts = [tuple(sorted(order[start:end])) for start, end in zip(starts, ends, strict=True)]
    return tuple(parts) + ((),) * (num_shares - len(parts))


def _cut(lengths: Sequence[int], common: Sequence[int], most: int) -> list[int]:
    """Where stretches begin that each hold at most `most` tokens, as long as possible from the first on."""
    starts: list[int] = []
    num_tokens = 0
    for place, length in enumerate(lengths):
        num_new = length - common[place - 1] if starts else length
        if not starts or num_tokens + num_new > most:
            starts.append(place)
            num_tokens = length
        else:
            num_tokens += num_new
    return starts

"""Which rows are run together: neighbours, as many as stay within a bound on their tokens."""

from __future__ import annotations

from collections.abc import Sequence


def token_groups(lengths: Sequence[int], *, max_tokens: int, max_rows: int | None = None) -> list[range]:
    """Consecutive rows in groups of at most `max_tokens` tokens and `max_rows` rows; one row always fits.

    >>> token_groups([3, 3, 9, 1], max_tokens=6)
    [range(0, 2), range(2, 3), range(3, 4)]
    """
    groups: list[range] = []
    first, tokens = 0, 0
    for row, length in enumerate(lengths):
        is_full = tokens + length > max_tokens or row - first == max_rows
        if row > first and is_full:
            groups.append(range(first, row))
            first, tokens = row, 0
        tokens += length
    return [*groups, range(first, len(lengths))] if lengths else []


def even_groups(count: int, size: int) -> tuple[tuple[int, ...], ...]:
    """The numbers below `count` in groups of `size`; the last may be smaller.

    >>> even_groups(5, 2)
    ((0, 1), (2, 3), (4,))
    """
    return tuple(tuple(range(start, min(start + size, count))) for start in range(0, count, size))

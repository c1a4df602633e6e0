"""Several comparisons at once: p-values that keep their meaning."""

from __future__ import annotations

from collections.abc import Sequence


def level_at_look(number: int, *, level: float = 0.95) -> float:
    """The confidence level of the intervals of the `number`-th result that is read off the same test examples.

    Holm's first step over the results so far: alpha divided by their number, which is what the most striking of them has to pass.
    The first result keeps the whole alpha. Whoever goes on until one result pleases errs more often than alpha, at most
    alpha (1 + 1/2 + ... + 1/n) after n independent results; results on the same examples agree, and make it less.

    Args:
        number: The place of the result among all, from 1.
        level: Of the first one.

    >>> [round(level_at_look(number), 4) for number in (1, 2, 5)]
    [0.95, 0.975, 0.99]
    """
    if number < 1:
        raise ValueError(f"looks are counted from 1, not {number}")
    return 1 - (1 - level) / number


def next_level(level: float, *, first: float = 0.95) -> float:
    """The level of the result that is read off the same examples after one of this level.

    >>> next_level(0.95), round(next_level(0.975), 4)
    (0.975, 0.9833)
    """
    return level_at_look(1 + max(1, round((1 - first) / (1 - level))), level=first)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Holm's step-down adjustment: rejecting where the result is at most alpha errs at all with probability alpha at most.

    Raises:
        ValueError: A p-value lies outside [0, 1].

    Source: Holm, Scand. J. Stat. 6 (1979), 65-70.

    >>> holm([0.01, 0.04, 0.03])
    (0.03, 0.06, 0.06)
    """
    if any(not 0 <= p_value <= 1 for p_value in p_values):
        raise ValueError("a p-value lies outside [0, 1]")
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return tuple(adjusted)

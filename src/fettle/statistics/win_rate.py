"""How often one arm beats the other on the same examples, ties counting as half."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fettle.records import Interval
from fettle.statistics.intervals import TIE, difference_interval


@dataclass(frozen=True, slots=True, kw_only=True)
class WinRate:
    """Wins plus half the ties over all pairs, in [0, 1], with the counts behind it."""

    interval: Interval
    num_wins: int
    num_ties: int
    num_losses: int


def win_rate(
    challenger: Sequence[float], baseline: Sequence[float], clusters: Sequence[int], *, level: float = 0.95
) -> WinRate:
    """How often `challenger` scores higher than `baseline`, ties as half.

    A win rate is (1 + mean) / 2 of wins (+1), ties (0) and losses (-1), and so are its limits: `difference_interval` of these.
    Swapping the arms mirrors everything around one half.

    Args:
        challenger: One score per example, [n].
        baseline: The other arm's scores on the same examples, [n].
        clusters: The cluster id of each example, [n].
        level: The confidence level.

    Raises:
        ValueError: Lengths differ, or there is no pair.

    >>> result = win_rate([1.0, 1.0, 0.5, 0.0], [0.0, 0.5, 0.5, 0.5], [0, 1, 2, 3])
    >>> result.interval.estimate, result.num_wins, result.num_ties, result.num_losses
    (0.625, 2, 1, 1)
    """
    if len(challenger) != len(baseline):
        raise ValueError(f"{len(challenger)} scores of one arm but {len(baseline)} of the other")
    differences = np.asarray(challenger, dtype=np.float64) - np.asarray(baseline, dtype=np.float64)
    signs = np.where(np.abs(differences) < TIE, 0.0, np.sign(differences))
    of_signs = difference_interval(signs, clusters, level=level)
    return WinRate(
        interval=as_win_rate(of_signs),
        num_wins=int((signs > 0).sum()),
        num_ties=int((signs == 0).sum()),
        num_losses=int((signs < 0).sum()),
    )


def as_win_rate(of_signs: Interval) -> Interval:
    """The interval of a mean of wins (+1), ties (0) and losses (-1) as that of a win rate.

    >>> print(as_win_rate(Interval(estimate=0.2, low=-0.1, high=0.5)))
    0.600 (0.450 to 0.750)
    """
    return dataclasses.replace(
        of_signs, estimate=(1 + of_signs.estimate) / 2, low=(1 + of_signs.low) / 2, high=(1 + of_signs.high) / 2
    )

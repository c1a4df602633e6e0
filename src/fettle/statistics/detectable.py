"""What a test split can show, put together for a reader: scores, win rates, and the rows that 5 and 3 points would take."""

from __future__ import annotations

from collections.abc import Sequence

from fettle.report_records import DetectableDifference, RowsNeeded
from fettle.statistics.power import detectable, num_examples_for

ASSUMED_DECIDED_SHARE = 0.75
"""Share of pairs in which a judge prefers a side. Asked in both orders, judges change sides with the order in about 18 % of pairs,
which count as ties, and call some more themselves. More ties would make the same win rate easier to find."""

DIFFERENCES_TOLD = (0.05, 0.03)


def detectable_difference(
    num_examples: int,
    clusters: Sequence[int],
    *,
    is_binary: bool,
    decided_share: float = ASSUMED_DECIDED_SHARE,
    alpha: float = 0.05,
    power: float = 0.80,
) -> DetectableDifference:
    """The smallest difference in scores and the smallest win rate that the test finds, and the rows that 5 and 3 points need.

    A win rate w is (1 + d) / 2 of the mean d of wins (+1), ties (0) and losses (-1), so a win rate of 55 % is d = 0.10. The
    assumptions about scores and clusters are those of `power.detectable`.

    Args:
        num_examples: Size of the test split; clusters are taken to be of the sizes in `clusters`.
        clusters: The cluster id of each example at hand.
        is_binary: The primary grader's scores are 0 or 1.
        decided_share: Share of pairs that are no ties, in (0, 1].
        alpha: Two-sided error of the first kind.
        power: Probability of finding it, in the right direction.

    Raises:
        ValueError: There are no examples, or an argument lies outside its range.

    >>> result = detectable_difference(200, range(200), is_binary=True)
    >>> round(result.of_scores.smallest_difference, 3), round(result.smallest_win_rate, 3)
    (0.099, 0.585)
    >>> [(rows.difference, rows.num_for_scores, rows.num_for_win_rate) for rows in result.rows_needed]
    [(0.05, 783, 587), (0.03, 2179, 1634)]
    """
    of_scores = detectable(num_examples, clusters, is_binary=is_binary, alpha=alpha, power=power)
    preferences = detectable(
        num_examples, clusters, is_binary=True, discordance=decided_share, alpha=alpha, power=power
    )
    return DetectableDifference(
        of_scores=of_scores,
        smallest_win_rate=(1 + preferences.smallest_difference) / 2,
        rows_needed=tuple(
            RowsNeeded(
                difference=difference,
                num_for_scores=num_examples_for(difference, clusters, is_binary=is_binary, alpha=alpha, power=power),
                num_for_win_rate=num_examples_for(
                    2 * difference, clusters, is_binary=True, discordance=decided_share, alpha=alpha, power=power
                ),
            )
            for difference in DIFFERENCES_TOLD
        ),
    )

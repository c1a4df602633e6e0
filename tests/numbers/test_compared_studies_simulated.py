"""How often two equal models of two studies are told apart: rows belong together in one study, in the other, or in both."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fettle.comparing.arms import arm_pairs
from fettle.comparing.compare import compare_studies
from fettle.comparing.records import Outcome
from fettle.report_records import AnswerRow
from voting import study_report

NUM_STUDIES, NUM_ROWS = 300, 120
CORRELATION = 0.7


def rows_of(scores_n: NDArray[np.float64], clusters_n: NDArray[np.int64]) -> list[AnswerRow]:
    return [
        AnswerRow(
            example_id=f"row-{place}",
            source=f"a.csv:{place}",
            input_text=f"question {place}",
            wanted="yes",
            answers={"tuned": str(score)},
            scores={"tuned": float(score)},
            cluster=int(cluster),
        )
        for place, (score, cluster) in enumerate(zip(scores_n, clusters_n, strict=True))
    ]


def test_equal_models_are_seldom_called_better_whichever_study_knows_what_belongs_together() -> None:
    """Scores of four rows that belong together are copies of one draw with probability 0.7; study A knows of pairs, B of all four.

    At most 2.5 % of studies may be called better; of 300 that is 7.5, with a standard deviation of 2.7: 14 are 2.4 of them more.
    """
    rng = np.random.default_rng(7)
    places_n = np.arange(NUM_ROWS)
    by_first_n, by_second_n = places_n // 2, (places_n + 2) // 4  # pairs (0 1)(2 3), and (0 1)(2 3 4 5)(6 7 8 9)
    true_n = by_second_n
    num_better = num_worse = 0
    for _ in range(NUM_STUDIES):
        of_cluster = rng.random((2, NUM_ROWS)) < 0.6
        own = rng.random((2, NUM_ROWS)) < 0.6
        is_copy_n = rng.random(NUM_ROWS) < CORRELATION
        scores = np.where(is_copy_n, of_cluster[:, true_n], own).astype(np.float64)
        first, second = (
            study_report(rows_of(one, clusters))
            for one, clusters in zip(scores, (by_first_n, by_second_n), strict=True)
        )
        [pair] = arm_pairs(first, second, contenders=["tuned"])
        found = compare_studies(first, second, [pair])
        assert found.num_clusters == len(set(true_n)), "what belongs together in either study does"
        num_better += found.outcome is Outcome.BETTER
        num_worse += found.comparisons[0].comparison.difference.high < 0
    assert num_better <= 14
    assert num_worse <= 14

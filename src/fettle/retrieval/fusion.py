"""What was found by meaning and what was found by words as one ranking.

In each of the two a passage is worth its reciprocal rank, a quarter, and its score between those of the last and the first, three
quarters: ranks alone forget how far the first is ahead of the second. How much the words count depends on the question: the more of
its words the passage has that fits best by words, the more. A number is found by its digits, a paraphrase by its meaning.

Source: Cormack, Clarke and Büttcher 2009, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods" (k of
60, for many rankings); Bruch, Gai and Ingber 2023, "An Analysis of Fusion Functions for Hybrid Retrieval" (scores).
What was tried, on 16 sets of questions: docs/design/022-search.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from fettle.retrieval.records import Ranked

_RANK_OFFSET = 10
"""k of the paper: the smaller, the more the first few ranks count."""
_SCORES_COUNT = 0.75
"""Beside ranks."""
_LEAST_OF_WORDS, _MOST_OF_WORDS = 0.25, 0.75
"""Their weight where the best passage by words has none of the question's words, and where it has all."""
_SMALLEST_SPREAD = 0.1
"""Of the greatest similarity: where all candidates lie closer together, which of them is nearer says little."""


def fuse(nearest: Sequence[Ranked], matching: Sequence[Ranked], share_of_words: float) -> list[Ranked]:
    """All passages of two rankings, the best first, equal ones by key; scores lie in (0, 1], and 1 is first in both.

    A ranking that has not found a passage adds nothing to it.

    Args:
        nearest: By meaning, the best first.
        matching: By words, the best first.
        share_of_words: Of the question's telling words, that the best of `matching` has, from 0 to 1.

    >>> by_meaning, by_words = [Ranked(7, 0.9), Ranked(4, 0.8), Ranked(5, 0.1)], [Ranked(4, 11.0)]
    >>> [(ranked.key, round(ranked.score, 2)) for ranked in fuse(by_meaning, by_words, 1.0)]
    [(4, 0.97), (7, 0.25), (5, 0.05)]
    """
    weight = _LEAST_OF_WORDS + (_MOST_OF_WORDS - _LEAST_OF_WORDS) * share_of_words
    if not matching or not nearest:
        weight = 1.0 if matching else 0.0
    score_by_key: defaultdict[int, float] = defaultdict(float)
    for of_ranking, ranking, scaled in (
        (1 - weight, nearest, _scaled(nearest, _lowest(nearest))),
        (weight, matching, _scaled(matching, 0.0)),
    ):
        for rank, (ranked, score) in enumerate(zip(ranking, scaled, strict=True), start=1):
            by_rank = (1 + _RANK_OFFSET) / (rank + _RANK_OFFSET)
            score_by_key[ranked.key] += of_ranking * (_SCORES_COUNT * score + (1 - _SCORES_COUNT) * by_rank)
    best_first = sorted(score_by_key.items(), key=lambda item: (-item[1], item[0]))
    return [Ranked(key, score) for key, score in best_first]


def _lowest(nearest: Sequence[Ranked]) -> float:
    """The similarity that counts nothing: that of the last candidate, unless it is as near as the first."""
    if not nearest:
        return 0.0
    highest = nearest[0].score
    return min(nearest[-1].score, highest - _SMALLEST_SPREAD * abs(highest))


def _scaled(ranking: Sequence[Ranked], lowest: float) -> Iterable[float]:
    """Scores so that the first has 1 and `lowest` would have 0; all 1 where there is nothing between."""
    spread = ranking[0].score - lowest if ranking else 0.0
    return [(ranked.score - lowest) / spread if spread > 0 else 1.0 for ranked in ranking]

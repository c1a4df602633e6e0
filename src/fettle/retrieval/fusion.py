"""Several rankings of the same passages as one.

Source: Cormack, Clarke and Büttcher 2009, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods".
Their k of 60 was chosen for many rankings; with two, 10 finds more (docs/design/022-search.md).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from fettle.retrieval.records import Ranked

RANK_OFFSET = 10
"""k of the paper: the smaller, the more the first few ranks count."""


def fuse(rankings: Sequence[Sequence[Ranked]]) -> list[Ranked]:
    """All passages of some rankings, those with the highest sum of 1 / (k + rank) first, equal ones by key.

    Ranks count from 1; a ranking that has not found a passage adds nothing to it.

    >>> first, second = [Ranked(7, 0.9), Ranked(4, 0.8)], [Ranked(4, 11.0)]
    >>> [ranked.key for ranked in fuse([first, second])]
    [4, 7]
    """
    score_by_key: defaultdict[int, float] = defaultdict(float)
    for ranking in rankings:
        for rank, ranked in enumerate(ranking, start=1):
            score_by_key[ranked.key] += 1 / (RANK_OFFSET + rank)
    best_first = sorted(score_by_key.items(), key=lambda item: (-item[1], item[0]))
    return [Ranked(key, score) for key, score in best_first]

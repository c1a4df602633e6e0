"""How well a search has found the right documents for one question: recall, reciprocal rank and discounted gain.

A document counts at its best passage, so that one with many passages is neither right nor wrong more often than once. Means over
questions with their intervals are for `fettle.statistics`.

Source: Järvelin and Kekäläinen 2002, "Cumulated gain-based evaluation of IR techniques", with gains of 0 and 1.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from fettle.retrieval.lookup import PassageSet
from fettle.retrieval.records import Found


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchMeasures:
    """What a ranking of documents is worth for one question; all lie in [0, 1]."""

    recall: float
    """Share of the right documents that are among those found."""
    reciprocal_rank: float
    """1 over the rank of the first right document; 0 where none was found."""
    ndcg: float
    """Discounted gain over that of the best ranking possible."""


def documents_of(found: Sequence[Found], right: PassageSet | None = None) -> tuple[str, ...]:
    """The ids of the documents of some passages, each once and at its best passage, the best first.

    Args:
        found: In rank order.
        right: Passages whose documents, all of them, count where one that reads like them was found, since search shows one of
            several copies.
    """
    right = right or PassageSet(())
    return tuple(dict.fromkeys(id_ for one in found for id_ in right.documents_with(one.passage)))


def measure(ranked_ids: Sequence[str], right_ids: Collection[str], *, k: int) -> SearchMeasures:
    """What the first `k` documents of a ranking are worth.

    Args:
        ranked_ids: Documents, the best first, each once (`documents_of`).
        right_ids: Documents that answer the question, at least one.
        k: How many of the ranking count, at least 1.

    Raises:
        ValueError: There is no right document, `k` is less than 1, or a document is ranked twice.

    >>> measure(["b", "a", "c"], {"a"}, k=2)
    SearchMeasures(recall=1.0, reciprocal_rank=0.5, ndcg=0.6309297535714575)
    """
    if not right_ids or k < 1 or len(set(ranked_ids)) < len(ranked_ids):
        raise ValueError("expected a right document, k of at least 1, and every document ranked once")
    right = set(right_ids)
    hits = [rank for rank, document in enumerate(ranked_ids[:k], start=1) if document in right]
    best = sum(1 / math.log2(rank + 1) for rank in range(1, min(len(right), k) + 1))
    return SearchMeasures(
        recall=len(hits) / len(right),
        reciprocal_rank=1 / hits[0] if hits else 0.0,
        ndcg=sum(1 / math.log2(rank + 1) for rank in hits) / best,
    )

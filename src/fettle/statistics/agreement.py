"""Do raters mean the same by their votes, and does a judge agree with people better than chance would have it?

Votes are categories without order (first, tie, second); a vote that is missing is None.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy import special

from fettle.records import Interval
from fettle.statistics.clusters import size_weighted_mean_size
from fettle.statistics.intervals import TIE, student_quantile

SLIGHT_AGREEMENT = 0.20
"""Up to here Landis and Koch (Biometrics 33 (1977), 159-174) call agreement beyond chance slight: too little to rely on."""
MIN_EXAMPLES = 10
"""With fewer independent examples that both voted on, nothing is decided."""
_POWER = 0.80

_Totals = NDArray[np.float64]  # [..., K], sums over examples, from which a coefficient is computed


class JudgeAgreement(StrEnum):
    """Whether a judge's votes say anything about people's."""

    BETTER_THAN_CHANCE = "better than chance"
    NO_BETTER_THAN_CHANCE = "no better than chance"
    CANNOT_TELL = "cannot tell yet"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementWithPeople:
    """How far a judge agrees with people beyond chance, and what follows; only `BETTER_THAN_CHANCE` makes a judge usable."""

    decision: JudgeAgreement
    kappa: Interval
    """0: as chance would have it; 1: always."""
    share_agreed: float
    """Share of examples on which it votes as a person does, chance included, in [0, 1]."""
    num_examples: int
    """Examples with a vote of the judge and of at least one person."""
    num_more_examples: int | None
    """How many more would probably decide; None where it is decided, or nothing is known of how many."""


def krippendorff_alpha(
    votes: Sequence[Sequence[Hashable | None]], clusters: Sequence[int], *, level: float = 0.95
) -> Interval | None:
    """Krippendorff's alpha for nominal votes by any number of raters, some missing: 1 - observed / expected disagreement.

    1: all agree; 0: as chance would have it; below 0: they disagree by system. Examples with a single vote say nothing and are left
    out. None where no example has two votes, or all votes are of one category: nothing could have differed by chance.

    The interval is a jackknife over whole clusters with one imaginary example more (a cluster of mean size) whose raters vote
    independently, by Student's t at twice the effective number of clusters. Found to cover 92 to 97 % from 20 examples on. A
    percentile bootstrap covers as much where raters differ, and has no width where they happened not to.

    Args:
        votes: The votes on each example, one for each rater in any order, None where there is none, [n] of any lengths.
        clusters: The cluster id of each example, [n].
        level: The confidence level.

    Raises:
        ValueError: Lengths differ.

    Source: Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), section D.

    >>> meg, owen = "0100000010", "1110010000"
    >>> alpha = krippendorff_alpha(list(zip(meg, owen, strict=True)), range(10))
    >>> round(alpha.estimate, 3)
    0.095
    """
    if len(votes) != len(clusters):
        raise ValueError(f"votes on {len(votes)} examples but {len(clusters)} cluster ids")
    paired = [
        ([vote for vote in of_example if vote is not None], cluster)
        for of_example, cluster in zip(votes, clusters, strict=True)
        if sum(vote is not None for vote in of_example) >= 2
    ]
    counts_nC = _counts([given for given, _ in paired])
    if counts_nC.shape[1] < 2:
        return None
    num_votes_n = counts_nC.sum(axis=1)
    disagreement_n = (num_votes_n**2 - (counts_nC**2).sum(axis=1)) / (num_votes_n - 1)
    rows = np.column_stack([disagreement_n, counts_nC])
    expected = rows.sum(axis=0)
    expected[0] = _expected_disagreement(expected[1:])
    return _jackknifed(
        rows,
        [cluster for _, cluster in paired],
        _alpha,
        as_by_chance=expected,
        level=level,
        method="Krippendorff's alpha, cluster jackknife with one imaginary example",
    )


def agreement_with_people(
    judge: Sequence[Hashable | None],
    people: Sequence[Sequence[Hashable | None]],
    clusters: Sequence[int],
    *,
    level: float = 0.95,
) -> AgreementWithPeople | None:
    """Whether the judge votes as people do more often than votes drawn from the two's own shares would.

    Cohen's kappa over the examples on which both voted; where several people did, the judge agrees as far as they vote like it. The
    interval is that of `krippendorff_alpha`. Better than chance: it lies above 0. No better: it lies below slight agreement (0.2).
    Else it cannot be told, as with fewer than 10 independent examples. A judge without any relation to people was found to pass in
    at most 2.5 % of studies.

    Args:
        judge: The judge's vote on each example, None where there is none, [n].
        people: The votes of people on each example, [n] of any lengths.
        clusters: The cluster id of each example, [n].
        level: The confidence level.

    Returns:
        None where there is no example that both voted on.

    Raises:
        ValueError: Lengths differ.

    Source: Cohen, Educational and Psychological Measurement 20 (1960), 37-46, for one person.

    >>> people = [["first"], ["second"], ["tie", "first"], ["second"]] * 10
    >>> result = agreement_with_people(["first", "second", "first", "tie"] * 10, people, range(40))
    >>> result.decision.value, round(result.kappa.estimate, 2), result.share_agreed
    ('better than chance', 0.43, 0.625)
    """
    if not len(judge) == len(people) == len(clusters):
        raise ValueError(f"{len(judge)} judge votes, {len(people)} examples of people, {len(clusters)} cluster ids")
    both = [
        (vote, [given for given in of_people if given is not None], cluster)
        for vote, of_people, cluster in zip(judge, people, clusters, strict=True)
        if vote is not None and any(given is not None for given in of_people)
    ]
    if not both:
        return None
    counts = _counts([[vote] for vote, _, _ in both] + [given for _, given, _ in both])
    judge_nC, people_nC = counts[: len(both)], counts[len(both) :]
    people_nC = people_nC / people_nC.sum(axis=1, keepdims=True)
    rows = np.column_stack([(judge_nC * people_nC).sum(axis=1), np.ones(len(both)), judge_nC, people_nC])
    by_chance = rows.sum(axis=0)
    by_chance[0] = 0.0
    kept_clusters = [cluster for _, _, cluster in both]
    method = "Cohen's kappa, cluster jackknife with one imaginary disagreement"
    kappa = _jackknifed(rows, kept_clusters, _kappa, as_by_chance=by_chance, level=level, method=method)
    decision = _decision(kappa, num_independent=_num_independent(kept_clusters))
    return AgreementWithPeople(
        decision=decision,
        kappa=kappa,
        share_agreed=float(rows[:, 0].mean()),
        num_examples=len(both),
        num_more_examples=_num_more(kappa, len(both)) if decision is JudgeAgreement.CANNOT_TELL else None,
    )


def _decision(kappa: Interval, *, num_independent: float) -> JudgeAgreement:
    if num_independent < MIN_EXAMPLES:
        return JudgeAgreement.CANNOT_TELL
    if kappa.low > 0:
        return JudgeAgreement.BETTER_THAN_CHANCE
    return JudgeAgreement.NO_BETTER_THAN_CHANCE if kappa.high < SLIGHT_AGREEMENT else JudgeAgreement.CANNOT_TELL


def _num_more(kappa: Interval, num_examples: int) -> int | None:
    """How many more examples bring the interval above 0, or below slight agreement, four times in five if kappa is as observed."""
    half_width = (kappa.high - kappa.low) / 2
    if half_width >= 1:
        return None
    gap = max(kappa.estimate, SLIGHT_AGREEMENT - kappa.estimate)
    quantile = float(special.ndtri((1 + kappa.level) / 2))
    shrink_needed = half_width / gap * (quantile + float(special.ndtri(_POWER))) / quantile
    return max(math.ceil(num_examples * (shrink_needed**2 - 1)), MIN_EXAMPLES - num_examples, 1)


def _counts(votes: Sequence[Sequence[Hashable]]) -> NDArray[np.float64]:
    """How many votes of each category each example has, [n, C], categories in the order in which they appear."""
    places: dict[Hashable, int] = {}
    for of_example in votes:
        for vote in of_example:
            places.setdefault(vote, len(places))
    counts = np.zeros((len(votes), len(places)))
    for example, of_example in enumerate(votes):
        for vote in of_example:
            counts[example, places[vote]] += 1
    return counts


def _expected_disagreement(category_counts: _Totals) -> NDArray[np.float64]:
    """Pairs of unequal votes over the number of votes less one, if votes were dealt to examples at random."""
    num_votes = category_counts.sum(axis=-1)
    return (num_votes**2 - (category_counts**2).sum(axis=-1)) / (num_votes - 1)


def _alpha(totals: _Totals) -> NDArray[np.float64]:
    """Alpha from observed disagreement and the count of each category, [..., 1 + C]."""
    return 1 - totals[..., 0] / np.maximum(_expected_disagreement(totals[..., 1:]), TIE)


def _kappa(totals: _Totals) -> NDArray[np.float64]:
    """Kappa from agreement, number of examples, the judge's and people's votes by category, [..., 2 + 2 C]."""
    num_categories = (totals.shape[-1] - 2) // 2
    agreed, num_examples = totals[..., 0], totals[..., 1]
    of_judge, of_people = totals[..., 2 : 2 + num_categories], totals[..., 2 + num_categories :]
    by_chance = (of_judge * of_people).sum(axis=-1) / num_examples**2
    return (agreed / num_examples - by_chance) / np.maximum(1 - by_chance, TIE)


def _jackknifed(
    rows_nK: NDArray[np.float64],
    clusters: Sequence[int],
    coefficient: Callable[[_Totals], NDArray[np.float64]],
    *,
    as_by_chance: _Totals,
    level: float,
    method: str,
) -> Interval:
    """The coefficient of the sums of the rows, and its interval; `as_by_chance` are the sums if all agreement were imaginary."""
    cluster_of_n = np.unique(np.asarray(clusters), return_inverse=True)[1]
    num_clusters = int(cluster_of_n.max()) + 1
    totals = np.zeros((num_clusters + 1, rows_nK.shape[1]))
    np.add.at(totals, cluster_of_n, rows_nK)
    totals[-1] = as_by_chance / num_clusters
    estimate, centre = float(coefficient(rows_nK.sum(axis=0))), float(coefficient(totals.sum(axis=0)))
    if num_clusters == 1:
        return Interval(estimate=estimate, low=-1.0, high=1.0, level=level, method=method)
    without = coefficient(totals.sum(axis=0) - totals)
    error = math.sqrt(float(((without - centre) ** 2).sum()) * num_clusters / (num_clusters + 1))
    half_width = student_quantile(level, 2 * _num_independent(clusters)) * error
    low, high = min(centre - half_width, estimate), max(centre + half_width, estimate)
    return Interval(estimate=estimate, low=max(low, -1.0), high=min(high, 1.0), level=level, method=method)


def _num_independent(clusters: Sequence[int]) -> float:
    """The effective number of clusters."""
    sizes = np.unique(np.asarray(clusters), return_counts=True)[1].astype(np.float64)
    return float(sizes.sum()) / size_weighted_mean_size(sizes)

"""Two contenders on the same examples: every figure of a comparison, from their scores alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from fettle.errors import DataError
from fettle.records import Comparison, Interval
from fettle.statistics.intervals import paired_difference
from fettle.statistics.multiplicity import holm
from fettle.statistics.paired_bootstrap import bootstrap_difference
from fettle.statistics.paired_tests import paired_test
from fettle.statistics.win_rate import win_rate


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredArm:
    """One contender's scores on the test split, in the order of its examples."""

    name: str
    scores: tuple[float | None, ...]
    """In [0, 1]; None: could not be scored."""
    is_binary: bool
    """Every score is 0 or 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnscoredBounds:
    """The paired difference with every unscored answer taken at its worst, for the challenger and for the baseline."""

    against_challenger: Interval
    """Its unscored answers count 0, the baseline's 1."""
    for_challenger: Interval
    """Its unscored answers count 1, the baseline's 0."""


def compare(
    challenger: ScoredArm,
    baseline: ScoredArm,
    clusters: Sequence[int],
    *,
    is_primary: bool,
    seed: int,
    level: float = 0.95,
) -> Comparison:
    """The challenger against the baseline over the pairs in which both sides were scored; the other pairs are counted.

    Args:
        challenger: The arm whose difference and win rate are given.
        baseline: The arm it is compared with, on the same examples.
        clusters: The cluster id of each example.
        is_primary: It is the comparison declared beforehand; `p_value_adjusted` is final only after `with_holm`.
        seed: Of the bootstrap, and of the permutation test where it is not exact.
        level: Of all intervals.

    Raises:
        ValueError: Lengths differ.
        DataError: No pair was scored on both sides.
    """
    if not len(challenger.scores) == len(baseline.scores) == len(clusters):
        raise ValueError("the arms and the cluster ids are not about the same examples")
    pairs = [
        (ours, theirs, cluster)
        for ours, theirs, cluster in zip(challenger.scores, baseline.scores, clusters, strict=True)
        if ours is not None and theirs is not None
    ]
    if not pairs:
        raise DataError(
            f"no test example could be scored for both {challenger.name} and {baseline.name}",
            remedy="where an endpoint failed, run the same command again: failed requests are asked again; their reasons are in "
            "answers/test in the study's folder",
        )
    ours = [pair[0] for pair in pairs]
    theirs = [pair[1] for pair in pairs]
    kept_clusters = [pair[2] for pair in pairs]
    wins = win_rate(ours, theirs, kept_clusters, level=level)
    differences = [our - their for our, their in zip(ours, theirs, strict=True)]
    is_binary = challenger.is_binary and baseline.is_binary
    test = paired_test(differences, kept_clusters, is_binary=is_binary, seed=seed)
    return Comparison(
        challenger=challenger.name,
        baseline=baseline.name,
        is_primary=is_primary,
        num_pairs=len(pairs),
        num_pairs_unscored=len(clusters) - len(pairs),
        difference=paired_difference(ours, theirs, kept_clusters, level=level),
        bootstrap=bootstrap_difference(differences, kept_clusters, seed=seed, level=level),
        win_rate=wins.interval,
        num_wins=wins.num_wins,
        num_ties=wins.num_ties,
        num_losses=wins.num_losses,
        p_value=test.p_value,
        p_value_method=test.method,
        p_value_adjusted=test.p_value,
    )


def num_scored_clusters(challenger: ScoredArm, baseline: ScoredArm, clusters: Sequence[int]) -> int:
    """Number of clusters with at least one example that was scored on both sides.

    >>> arm = ScoredArm(name="a", scores=(1.0, None, 1.0, 0.0), is_binary=True)
    >>> num_scored_clusters(arm, arm, [0, 1, 2, 2])
    2
    """
    scored = zip(challenger.scores, baseline.scores, clusters, strict=True)
    return len({cluster for ours, theirs, cluster in scored if ours is not None and theirs is not None})


def with_holm(comparisons: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """The same comparisons with the p-values of the secondary ones adjusted for each other; the primary one keeps its own."""
    secondary = [comparison for comparison in comparisons if not comparison.is_primary]
    adjusted = iter(holm([comparison.p_value for comparison in secondary]))
    return tuple(
        comparison if comparison.is_primary else dataclasses.replace(comparison, p_value_adjusted=next(adjusted))
        for comparison in comparisons
    )


def unscored_bounds(
    challenger: ScoredArm, baseline: ScoredArm, clusters: Sequence[int], *, level: float = 0.95
) -> UnscoredBounds:
    """What the difference over all examples would be at worst and at best for the challenger.

    Raises:
        ValueError: Lengths differ, or there are no examples.

    >>> arm, other = (ScoredArm(name=name, scores=(1.0, None, 1.0, 0.0), is_binary=True) for name in ("a", "b"))
    >>> bounds = unscored_bounds(arm, other, [0, 1, 2, 3])
    >>> bounds.against_challenger.estimate, bounds.for_challenger.estimate
    (-0.25, 0.25)
    """

    def filled(arm: ScoredArm, value: float) -> list[float]:
        return [value if score is None else score for score in arm.scores]

    return UnscoredBounds(
        against_challenger=paired_difference(filled(challenger, 0.0), filled(baseline, 1.0), clusters, level=level),
        for_challenger=paired_difference(filled(challenger, 1.0), filled(baseline, 0.0), clusters, level=level),
    )

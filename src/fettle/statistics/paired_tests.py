"""Two-sided tests that two arms answered the same examples equally well: exact where that is possible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from fettle.statistics.clusters import cluster_totals
from fettle.statistics.intervals import TIE

MAX_CLUSTERS_ENUMERATED = 16
NUM_RANDOM_FLIPS = 9999
_FLIPS_PER_CHUNK = 2_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedTest:
    """A two-sided p-value in (0, 1] and the test it comes from, in plain words."""

    p_value: float
    method: str


def exact_sign_test(num_wins: int, num_losses: int) -> float:
    """The p-value of wins against losses, ties left out; 1 where there are only ties.

    With wins as the pairs that only the challenger got right this is McNemar's exact test.

    Raises:
        ValueError: A count is negative.

    >>> exact_sign_test(6, 0)
    0.03125
    """
    if num_wins < 0 or num_losses < 0:
        raise ValueError("counts cannot be negative")
    if num_wins + num_losses == 0:
        return 1.0
    return float(stats.binomtest(num_wins, num_wins + num_losses).pvalue)


def sign_flip_test(differences: Sequence[float], clusters: Sequence[int], *, seed: int) -> PairedTest:
    """Is the mean of paired differences further from 0 than when each cluster's sign is decided by a coin?

    Exact over all sign patterns where differences are whole numbers (right or wrong), and for at most 16 clusters that are not
    ties in sum; else 9,999 random patterns and the observed one. With one example in each cluster and whole differences it is
    McNemar's exact test.

    Args:
        differences: Challenger minus baseline, one per example.
        clusters: The cluster id of each example.
        seed: Of the random patterns.

    Raises:
        ValueError: Lengths differ, or there is no difference.

    Source: Phipson and Smyth, Permutation p-values should never be zero, Stat. Appl. Genet. Mol. Biol. 9 (2010), article 39.

    >>> sign_flip_test([0.5, 0.25, 0.125], [0, 1, 2], seed=1).p_value
    0.25
    """
    sums = cluster_totals(differences, clusters).totals
    sums = sums[np.abs(sums) > TIE]
    unit = "examples" if len(set(clusters)) == len(clusters) else "groups of examples"
    if np.all(np.abs(sums - np.round(sums)) < TIE):
        return PairedTest(p_value=_counted(np.round(sums)), method=f"exact sign-flip permutation test over {unit}")
    if len(sums) <= MAX_CLUSTERS_ENUMERATED:
        return PairedTest(p_value=_enumerated(sums), method=f"exact sign-flip permutation test over {unit}")
    return PairedTest(
        p_value=_sampled(sums, seed), method=f"sign-flip permutation test over {unit} ({NUM_RANDOM_FLIPS} draws)"
    )


def _counted(sums_G: NDArray[np.float64]) -> float:
    """The share of all sign patterns of whole numbers with a sum as far from 0, from the distribution of the sum, term by term."""
    total = int(np.abs(sums_G).sum())
    share_S = np.zeros(2 * total + 1)  # of the sums from -total to total
    share_S[total] = 1.0
    for step in np.abs(sums_G).astype(int):
        share_S = (
            np.roll(share_S, step) + np.roll(share_S, -step)
        ) / 2  # nothing has reached the ends before the last term
    is_as_far = np.abs(np.arange(-total, total + 1)) >= abs(int(sums_G.sum()))
    return float(min(1.0, share_S[is_as_far].sum()))


def _enumerated(sums_G: NDArray[np.float64]) -> float:
    flipped = np.zeros(1)
    for cluster_sum in sums_G:
        flipped = np.concatenate([flipped + cluster_sum, flipped - cluster_sum])
    return float((np.abs(flipped) >= abs(sums_G.sum()) - TIE).mean())


def _sampled(sums_G: NDArray[np.float64], seed: int) -> float:
    generator = np.random.default_rng(seed)
    rows_per_chunk = max(1, _FLIPS_PER_CHUNK // len(sums_G))
    observed = abs(sums_G.sum()) - TIE
    num_as_extreme = 0
    for start in range(0, NUM_RANDOM_FLIPS, rows_per_chunk):
        num_rows = min(rows_per_chunk, NUM_RANDOM_FLIPS - start)
        signs = generator.integers(0, 2, size=(num_rows, len(sums_G)), dtype=np.int8) * 2 - 1
        num_as_extreme += int((np.abs(signs @ sums_G) >= observed).sum())
    return (num_as_extreme + 1) / (NUM_RANDOM_FLIPS + 1)


def paired_test(differences: Sequence[float], clusters: Sequence[int], *, is_binary: bool, seed: int) -> PairedTest:
    """The test that fits the data: McNemar's for right-or-wrong scores, a sign-flip test for graded or clustered ones.

    Args:
        differences: Challenger minus baseline, one per example.
        clusters: The cluster id of each example.
        is_binary: Every score was 0 or 1.
        seed: Of the random sign patterns, where they are drawn.

    Raises:
        ValueError: Lengths differ, or there is no difference.

    >>> paired_test([1, 1, 0, -1], [0, 1, 2, 3], is_binary=True, seed=1).method
    'exact McNemar test'
    """
    if is_binary and len(set(clusters)) == len(clusters) == len(differences) > 0:
        num_wins = sum(difference > TIE for difference in differences)
        num_losses = sum(difference < -TIE for difference in differences)
        return PairedTest(p_value=exact_sign_test(num_wins, num_losses), method="exact McNemar test")
    return sign_flip_test(differences, clusters, seed=seed)

"""Prints the tables of docs/design/003-intervals.md: how often intervals hold the truth, and how often equal arms are shipped.

    OMP_NUM_THREADS=1 python benchmarks/coverage.py --studies 2000

Rows are ways a study can lie (groups of examples, their size, the truth), columns are intervals: ours, and those rejected.
Intra-cluster correlation is 0.7 where sizes are equal; where they are not, an example takes the draw of its cluster with the
probability in the column "copying", which is the root of that correlation. The Monte Carlo error of a share near 95 % is 0.5
points at 2,000 studies.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

sys.path.insert(
    0, str(Path(__file__).parents[1] / "tests" / "numbers")
)  # the simulated studies that the tests use as well

from simulated_arms import (
    DOMINATED_SIZES,
    UNEQUAL_SIZES,
    Draw,
    cluster_ids,
    ids_of_sizes,
    two_binary_arms,
    two_graded_arms,
    unequal_binary_arms,
    unequal_graded_arms,
)

from fettle.statistics.intervals import difference_interval, mean_interval
from fettle.statistics.power import detectable

Limits = tuple[float, float]
NUM_RESAMPLES = 499
CLUSTERINGS = [(size, count) for size in (1, 5, 20) for count in (15, 25, 40, 100, 200)]
TRUTHS = [(0.7, 0.7), (0.75, 0.6), (0.9, 0.5), (0.95, 0.9)]


def ours(values: NDArray[np.float64], size: int) -> Limits:
    """The interval that `paired_difference` gives."""
    interval = difference_interval(values, cluster_ids(len(values) // size, size))
    return interval.low, interval.high


def cluster_robust(values: NDArray[np.float64], size: int) -> Limits:
    """Mean plus or minus Student's t with G - 1 degrees of freedom; with equal cluster sizes CR1 and CR2 are the same."""
    means = values.reshape(-1, size).mean(axis=1)
    half = stats.t.ppf(0.975, len(means) - 1) * means.std(ddof=1) / np.sqrt(len(means))
    return means.mean() - half, means.mean() + half


@lru_cache(maxsize=1)
def resampling_weights(num_clusters: int) -> NDArray[np.float64]:
    """The share of each cluster in each resample, [NUM_RESAMPLES, num_clusters]; the same for all studies of one row."""
    even = np.full(num_clusters, 1 / num_clusters)
    return np.random.default_rng(0).multinomial(num_clusters, even, NUM_RESAMPLES) / num_clusters


def resampled_means(means: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean and its standard error in each resample of the clusters, [NUM_RESAMPLES] both."""
    weights = resampling_weights(len(means))
    centres = weights @ means
    spread = np.sqrt(np.maximum(weights @ means**2 - centres**2, 1e-12) / (len(means) - 1))
    return centres, spread


def percentile(values: NDArray[np.float64], size: int) -> Limits:
    """The plain cluster bootstrap."""
    low, high = np.quantile(resampled_means(values.reshape(-1, size).mean(axis=1))[0], [0.025, 0.975])
    return low, high


def bootstrap_t(values: NDArray[np.float64], size: int) -> Limits:
    """The studentised cluster bootstrap."""
    means = values.reshape(-1, size).mean(axis=1)
    centres, spread = resampled_means(means)
    low, high = np.quantile((centres - means.mean()) / spread, [0.025, 0.975])
    error = means.std(ddof=1) / np.sqrt(len(means))
    return means.mean() - high * error, means.mean() - low * error


def bca(values: NDArray[np.float64], size: int) -> Limits:
    """Bias-corrected and accelerated."""
    means = values.reshape(-1, size).mean(axis=1)
    centres, _ = resampled_means(means)
    deviations = means - means.mean()
    acceleration = (deviations**3).sum() / (6 * max((deviations**2).sum(), 1e-12) ** 1.5)
    below = (centres < means.mean()).mean() + 0.5 * (centres == means.mean()).mean()
    bias = stats.norm.ppf(np.clip(below, 0.001, 0.999))
    shifted = [bias + (bias + z) / (1 - acceleration * (bias + z)) for z in (-1.96, 1.96)]
    low, high = np.quantile(centres, stats.norm.cdf(shifted))
    return low, high


INTERVALS: dict[str, Callable[[NDArray[np.float64], int], Limits]] = {
    "ours": ours,
    "t, G-1": cluster_robust,
    "percentile": percentile,
    "boot-t": bootstrap_t,
    "BCa": bca,
}


def draw(kind: str, num_studies: int, *, count: int, size: int, truth: tuple[float, float]) -> Draw:
    """Simulated studies, [num_studies, count * size, 2]."""
    generator = np.random.default_rng(1)
    if kind == "binary":
        return two_binary_arms(generator, num_studies, num_clusters=count, cluster_size=size, accuracies=truth)
    return two_graded_arms(generator, num_studies, num_clusters=count, cluster_size=size, means=truth)


def print_differences(num_studies: int) -> None:
    """Coverage of the paired difference by each interval."""
    print(
        f"Paired difference, coverage in % of {num_studies} studies; last column: our limit lies above the truth (at most 2.5)"
    )
    print(
        f"{'scores':<8}{'size':>5}{'groups':>8}{'truth':>14}", *[f"{name:>11}" for name in INTERVALS], f"{'above':>8}"
    )
    for kind in ("binary", "graded"):
        for size, count in CLUSTERINGS:
            for truth in TRUTHS:
                studies = draw(kind, num_studies, count=count, size=size, truth=truth)
                differences = studies[..., 0] - studies[..., 1]
                true_difference = truth[0] - truth[1]
                shares = []
                above = 0.0
                for name, interval in INTERVALS.items():
                    limits = np.array([interval(row, size) for row in differences])
                    held = (limits[:, 0] <= true_difference + 1e-9) & (limits[:, 1] >= true_difference - 1e-9)
                    shares.append(f"{100 * held.mean():>11.1f}")
                    if name == "ours":
                        above = 100 * float((limits[:, 0] > true_difference + 1e-9).mean())
                print(f"{kind:<8}{size:>5}{count:>8}{truth!s:>14}", *shares, f"{above:>8.1f}", flush=True)


def print_means(num_studies: int) -> None:
    """Coverage of one arm's mean score by `mean_interval`."""
    print(f"\nMean score, coverage in % of {num_studies} studies")
    print(f"{'scores':<8}{'size':>5}{'groups':>8}", *[f"{mean:>8}" for mean in (0.5, 0.8, 0.9, 0.95, 0.98)])
    for kind in ("binary", "graded"):
        for size, count in CLUSTERINGS:
            shares = []
            for mean in (0.5, 0.8, 0.9, 0.95, 0.98):
                rows = draw(kind, num_studies, count=count, size=size, truth=(mean, mean))[..., 0]
                intervals = [mean_interval(row, cluster_ids(count, size)) for row in rows]
                shares.append(f"{100 * np.mean([each.low <= mean <= each.high for each in intervals]):>8.1f}")
            print(f"{kind:<8}{size:>5}{count:>8}", *shares, flush=True)


def print_unequal(num_studies: int) -> None:
    """Coverage of the mean and of the difference with clusters of unequal sizes; equal arms whose interval lies above 0."""
    means, truths = (0.5, 0.7, 0.8, 0.9, 0.95), [(0.75, 0.75), (0.8, 0.65), (0.95, 0.9)]
    print(
        f"\nUnequal clusters, coverage in % of {num_studies} studies; last column: equal arms (0.75) by the interval alone"
    )
    print(
        f"{'scores':<8}{'sizes':<26}{'copying':>8}",
        *[f"{mean:>7}" for mean in means],
        *[f"{truth!s:>14}" for truth in truths],
        f"{'above 0':>9}",
    )
    for kind in ("binary", "graded"):
        for name, sizes in (UNEQUAL_SIZES | DOMINATED_SIZES).items():
            for copying in (0.0, 0.5, 0.7, 1.0):
                ids = ids_of_sizes(sizes)
                shares = []
                for mean in means:
                    rows = draw_unequal(kind, num_studies, sizes, truth=(mean, mean), copying=copying)[..., 0]
                    intervals = [mean_interval(row, ids) for row in rows]
                    shares.append(f"{100 * np.mean([each.low <= mean <= each.high for each in intervals]):>7.1f}")
                above = 0.0
                for truth in truths:
                    studies = draw_unequal(kind, num_studies, sizes, truth=truth, copying=copying)
                    true_difference = truth[0] - truth[1]
                    intervals = [difference_interval(row[:, 0] - row[:, 1], ids) for row in studies]
                    held = [each.low - 1e-9 <= true_difference <= each.high + 1e-9 for each in intervals]
                    shares.append(f"{100 * np.mean(held):>14.1f}")
                    if truth == truths[0]:
                        above = 100 * float(np.mean([each.low > 0 for each in intervals]))
                print(f"{kind:<8}{name:<26}{copying:>8}", *shares, f"{above:>9.1f}", flush=True)


def draw_unequal(
    kind: str, num_studies: int, sizes: tuple[int, ...], *, truth: tuple[float, float], copying: float
) -> Draw:
    """Simulated studies of clusters of these sizes, [num_studies, number of examples, 2]."""
    generator = np.random.default_rng(1)
    if kind == "binary":
        return unequal_binary_arms(generator, num_studies, sizes, accuracies=truth, copying=copying)
    return unequal_graded_arms(generator, num_studies, sizes, means=truth, copying=copying)


def print_power(num_studies: int) -> None:
    """How often the smallest detectable difference is found."""
    print(
        f"\nPower at the smallest detectable difference (80 % stated), {num_studies} studies, disagreement 25 %, no clusters"
    )
    for num_examples in (50, 100, 200, 500, 1000):
        ids = list(range(num_examples))
        difference = detectable(num_examples, ids, is_binary=True).smallest_difference
        luck = np.random.default_rng(2).random((num_studies, num_examples))
        disagreeing = max(0.25, difference)
        differences = (luck < (disagreeing + difference) / 2).astype(float) - (
            luck > 1 - (disagreeing - difference) / 2
        )
        found = np.mean([difference_interval(row, ids).low > 0 for row in differences])
        print(f"{num_examples:>6} examples: {100 * difference:5.1f} points, found in {100 * found:.1f} %", flush=True)


TABLES: dict[str, Callable[[int], None]] = {
    "differences": print_differences,
    "means": print_means,
    "unequal": print_unequal,
    "power": print_power,
}


def main() -> None:
    """Print all tables, or the one asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--only", choices=list(TABLES), help="one table instead of all")
    arguments = parser.parse_args()
    for name, print_table in TABLES.items():
        if arguments.only in (None, name):
            print_table(arguments.studies)


if __name__ == "__main__":
    main()

"""Judge votes corrected by human ones: the formula against its definition, and what its interval promises, simulated.

Limits as in `test_coverage.py`: 93 to 97 % and two Monte Carlo errors, at 1,000 studies 1.6 and 1.1 points.
"""

import numpy as np
import pytest
from scipy import stats
from simulated_arms import cluster_ids, clustered, two_errors

from fettle.statistics.prediction_powered import PredictionPowered, prediction_powered_difference

NUM_STUDIES = 1000
TRUTH = 0.45 - 0.25


def votes(generator: np.random.Generator, shape: tuple[int, ...], *, agreement: float) -> np.ndarray:
    """Votes of people (45 % wins, 25 % losses) and of a judge, [..., 2]: theirs, or its own (60 % wins, 20 % losses)."""
    luck, own_luck = generator.random(shape), generator.random(shape)
    of_people = (luck < 0.45).astype(float) - (luck > 0.75)
    own = (own_luck < 0.6).astype(float) - (own_luck > 0.8)
    return np.stack([of_people, np.where(generator.random(shape) < agreement, of_people, own)], axis=-1)


def studies(
    seed: int, *, num_clusters: int, cluster_size: int, num_human: int, agreement: float
) -> list[PredictionPowered]:
    """Each with `num_human` votes of people on a random sample of the examples."""
    generator = np.random.default_rng(seed)
    own, of_cluster = (
        votes(generator, (NUM_STUDIES, num_clusters, size), agreement=agreement) for size in (cluster_size, 1)
    )
    both = clustered(own, of_cluster, correlation=0.7, generator=generator)
    ids = cluster_ids(num_clusters, cluster_size)
    results = []
    for study in both:
        asked = set(generator.permutation(len(ids))[:num_human].tolist())
        human = [float(vote) if row in asked else None for row, vote in enumerate(study[:, 0])]
        results.append(prediction_powered_difference(human, study[:, 1], ids))
    return results


def share_corrected_covers(results: list[PredictionPowered]) -> float:
    return float(np.mean([result.corrected.low <= TRUTH <= result.corrected.high for result in results]))


def share_human_covers(results: list[PredictionPowered]) -> float:
    return float(np.mean([result.human_only.low <= TRUTH <= result.human_only.high for result in results]))


def mean_ratio_of_widths(results: list[PredictionPowered]) -> float:
    corrected = np.mean([result.corrected.high - result.corrected.low for result in results])
    return float(corrected / np.mean([result.human_only.high - result.human_only.low for result in results]))


LAYOUTS = [(400, 1, 40), (400, 1, 100), (200, 5, 100), (100, 20, 200)]
"""Clusters, their size, human votes."""


@pytest.mark.parametrize(("num_clusters", "cluster_size", "num_human"), LAYOUTS)
def test_a_fair_judge_shortens_the_interval_at_equal_coverage(
    num_clusters: int, cluster_size: int, num_human: int
) -> None:
    """It agrees with people in 70 % of pairs and likes wins in the others: alone it is 0.3 x (0.4 - 0.2) = 6 points off."""
    results = studies(1, num_clusters=num_clusters, cluster_size=cluster_size, num_human=num_human, agreement=0.7)
    margin = two_errors(0.95, NUM_STUDIES)
    for share in (share_corrected_covers(results), share_human_covers(results)):
        assert 0.93 - margin <= share <= 0.97 + margin, share
    assert mean_ratio_of_widths(results) < (0.9 if cluster_size == 1 else 1.0)
    assert np.mean([result.judge_mean for result in results]) - TRUTH == pytest.approx(0.06, abs=0.01)
    assert np.mean([result.corrected.estimate for result in results]) - TRUTH == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize(("num_clusters", "cluster_size", "num_human"), [(400, 1, 20), *LAYOUTS])
def test_a_useless_judge_costs_next_to_nothing(num_clusters: int, cluster_size: int, num_human: int) -> None:
    """Its trust is what chance correlation of n votes brings, about 1 / sqrt(n) where it is above 0; the interval 5 % longer."""
    results = studies(2, num_clusters=num_clusters, cluster_size=cluster_size, num_human=num_human, agreement=0.0)
    assert share_corrected_covers(results) >= 0.93 - two_errors(0.93, NUM_STUDIES)
    assert mean_ratio_of_widths(results) < (1.03 if num_human > 20 else 1.06)
    assert np.mean([result.trust for result in results]) < 0.12


@pytest.mark.parametrize(("num_human", "agreement"), [(20, 0.7), (20, 0.95), (40, 0.9), (100, 0.95), (40, 1.0)])
def test_a_judge_that_was_never_seen_to_err_is_not_taken_for_perfect(num_human: int, agreement: float) -> None:
    """With 20 votes and 95 % agreement nothing was seen to differ in more than half of the studies."""
    results = studies(3, num_clusters=400, cluster_size=1, num_human=num_human, agreement=agreement)
    assert share_corrected_covers(results) >= 0.93 - two_errors(0.93, NUM_STUDIES)
    assert mean_ratio_of_widths(results) < 0.9


def test_trust_and_estimate_are_those_of_the_paper_without_clusters() -> None:
    """lambda = cov(Y, f) / n / (var(f, voted) / n + var(f, alone) / N): the paper's with each sample's own variance of f."""
    generator = np.random.default_rng(4)
    both = votes(generator, (300,), agreement=0.6)
    human = [float(vote) if row < 80 else None for row, vote in enumerate(both[:, 0])]
    of_people, there, alone = both[:80, 0], both[:80, 1], both[80:, 1]
    covariance = ((of_people - of_people.mean()) * (there - there.mean())).mean()
    trust = covariance / 80 / (there.var() / 80 + alone.var() / 220)
    result = prediction_powered_difference(human, both[:, 1], range(300))
    assert result.trust == pytest.approx(trust)
    assert result.corrected.estimate == pytest.approx(of_people.mean() + trust * (alone.mean() - there.mean()))
    assert result.judge_excess == pytest.approx((there - of_people).mean())
    rest = (of_people - trust * there).var() / 80 + trust**2 * alone.var() / 220
    half_width = (result.corrected.high - result.corrected.low) / 2
    assert half_width == pytest.approx(
        1.96 * np.sqrt(rest), rel=0.06
    )  # ours allows for tuning and for what was not seen


def test_the_variance_is_a_jackknife_that_tunes_anew_without_each_cluster() -> None:
    generator = np.random.default_rng(5)
    ids = np.repeat(np.arange(40), generator.integers(1, 6, 40))
    both = votes(generator, (len(ids),), agreement=0.6)
    human = [float(vote) if generator.random() < 0.5 else None for vote in both[:, 0]]

    def without(cluster: int) -> float:
        kept = np.flatnonzero(ids != cluster)
        result = prediction_powered_difference([human[row] for row in kept], both[kept, 1], ids[kept].tolist())
        return result.corrected.estimate

    result = prediction_powered_difference(human, both[:, 1], ids.tolist())
    squares = sum((without(cluster) - result.corrected.estimate) ** 2 for cluster in range(40)) * 39 / 40
    voted = np.array([vote is not None for vote in human])
    sizes = np.bincount(ids[voted], minlength=40).astype(float)
    sizes = sizes[sizes > 0]
    apart = (both[:, 0] - both[:, 1])[voted]
    squared_disagreement = ((apart**2).sum() + 1) / ((apart != 0).sum() + 1)
    imaginary = 2 * squared_disagreement * (result.trust * sizes.mean() / sizes.sum()) ** 2
    quantile = stats.t.ppf(0.975, 2 * sizes.sum() / ((sizes**2).sum() / sizes.sum()))
    half_width = (result.corrected.high - result.corrected.low) / 2
    assert half_width == pytest.approx(quantile * np.sqrt(squares + imaginary))

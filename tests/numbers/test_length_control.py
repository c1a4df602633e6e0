"""The length-controlled win rate against statsmodels, on planted verbosity, and what its interval promises, simulated."""

import math

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.special import expit
from simulated_arms import two_errors

from fettle.statistics.length_control import LengthControlled, length_controlled_win_rate


def votes_of_both_orders(generator: np.random.Generator, probabilities: np.ndarray) -> np.ndarray:
    """The mean of two verdicts on each pair, one for each order: 0, 0.5 or 1."""
    return (generator.random((*probabilities.shape, 2)) < probabilities[..., None]).mean(axis=-1)


def measured(votes: np.ndarray, apart: np.ndarray, ids: np.ndarray | None = None) -> LengthControlled:
    clusters = range(len(votes)) if ids is None else ids.tolist()
    return length_controlled_win_rate(votes.tolist(), [(200 + each, 200.0) for each in apart], clusters)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("quality", "verbosity", "longer_by"), [(0.0, 1.0, 1.0), (0.8, 0.5, 0.3), (-1.5, 2.0, -0.8)])
def test_it_is_the_fit_of_statsmodels(seed: int, quality: float, verbosity: float, longer_by: float) -> None:
    """Within 0.5 points: expit of the intercept of a binomial GLM on tanh(difference / its standard deviation)."""
    generator = np.random.default_rng(seed)
    apart = generator.normal(60 * longer_by, 60, 300)
    votes = votes_of_both_orders(generator, expit(quality + verbosity * np.tanh(apart / 60)))
    result = measured(votes, apart)
    term = np.tanh(apart / apart.std())
    reference = sm.GLM(votes, sm.add_constant(term), family=sm.families.Binomial()).fit()
    assert result.controlled is not None
    assert result.longer_wins is not None
    assert result.controlled.estimate == pytest.approx(expit(reference.params[0]), abs=0.005)
    assert result.longer_wins.estimate == pytest.approx(expit(reference.params[1] * math.tanh(1)), abs=0.005)
    assert result.raw.estimate == pytest.approx(votes.mean())


def test_the_interval_is_nearly_the_robust_one_of_statsmodels_when_there_are_many_clusters() -> None:
    generator = np.random.default_rng(4)
    ids = np.repeat(np.arange(400), 3)
    apart = generator.normal(30, 60, 400)[ids] + generator.normal(0, 20, 1200)
    luck_of_cluster = generator.normal(0, 1, 400)[ids]
    votes = votes_of_both_orders(generator, expit(0.5 + np.tanh(apart / 60) + luck_of_cluster))
    result = measured(votes, apart, ids)
    model = sm.GLM(votes, sm.add_constant(np.tanh(apart / apart.std())), family=sm.families.Binomial())
    low, high = expit(model.fit(cov_type="cluster", cov_kwds={"groups": ids}).conf_int()[0])
    assert result.controlled is not None
    assert (result.controlled.low, result.controlled.high) == pytest.approx((low, high), abs=0.03 * (high - low))


JUDGES = {
    "as the model has it": lambda apart: expit(1.2 * np.tanh(apart)),
    "linear in length": lambda apart: expit(0.8 * apart),
    "takes the longer in a third of pairs": lambda apart: 2 / 3 * 0.5 + 1 / 3 * (apart > 0),
    "heeds only great differences": lambda apart: 0.5 + 0.25 * np.sign(apart) * (np.abs(apart) > 1),
}


@pytest.mark.parametrize("judge", JUDGES.values(), ids=JUDGES)
@pytest.mark.parametrize("longer_by", [0.5, 1.0])
def test_a_planted_verbosity_gain_is_removed(judge, longer_by: float) -> None:
    """Two contenders of equal quality, one of them longer by half or one standard deviation; at least 80 % of the gain goes."""
    generator = np.random.default_rng(5)
    apart = generator.normal(longer_by, 1, 40_000)
    votes = votes_of_both_orders(generator, judge(apart))
    result = measured(votes, 50 * apart)
    gain = result.raw.estimate - 0.5
    assert gain > 0.05
    assert result.controlled is not None
    assert abs(result.controlled.estimate - 0.5) <= 0.2 * gain
    assert result.longer_wins is not None
    assert result.longer_wins.low > 0.5


def test_made_longer_a_better_contender_gains_nothing_either() -> None:
    """It wins 69 % at equal length (log odds 0.8); padded by one standard deviation it wins 80 % raw."""
    generator = np.random.default_rng(6)
    apart = generator.normal(0, 1, 40_000)
    plain = measured(votes_of_both_orders(generator, expit(0.8 + 1.2 * np.tanh(apart))), apart)
    padded = measured(votes_of_both_orders(generator, expit(0.8 + 1.2 * np.tanh(apart + 1))), apart + 1)
    assert plain.controlled is not None
    assert padded.controlled is not None
    planted = padded.raw.estimate - plain.raw.estimate
    assert planted > 0.08
    assert abs(padded.controlled.estimate - plain.controlled.estimate) <= 0.2 * planted


def test_a_judge_blind_to_length_changes_nothing() -> None:
    generator = np.random.default_rng(7)
    apart = generator.normal(1, 1, 5_000)
    result = measured(votes_of_both_orders(generator, np.full(5_000, 0.6)), apart)
    assert result.controlled is not None
    assert result.longer_wins is not None
    assert result.controlled.estimate == pytest.approx(result.raw.estimate, abs=0.02)
    assert result.longer_wins.low < 0.5 < result.longer_wins.high


@pytest.mark.parametrize(
    ("num_clusters", "cluster_size", "num_studies"), [(30, 1, 400), (100, 1, 200), (40, 5, 200), (25, 20, 200)]
)
@pytest.mark.parametrize(("quality", "longer_by"), [(0.0, 0.7), (1.5, 0.5), (3.0, 0.0)])
def test_the_win_rate_at_equal_length_is_covered(
    num_clusters: int, cluster_size: int, num_studies: int, quality: float, longer_by: float
) -> None:
    """A vote takes its cluster's luck with probability sqrt(0.7); win rates of 50, 82 and 95 %."""
    generator = np.random.default_rng(8)
    ids = np.repeat(np.arange(num_clusters), cluster_size)
    covered = covered_longer = 0
    for _ in range(num_studies):
        of_cluster = generator.normal(0, math.sqrt(0.7), num_clusters)[ids]
        apart = longer_by + of_cluster + generator.normal(0, math.sqrt(0.3), len(ids))
        copies = (generator.random(len(ids)) < math.sqrt(0.7)) & (cluster_size > 1)
        luck = np.where(copies[:, None], generator.random((num_clusters, 2))[ids], generator.random((len(ids), 2)))
        result = measured((luck < expit(quality + np.tanh(apart))[:, None]).mean(axis=1), apart, ids)
        if result.controlled is None or result.longer_wins is None:
            num_studies -= 1
            continue
        covered += result.controlled.low <= expit(quality) <= result.controlled.high
        covered_longer += result.longer_wins.low <= expit(math.tanh(1)) <= result.longer_wins.high
    for share in (covered / num_studies, covered_longer / num_studies):
        assert 0.93 - two_errors(0.93, num_studies) <= share, share
        assert share <= 0.97 + two_errors(0.97, num_studies) + 0.005, share

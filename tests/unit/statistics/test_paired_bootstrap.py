import numpy as np
import pytest

from fettle.statistics.compare import ScoredArm, compare
from fettle.statistics.paired_bootstrap import bootstrap_difference

pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.parametrize(
    ("differences", "clusters"),
    [
        ([1.0], [0]),
        ([1.0, 0.0, -1.0], [4, 4, 4]),
        ([0.0] * 30, range(30)),
        ([1.0] * 30, range(30)),
        ([0.1 + 0.2 - 0.3, 0.0] * 5, range(10)),
        ([0.5, 0.5, 1.0, 0.0], [0, 0, 1, 1]),
    ],
    ids=["one example", "one cluster", "ties", "all alike", "rounding noise", "clusters of equal means"],
)
def test_without_spread_between_clusters_it_claims_nothing(differences: list[float], clusters: list[int]) -> None:
    assert bootstrap_difference(differences, clusters, seed=1) is None


def test_two_clusters_give_the_range_between_them() -> None:
    """Both means are drawn alone with probability 1/4 each, which is beyond the outer 2.5 %."""
    interval = bootstrap_difference([1.0, 1.0, -1.0], [0, 0, 1], seed=1)
    assert interval is not None
    assert (interval.estimate, interval.low, interval.high) == (pytest.approx(1 / 3), -1.0, 1.0)


def test_one_disagreement_in_many_examples() -> None:
    """Its number of copies in a resample is nearly Poisson(1): the 97.5th percentile is 3, the 2.5th is 0."""
    interval = bootstrap_difference([1.0] + [0.0] * 199, range(200), seed=1)
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((0.0, 3 / 200))


def test_whole_clusters_are_drawn() -> None:
    """Examples in clusters of four are worth a quarter: the interval is twice as wide as over single examples."""
    differences = np.repeat(np.random.default_rng(1).choice([-1.0, 0.0, 1.0], 100), 4)
    alone = bootstrap_difference(differences, range(400), seed=1)
    together = bootstrap_difference(differences, (np.arange(400) // 4).tolist(), seed=1)
    assert alone is not None
    assert together is not None
    assert (together.high - together.low) / (alone.high - alone.low) == pytest.approx(2, rel=0.1)


def test_it_is_seeded_and_higher_levels_are_wider() -> None:
    differences = np.random.default_rng(2).uniform(-1, 1, 50)
    first, second = (bootstrap_difference(differences, range(50), seed=3) for _ in range(2))
    wide = bootstrap_difference(differences, range(50), seed=3, level=0.99)
    assert first is not None
    assert wide is not None
    assert first == second
    assert wide.low < first.low < first.high < wide.high
    assert wide.level == 0.99
    with pytest.raises(ValueError, match="level"):
        bootstrap_difference(differences, range(50), seed=3, level=95)


def test_swapping_the_arms_mirrors_it() -> None:
    differences = np.random.default_rng(3).choice([-0.5, 0.0, 0.5, 1.0], 60)
    one, other = (bootstrap_difference(sign * differences, range(60), seed=1) for sign in (1, -1))
    assert one is not None
    assert other is not None
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))


def test_a_comparison_carries_it_over_the_scored_pairs_only() -> None:
    tuned = ScoredArm(name="tuned", scores=(1.0, 1.0, 0.0, 1.0, None), is_binary=True)
    prompt = ScoredArm(name="prompt", scores=(0.0, 1.0, 1.0, 0.0, 1.0), is_binary=True)
    comparison = compare(tuned, prompt, range(5), is_primary=True, seed=4)
    assert comparison.bootstrap == bootstrap_difference([1.0, 0.0, -1.0, 1.0], range(4), seed=4)
    assert comparison.bootstrap is not None
    assert comparison.bootstrap.estimate == comparison.difference.estimate == 0.25
